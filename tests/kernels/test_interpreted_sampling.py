"""Sampling kernels, interpreted: the same token as plain torch, and the state of the next step."""

from __future__ import annotations

import pytest
import torch
from quantchat.kernels.sample.greedy import pick_best
from quantchat.kernels.sample.reference import weights
from quantchat.kernels.sample.stochastic import pick_drawn
from quantchat.kernels.sample.workspace import Feedback, Workspace

from quantchat.engine.sampler import SamplingRows, penalize, pick_rows, uniform
from quantchat.requests import Sampling

CPU = torch.device("cpu")
DTYPES = (torch.float16, torch.bfloat16, torch.float32)
SETTINGS = (
    Sampling(temperature=0.8, top_p=0.9),
    Sampling(temperature=1.3, top_p=1.0, top_k=7, repetition_penalty=1.3),
    Sampling(temperature=0),
    Sampling(temperature=1.0, top_p=0.999, min_p=0.05, repetition_penalty=0.8),
    Sampling(temperature=1.0, top_p=1.0),
    Sampling(temperature=1e-30, top_p=0.9),
    Sampling(temperature=1e30, top_p=0.4, top_k=100000),
    Sampling(temperature=0.7, top_p=0.0, top_k=1),
)
ROWS = len(SETTINGS)


def feedback_for(vocab: int, ring_rows: int = ROWS + 1) -> Feedback:
    """State that differs from row to row; row 2 is padding, one row more than runs."""
    count = torch.arange(ROWS + 1)
    active = torch.ones(ROWS + 1, dtype=torch.int32)
    active[2] = 0
    return Feedback(
        ids=torch.full((ROWS + 1,), -7),
        positions=count.int() * 3,
        seq_lens=count.int() * 3 + 1,
        indices=count + 10,
        active=active,
        ring=torch.full((2, ring_rows), -9),
        seen=torch.rand(ROWS + 1, vocab) < 0.3,
    )


def sampling_rows(vocab: int) -> SamplingRows:
    made = SamplingRows.empty(ROWS, vocab, CPU)
    for row, sampling in enumerate(SETTINGS):
        made.set_row(row, sampling, row * 7919 + (1 << 33), vocab)
    return made


def run(
    logits: torch.Tensor,
    feedback: Feedback,
    rows: SamplingRows,
    workspace: Workspace,
    *,
    greedy: bool,
    penalty: bool,
) -> None:
    if greedy:
        pick_best(logits, feedback, workspace, penalty=rows.penalty if penalty else None)
        return
    pick_drawn(
        logits,
        feedback,
        workspace,
        temperature=rows.temperature,
        top_k=rows.top_k,
        top_p=rows.top_p,
        min_p=rows.min_p,
        seeds=rows.seeds,
        penalty=rows.penalty if penalty else None,
    )


def expected(
    logits: torch.Tensor, feedback: Feedback, rows: SamplingRows, *, greedy: bool, penalty: bool
) -> torch.Tensor:
    wide = logits.float()
    assert feedback.seen is not None
    if penalty:
        wide = penalize(wide, feedback.seen[:ROWS], rows.penalty[:, None])
    return pick_rows(wide, rows, feedback.indices[:ROWS], greedy=greedy)


@pytest.mark.parametrize("greedy", [True, False], ids=["greedy", "drawn"])
@pytest.mark.parametrize("penalty", [False, True], ids=["plain", "penalty"])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("vocab", [37, 1025])
def test_tokens_and_feedback(vocab: int, dtype: torch.dtype, penalty: bool, greedy: bool) -> None:
    torch.manual_seed(vocab)
    rows, workspace = sampling_rows(vocab), Workspace.create(ROWS, vocab, CPU)
    for tied in (False, True):
        logits = torch.randn(ROWS, vocab) * 4
        logits = (logits.round() if tied else logits).to(dtype)
        feedback = feedback_for(vocab)
        was = feedback_for(vocab)
        truth = expected(logits, feedback, rows, greedy=greedy, penalty=penalty)
        run(logits, feedback, rows, workspace, greedy=greedy, penalty=penalty)
        assert feedback.ids[:ROWS].tolist() == truth.tolist()
        assert feedback.ids[ROWS] == -7
        for name in ("positions", "seq_lens", "indices"):
            moved = getattr(feedback, name) - getattr(was, name)
            assert moved.tolist() == [*was.active[:ROWS].tolist(), 0], name
        for row, index in enumerate(was.indices[:ROWS].tolist()):
            assert feedback.ring[index % 2, row] == truth[row]
            assert feedback.ring[1 - index % 2, row] == -9
        assert feedback.seen is not None
        if penalty:
            assert feedback.seen[torch.arange(ROWS), truth].all()
        assert not workspace.arrivals.any()


def test_equal_logits_go_to_the_lowest_id_across_blocks() -> None:
    vocab = 3000
    logits = torch.zeros(ROWS, vocab, dtype=torch.float16)
    logits[:, 1999] = logits[:, 1030] = logits[:, 2999] = 5
    logits[:, 7] = -0.0
    feedback = feedback_for(vocab)
    workspace = Workspace.create(ROWS, vocab, CPU)
    pick_best(logits, feedback, workspace)
    assert feedback.ids[:ROWS].tolist() == [1030] * ROWS
    logits[0] = -float("inf")
    pick_best(logits, feedback, workspace)
    assert feedback.ids[0] == 0


