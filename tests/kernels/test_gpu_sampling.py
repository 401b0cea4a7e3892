"""Sampling on a real card: the token of plain torch over random cases, and a captured loop."""

from __future__ import annotations

import random

import pytest

pytest.importorskip("triton")

import torch
from quantchat.kernels.embed.embed import Places, Table, embed
from quantchat.kernels.sample.greedy import pick_best
from quantchat.kernels.sample.stochastic import pick_drawn
from quantchat.kernels.sample.workspace import Feedback, Workspace

from quantchat.engine.device_picker import DevicePicker
from quantchat.engine.sampler import SamplingRows, penalize, pick, pick_rows, uniform
from quantchat.requests import Sampling

pytestmark = pytest.mark.gpu

ROWS = 8


def dependents() -> tuple[bool, ...]:
    return (False, True) if torch.cuda.get_device_capability() >= (9, 0) else (False,)


def feedback_for(rows: int, vocab: int) -> Feedback:
    count = torch.arange(rows, device="cuda")
    return Feedback(
        ids=torch.full_like(count, -7),
        positions=count.int(),
        seq_lens=count.int() + 1,
        indices=count + 100,
        active=torch.ones_like(count, dtype=torch.int32),
        ring=torch.full((2, rows), -9).pin_memory(),
        seen=torch.rand(rows, vocab, device="cuda") < 0.2,
    )


def settings(rnd: random.Random, vocab: int) -> Sampling:
    return Sampling(
        temperature=rnd.choice((0, 0.01, 0.3, 0.7, 1.0, 1.5, 5.0, 1e-30, 1e30)),
        top_k=rnd.choice((0, 0, 1, 2, 40, 1000, vocab)),
        top_p=rnd.choice((0.0, 0.1, 0.5, 0.9, 0.95, 0.999, 1.0, 1.0)),
        min_p=rnd.choice((0.0, 0.0, 1e-6, 0.05, 1.0)),
        repetition_penalty=rnd.choice((0.7, 1.0, 1.1, 2.0)),
    )


@pytest.mark.parametrize(
    ("vocab", "dtype"),
    [
        (128256, torch.float16),
        (49152, torch.float16),
        (151936, torch.bfloat16),
        (32000, torch.bfloat16),
        (50257, torch.float32),
        (262208, torch.bfloat16),
        (1001, torch.float32),
    ],
)
def test_the_kernels_pick_torchs_token(vocab: int, dtype: torch.dtype) -> None:
    rnd = random.Random(vocab)
    torch.manual_seed(vocab)
    device = torch.device("cuda")
    workspace = Workspace.create(ROWS, vocab, device)
    for turn in range(36):
        penalty, greedy = turn % 3 == 2, turn % 6 == 5
        logits = torch.randn(ROWS, vocab, device=device) * rnd.choice((0.0, 0.02, 1.0, 3.0, 8.0))
        if turn % 4 == 3:
            logits = logits.round()
        if turn % 5 == 4:
            logits[torch.rand_like(logits) < 0.7] = -float("inf")
        logits = logits.to(dtype)
        rows = SamplingRows.empty(ROWS, vocab, device)
        for row in range(ROWS):
            rows.set_row(row, settings(rnd, vocab), rnd.getrandbits(63), vocab)
        feedback = feedback_for(ROWS, vocab)
        wide = logits.float()
        if penalty:
            assert feedback.seen is not None
            wide = penalize(wide, feedback.seen, rows.penalty[:, None])
        truth = pick_rows(wide, rows, feedback.indices, greedy=greedy)
        by = {
            "penalty": rows.penalty if penalty else None,
            "dependent": dependents()[-(turn % 2)],
        }
        if greedy:
            pick_best(logits, feedback, workspace, **by)
        else:
            pick_drawn(
                logits,
                feedback,
                workspace,
                temperature=rows.temperature,
                top_k=rows.top_k,
                top_p=rows.top_p,
                min_p=rows.min_p,
                seeds=rows.seeds,
                **by,
            )
        torch.cuda.synchronize()
        assert feedback.ids.tolist() == truth.tolist(), (turn, rows)
        assert [int(feedback.ring[row % 2, row]) for row in range(ROWS)] == truth.tolist()
        assert not workspace.arrivals.any()


