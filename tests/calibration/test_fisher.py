"""Sensitivities are autograd's, layer by layer, whatever a family's layers have in them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from memory_models import FAMILIES, layers_of, logits_of, memory_source, walk_of

from quantchat.calibration.fisher import sensitivities
from quantchat.calibration.layer import LINEARS
from quantchat.errors import Cancelled
from quantchat.model.families import ModelSource

PARTS = [part for parts in LINEARS.values() for part in parts]


def by_autograd(source: ModelSource, ids: torch.Tensor) -> dict[tuple[int, str], torch.Tensor]:
    """Mean over sequences of squared gradients, through the whole model at once."""
    walk = walk_of(source, ids)
    table, norm = walk.reader.vector("embed"), walk.reader.vector("final_norm")
    head = table if source.spec.tied_head else walk.reader.vector("head")
    squares: dict[tuple[int, str], torch.Tensor] = {}
    for row in ids:
        layers = [
            replace(layer, **{part: layer.weight(part).requires_grad_() for part in PARTS})
            for layer in layers_of(source)
        ]
        walk.ids = row[None]
        logits = logits_of(walk, layers, table, norm, head)[0]
        F.cross_entropy(logits[:-1], row[1:]).backward()
        for index, layer in enumerate(layers):
            for part in PARTS:
                gradient = layer.weight(part).grad
                assert gradient is not None
                share = gradient.square() / len(ids)
                squares[index, part] = squares.get((index, part), torch.zeros(())) + share
    return squares


@pytest.mark.parametrize("family", FAMILIES)
def test_same_as_autograd(family: str) -> None:
    source = memory_source(FAMILIES[family], seed=4)
    ids = torch.randint(source.spec.vocab, (3, 13))
    wanted = by_autograd(source, ids)
    found = list(sensitivities(walk_of(source, ids)))
    assert [each.index for each in found] == [1, 0]
    for each in found:
        assert set(each.squares) == set(PARTS)
        for part, square in each.squares.items():
            torch.testing.assert_close(
                square, wanted[each.index, part], rtol=1e-3, atol=1e-6 * float(square.max())
            )


def test_as_many_sequences_as_the_budget_holds() -> None:
    source = memory_source(FAMILIES["llama"], seed=4)
    ids = torch.randint(source.spec.vocab, (3, 13))
    one = source.spec.layers * 13 * source.spec.hidden * 4
    first = next(sensitivities(walk_of(source, ids, memory_bytes=2 * one + 5)))
    wanted = next(sensitivities(walk_of(source, ids[:2])))
    torch.testing.assert_close(first.squares["down"], wanted.squares["down"])


def test_cancelling_ends_it() -> None:
    source = memory_source(FAMILIES["llama"])
    walk = walk_of(source, torch.randint(source.spec.vocab, (1, 8)))
    passes = sensitivities(walk)
    next(passes)
    walk._cancelled = lambda: True
    with pytest.raises(Cancelled):
        next(passes)
