"""The first token's picker, interpreted: one token at a time as the CPU picks it."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch

from quantchat.engine.device_picker import DevicePicker
from quantchat.engine.runner import EagerRunner
from quantchat.engine.sampler import pick, uniform
from quantchat.requests import Sampling

VOCAB = 1300
CPU = torch.device("cpu")
SAMPLINGS = (
    Sampling(temperature=0),
    Sampling(),
    Sampling(temperature=1.4, top_p=1.0),
    Sampling(temperature=0.7, top_p=0.9, top_k=40),
    Sampling(temperature=1.0, top_p=1.0, min_p=0.05),
)


def test_one_picker_picks_what_the_cpu_picks() -> None:
    torch.manual_seed(3)
    picker = DevicePicker(VOCAB, CPU, dependent=False)
    for turn, sampling in enumerate((*SAMPLINGS, *SAMPLINGS[::-1])):
        logits = torch.randn(VOCAB) * 3
        seed, index = (1 << 63) + 977 * turn, 3 * turn
        token = picker.pick(logits, sampling, seed=seed, index=index, seen=None)
        assert token == pick(logits, sampling, uniform(seed, index)), sampling


@pytest.mark.parametrize("penalty", [1.0, 1.6])
@pytest.mark.parametrize("sampling", SAMPLINGS[:2], ids=["greedy", "drawn"])
def test_the_runner_draws_the_same_with_it(sampling: Sampling, penalty: float) -> None:
    torch.manual_seed(4)
    sampling = Sampling(
        temperature=sampling.temperature, top_p=sampling.top_p, repetition_penalty=penalty
    )
    table = torch.randn(8, VOCAB) * 3
    answers = []
    for picker in (None, DevicePicker(VOCAB, CPU, dependent=False)):
        decoder = SimpleNamespace(ops=SimpleNamespace(device=CPU))
        runner = EagerRunner(decoder, SimpleNamespace(pages=1, page_tokens=16), picker=picker)  # type: ignore[arg-type]
        sequence = SimpleNamespace(
            sampling=sampling, seed=9, draws=0, tokens=[int(table[0].argmax()), 7], seen=None
        )
        for logits in table:
            sequence.tokens.append(runner._sample(sequence, logits))  # type: ignore[arg-type]
            sequence.draws += 1
        answers.append(sequence.tokens)
    assert answers[0] == answers[1]
