"""The baselines are what they claim to be, and our rounding is ahead of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from quantchat.evals.roundings import ROUNDINGS, compare_roundings
from quantchat.evals.subject import open_subject
from quantchat.evals.text import Passages, Window
from quantchat.quant.hqq import hqq, nearest
from quantchat.quant.rounding import int4_group

PROSE = Path(__file__).parent.parent / "data" / "prose.txt"


def relative_error(weight: torch.Tensor, rounding: str) -> float:
    back = ROUNDINGS[rounding](weight, 64).dequantize(torch.float32)
    return float((back - weight).norm() / weight.norm())


def test_errors_on_normal_weights_in_groups_of_64() -> None:
    weight = torch.randn(1024, 512, generator=torch.Generator().manual_seed(0))
    errors = {name: relative_error(weight, name) for name in ("nearest", "hqq", "int4")}
    assert errors["hqq"] == pytest.approx(0.086, abs=0.002)
    assert errors["int4"] < errors["hqq"] < errors["nearest"]


@pytest.mark.parametrize("rounding", [nearest, hqq, int4_group])
def test_constant_and_tiny_groups_come_back(rounding: object) -> None:
    weight = torch.zeros(3, 64)
    weight[1] = 0.5
    weight[2] = 1e-6 * torch.randn(64, generator=torch.Generator().manual_seed(0))
    back = rounding(weight, 32).dequantize(torch.float32)
    torch.testing.assert_close(back, weight, rtol=1e-3, atol=5e-6)


def test_importance_moves_the_error_to_the_silent_inputs() -> None:
    random = torch.Generator().manual_seed(0)
    weight = torch.randn(512, 256, generator=random)
    importance = torch.full((256,), 0.02)
    loud = torch.randperm(256, generator=random)[:24]
    importance[loud] = 10.0
    plain = (int4_group(weight, 64).dequantize(torch.float32) - weight).square().mean(0)
    weighed = (int4_group(weight, 64, importance).dequantize(torch.float32) - weight).square()
    assert float(weighed.mean(0)[loud].mean()) < 0.5 * float(plain[loud].mean())
    assert float((weighed.mean(0) * importance).sum()) < 0.7 * float((plain * importance).sum())


@pytest.mark.starter
@pytest.mark.slow
def test_int4_is_clearly_ahead_on_the_starter_model(starter_path: Path) -> None:
    subject = open_subject(str(starter_path))
    try:
        ids = subject.tokenizer.encode(PROSE.read_text("utf-8"), add_bos=False)[:513]
        passages = Passages(origin="prose", method="one window", windows=(Window(tuple(ids), 1),))
        found = compare_roundings(
            subject,
            passages,
            names=("int4", "nearest"),
            group_size=64,
            cancelled=lambda: False,
        )
    finally:
        subject.close()
    ours, theirs = found["int4"].kl_mean, found["nearest"].kl_mean
    assert ours.value + 5 * ours.se < theirs.value
    assert ours.value < 0.6 * theirs.value
