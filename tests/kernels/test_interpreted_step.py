"""A decode step's buffers, interpreted: rows move on by themselves as the eager runner moves them."""

from __future__ import annotations

from dataclasses import dataclass, field
from types import SimpleNamespace

import pytest
import torch

from quantchat.engine.decode_rows import DecodeRows, Variant
from quantchat.engine.sampler import penalize, pick, uniform
from quantchat.ops.batch import Batch
from quantchat.ops.embedding import Embedding
from quantchat.ops.embedding_cuda import embed_batch
from quantchat.quant.tensor import DenseWeight
from quantchat.requests import Sampling

VOCAB, PAGE_TOKENS = 300, 4
STEPS = 9


class TableDecoder:
    """The next logits are a row of a table by the newest token; keeps what it was given."""

    def __init__(self) -> None:
        self.ops = SimpleNamespace(device=torch.device("cpu"))
        self.spec = SimpleNamespace(vocab=VOCAB)
        self.table = (torch.randn(VOCAB, VOCAB) * 2).half()
        self.slots: list[list[int]] = []
        self.lengths: list[list[int]] = []

    def step_logits(self, batch: Batch, pool: object) -> torch.Tensor:
        rows = embed_batch(Embedding(DenseWeight(self.table)), batch, torch.float16).rows
        assert batch.seq_lens is not None
        assert (batch.seq_lens == batch.positions + 1).all()
        self.slots.append(batch.slots.tolist())
        self.lengths.append(batch.seq_lens.tolist())
        return rows


@dataclass
class FakeSequence:
    """What the buffers ask of a sequence."""

    sampling: Sampling
    seed: int
    prompt: list[int]
    pages: list[int]
    answer: list[int] = field(default_factory=list)

    @property
    def prompt_tokens(self) -> int:
        return len(self.prompt)

    def draws_of(self, tokens: int) -> int:
        return tokens - len(self.prompt)


def truth(table: torch.Tensor, sequence: FakeSequence) -> list[int]:
    """The answer's next tokens by the eager runner's path."""
    tokens = [*sequence.prompt, *sequence.answer]
    for _ in range(STEPS):
        logits = table[tokens[-1]].float()
        penalty = sequence.sampling.repetition_penalty
        if penalty != 1:
            seen = torch.zeros(VOCAB, dtype=torch.bool)
            seen[torch.tensor(tokens)] = True
            logits = penalize(logits, seen, torch.tensor([penalty]))
        index = len(tokens) - sequence.prompt_tokens
        tokens.append(pick(logits, sequence.sampling, uniform(sequence.seed, index)))
    return tokens[len(sequence.prompt) + len(sequence.answer) :]