def test_flat_logits_fill_one_bin() -> None:
    vocab = 5000
    rows, workspace = sampling_rows(vocab), Workspace.create(ROWS, vocab, CPU)
    for logits in (
        torch.zeros(ROWS, vocab, dtype=torch.float16),
        torch.full((ROWS, vocab), -3.0, dtype=torch.bfloat16),
        torch.where(torch.rand(ROWS, vocab) < 0.5, 0.0, -0.0),
        torch.where(torch.rand(ROWS, vocab) < 0.5, 0.0, -0.0).half(),
        torch.where(torch.rand(ROWS, vocab) < 0.9, -float("inf"), 1.0).half(),
    ):
        feedback = feedback_for(vocab)
        truth = expected(logits, feedback, rows, greedy=False, penalty=False)
        run(logits, feedback, rows, workspace, greedy=False, penalty=False)
        assert feedback.ids[:ROWS].tolist() == truth.tolist()


def drawn_tokens(logits: torch.Tensor, sampling: Sampling, seeds: list[int]) -> list[int]:
    """One row's tokens at index 10 under many seeds."""
    vocab = logits.shape[0]
    rows = SamplingRows.empty(len(seeds), vocab, CPU)
    for row, seed in enumerate(seeds):
        rows.set_row(row, sampling, seed, vocab)
    workspace = Workspace.create(len(seeds), vocab, CPU)
    count = torch.zeros(len(seeds), dtype=torch.int32)
    feedback = Feedback(
        ids=count.long(),
        positions=count.clone(),
        seq_lens=count.clone(),
        indices=count.long() + 10,
        active=count.clone(),
        ring=torch.zeros(2, len(seeds), dtype=torch.int64),
        seen=None,
    )
    many = logits.expand(len(seeds), -1).contiguous()
    run(many, feedback, rows, workspace, greedy=False, penalty=False)
    truth = pick_rows(many.float(), rows, count.long() + 10, greedy=False)
    assert feedback.ids.tolist() == truth.tolist()
    return feedback.ids.tolist()


def test_of_tied_logits_the_first_are_kept_and_what_follows_them() -> None:
    logits = torch.full((1300,), -9.0).half()
    logits[[5, 6, 700, 1250]] = 1.0
    logits[[9, 1290]] = 2.0
    top_3 = Sampling(temperature=1, top_p=1, top_k=3)
    assert set(drawn_tokens(logits, top_3, list(range(14)))) == {5, 9, 1290}
    top_5 = Sampling(temperature=2, top_p=1, top_k=5)
    assert set(drawn_tokens(logits, top_5, list(range(32)))) == {5, 6, 9, 700, 1290}


def test_top_p_stops_where_it_is_met_exactly() -> None:
    half = -0.6931472
    logits = torch.tensor([half, 0.0, half])
    w = weights(logits, torch.tensor(0.0), torch.tensor(1.0))
    assert w.tolist() == [1 << 33, 1 << 34, 1 << 33]
    seeds = list(range(12))
    assert set(drawn_tokens(logits, Sampling(temperature=1, top_p=0.5), seeds)) == {1}
    assert set(drawn_tokens(logits, Sampling(temperature=1, top_p=0.75), seeds)) == {0, 1}


def test_a_draw_on_the_edge_of_blocks_goes_to_the_later_one() -> None:
    seed = 0x3465F8B440AF0033
    assert uniform(seed, 10) == 0.5
    logits = torch.full((2048,), -float("inf")).half()
    logits[[1000, 1500]] = 3.0
    assert drawn_tokens(logits, Sampling(temperature=1, top_p=1), [seed]) == [1500]


@pytest.mark.parametrize("greedy", [True, False])
def test_no_number_breaks_the_bounds(greedy: bool) -> None:
    vocab = 1500
    rows, workspace = sampling_rows(vocab), Workspace.create(ROWS, vocab, CPU)
    for poison in (float("nan"), float("inf"), -float("inf")):
        feedback = feedback_for(vocab)
        logits = torch.full((ROWS, vocab), poison)
        run(logits, feedback, rows, workspace, greedy=greedy, penalty=False)
        assert ((feedback.ids[:ROWS] >= 0) & (feedback.ids[:ROWS] < vocab)).all()


@pytest.mark.parametrize("vocab", [1, 700])
def test_fewer_rows_than_the_workspace(vocab: int) -> None:
    rows, workspace = sampling_rows(vocab), Workspace.create(ROWS, vocab, CPU)
    logits = torch.randn(1, vocab).half()
    feedback = feedback_for(vocab)
    truth = expected(logits.expand(ROWS, -1), feedback, rows, greedy=False, penalty=False)
    run(logits, feedback, rows, workspace, greedy=False, penalty=False)
    assert feedback.ids[0] == truth[0] and (feedback.ids[1:] == -7).all()
