"""The eager runner: what a pass is told of its rows."""

from __future__ import annotations

import random
from types import SimpleNamespace

import pytest
import torch

from quantchat.engine.runner import EagerRunner

PAGE = 16


def runner() -> EagerRunner:
    decoder = SimpleNamespace(ops=SimpleNamespace(device=torch.device("cpu")))
    return EagerRunner(decoder, SimpleNamespace(pages=900, page_tokens=PAGE))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "parts",
    [[(0, 2048)], [(1000, 1)], [(5, 30)], [(15, 2)], [(31, 1), (16, 1), (0, 1)], [(3, 20), (0, 7)]],
    ids=str,
)
@pytest.mark.parametrize("scattered", [False, True])
def test_rows_of_a_pass(parts: list[tuple[int, int]], scattered: bool) -> None:
    draw = random.Random(7)
    given = []
    for start, count in parts:
        pages = draw.sample(range(900), 130) if scattered else list(range(7, 140))
        tokens = [draw.randrange(50_000) for _ in range(start + count)]
        given.append((SimpleNamespace(tokens=tokens, pages=pages), start, count))
    batch = runner()._batch(given)  # type: ignore[arg-type]
    ids, positions, slots = [], [], []
    for sequence, start, count in given:
        for p in range(start, start + count):
            ids.append(sequence.tokens[p])
            positions.append(p)
            slots.append(sequence.pages[p // PAGE] * PAGE + p % PAGE)
    assert batch.ids.tolist() == ids and batch.ids.dtype == torch.int64
    assert batch.positions.tolist() == positions and batch.positions.dtype == torch.int32
    assert batch.slots.tolist() == slots and batch.slots.is_contiguous()
    assert batch.slots.data_ptr() % 16 == batch.ids.data_ptr() % 16
    assert batch.decode == all(count == 1 for _, count in parts)
    at = 0
    for span, (sequence, start, count) in zip(batch.spans, given, strict=True):
        assert (span.start, span.count, span.length) == (at, count, start + count)
        assert span.pages == tuple(sequence.pages[: -(-span.length // PAGE)])
        at += count