@pytest.mark.parametrize(
    ("variant", "samplings"),
    [
        (Variant(1, greedy=True, penalty=False), [Sampling(temperature=0)]),
        (Variant(2, greedy=False, penalty=False), [Sampling(), Sampling(temperature=0)]),
        (
            Variant(4, greedy=False, penalty=True),
            [
                Sampling(repetition_penalty=1.4, top_k=5),
                Sampling(temperature=0, repetition_penalty=1.2),
                Sampling(temperature=1.5),
            ],
        ),
        (Variant(1, greedy=True, penalty=True), [Sampling(temperature=0, repetition_penalty=1.5)]),
    ],
    ids=["greedy", "drawn", "penalty", "greedy-penalty"],
)
def test_steps_follow_the_eager_path(variant: Variant, samplings: list[Sampling]) -> None:
    torch.manual_seed(4)
    decoder = TableDecoder()
    rows = DecodeRows(
        decoder,  # type: ignore[arg-type]
        SimpleNamespace(page_tokens=PAGE_TOKENS),  # type: ignore[arg-type]
        rows=5,
        context_tokens=20,
        dependent=False,
    )
    sequences = [
        FakeSequence(sampling, 40 + i, [7 + i, 8, 9 + i][: i + 1], [3 * i + 1, 3 * i + 9, 2, 5 + i])
        for i, sampling in enumerate(samplings)
    ]
    sequences[0].answer = [11, 12]
    rows.clear()
    for row, sequence in enumerate(sequences):
        rows.seat(row, sequence, [*sequence.prompt, *sequence.answer])  # type: ignore[arg-type]
        rows.put_pages(row, 0, sequence.pages[:2])
        rows.put_pages(row, 2, sequence.pages[2:])
    drawn: list[list[int]] = [[] for _ in sequences]
    for step in range(STEPS):
        rows.step(variant)
        for row, sequence in enumerate(sequences):
            # One step late, as the graph runner reads.
            if step:
                drawn[row].append(rows.token(row, len(sequence.answer) + step - 1))
            position = len(sequence.prompt) + len(sequence.answer) - 1 + step
            page = sequence.pages[position // PAGE_TOKENS]
            assert decoder.slots[-1][row] == page * PAGE_TOKENS + position % PAGE_TOKENS
        for row in range(len(sequences), variant.rows):
            assert decoder.slots[-1][row] == 0 and decoder.lengths[-1][row] == 1
    for row, sequence in enumerate(sequences):
        drawn[row].append(rows.token(row, len(sequence.answer) + STEPS - 1))
        assert drawn[row] == truth(decoder.table, sequence), sequence.sampling


def test_a_row_that_left_is_padding() -> None:
    decoder = TableDecoder()
    rows = DecodeRows(
        decoder,  # type: ignore[arg-type]
        SimpleNamespace(page_tokens=PAGE_TOKENS),  # type: ignore[arg-type]
        rows=2,
        context_tokens=20,
        dependent=False,
    )
    rows.clear()
    rows.seat(0, FakeSequence(Sampling(temperature=0), 1, [5, 6], []), [5, 6])  # type: ignore[arg-type]
    rows.put_pages(0, 0, [7])
    variant = Variant(1, greedy=True, penalty=False)
    rows.step(variant)
    assert decoder.slots == [[7 * PAGE_TOKENS + 1]]
    rows.unseat(0)
    rows.step(variant)
    rows.step(variant)
    assert decoder.slots[1:] == [[0], [0]] and decoder.lengths[1:] == [[1], [1]]


def test_trials_of_rows_at_the_end_of_the_context_stay_within_it() -> None:
    decoder = TableDecoder()
    rows = DecodeRows(
        decoder,  # type: ignore[arg-type]
        SimpleNamespace(page_tokens=PAGE_TOKENS),  # type: ignore[arg-type]
        rows=1,
        context_tokens=20,
        dependent=False,
    )
    sequence, tokens = FakeSequence(Sampling(temperature=0), 1, [5], []), [5] * 20
    rows.seat(0, sequence, tokens)  # type: ignore[arg-type]
    rows.put_pages(0, 0, [7, 8, 9, 10, 11])
    variant = Variant(1, greedy=True, penalty=False)
    saved = [tensor.clone() for tensor in rows.state]
    rows.stay()
    for _ in range(3):
        rows.step(variant)
    assert decoder.lengths == [[20]] * 3 and decoder.slots == [[11 * PAGE_TOKENS + 3]] * 3
    for tensor, value in zip(rows.state, saved, strict=True):
        tensor.copy_(value)
    rows.step(variant)
    rows.step(variant)
    assert decoder.lengths[3:] == [[20], [21]]


def test_state_put_back_gives_the_same_steps() -> None:
    decoder = TableDecoder()
    rows = DecodeRows(
        decoder,  # type: ignore[arg-type]
        SimpleNamespace(page_tokens=PAGE_TOKENS),  # type: ignore[arg-type]
        rows=1,
        context_tokens=20,
        dependent=False,
    )
    sampling = Sampling(repetition_penalty=1.3)
    rows.seat(0, FakeSequence(sampling, 1, [5], []), [5])  # type: ignore[arg-type]
    variant = Variant(1, greedy=False, penalty=True)

    def three() -> list[int]:
        found = []
        for index in range(3):
            rows.step(variant)
            found.append(rows.token(0, index))
        return found

    saved = [tensor.clone() for tensor in rows.state]
    first = three()
    assert not all(torch.equal(a, b) for a, b in zip(saved, rows.state, strict=True))
    for tensor, value in zip(rows.state, saved, strict=True):
        tensor.copy_(value)
    assert three() == first