@pytest.mark.parametrize("dependent", [False, True])
def test_a_captured_loop_feeds_itself(dependent: bool) -> None:
    if dependent not in dependents():
        pytest.skip("dependent launch needs SM 90")
    torch.manual_seed(1)
    vocab, count, steps, device = 5000, 4, 120, torch.device("cuda")
    table = torch.randn(vocab, vocab, device=device).half() * 3
    rows = SamplingRows.empty(count, vocab, device)
    for row, sampling in enumerate(
        (Sampling(temperature=0), Sampling(), Sampling(temperature=1.2, top_p=1), Sampling(top_k=5))
    ):
        rows.set_row(row, sampling, row, vocab)
    feedback, workspace = feedback_for(count, vocab), Workspace.create(count, vocab, device)
    feedback.ids.copy_(torch.arange(count))
    feedback.positions.zero_()
    pages = torch.randint(1, 500, (count, 40), dtype=torch.int32, device=device)
    slots = torch.zeros(count, dtype=torch.int64, device=device)
    logits = torch.empty(count, vocab, dtype=torch.float16, device=device)

    def step() -> None:
        embed(
            feedback.ids,
            Table(form="dense", data=table),
            out=logits,
            places=Places(positions=feedback.positions, table=pages, page_tokens=16, slots=slots),
            dependent=dependent,
        )
        pick_drawn(
            logits,
            feedback,
            workspace,
            temperature=rows.temperature,
            top_k=rows.top_k,
            top_p=rows.top_p,
            min_p=rows.min_p,
            seeds=rows.seeds,
            dependent=dependent,
        )

    state = (feedback.ids, feedback.positions, feedback.seq_lens, feedback.indices)
    saved = [tensor.clone() for tensor in state]
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        step()
    for tensor, value in zip(state, saved, strict=True):
        tensor.copy_(value)
    first = saved[3].tolist()
    events, found = [], []
    for n in range(steps + 1):
        if n < steps:
            graph.replay()
            events.append(torch.cuda.Event())
            events[-1].record()
        if n:
            # One step late, while the next one runs.
            events[n - 1].synchronize()
            found.append([int(feedback.ring[(first[r] + n - 1) % 2, r]) for r in range(count)])
    ids, indices, truth = saved[0], saved[3].clone(), []
    for _ in range(steps):
        ids = pick_rows(table[ids].float(), rows, indices, greedy=False)
        indices += 1
        truth.append(ids.tolist())
    assert found == truth
    place = steps - 1
    assert torch.equal(slots, pages[:, place // 16].long() * 16 + place % 16)
    assert feedback.positions.tolist() == [steps] * count


def test_a_first_token_is_the_cpus() -> None:
    rnd, vocab = random.Random(8), 128256
    torch.manual_seed(8)
    picker = DevicePicker(vocab, torch.device("cuda"), dependent=dependents()[-1])
    for turn in range(30):
        logits = torch.randn(vocab) * rnd.choice((0.02, 1.0, 3.0, 8.0))
        sampling, seed, index = settings(rnd, vocab), rnd.getrandbits(64), rnd.randrange(5)
        seen, wanted = None, logits
        if sampling.repetition_penalty != 1:
            seen = torch.rand(vocab) < 0.2
            wanted = penalize(logits, seen, torch.tensor([sampling.repetition_penalty]))
        token = picker.pick(
            logits.cuda(),
            sampling,
            seed=seed,
            index=index,
            seen=None if seen is None else seen.cuda(),
        )
        assert token == pick(wanted, sampling, uniform(seed, index)), (turn, sampling)
