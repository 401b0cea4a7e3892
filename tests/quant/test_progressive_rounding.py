"""Two levels that never leave int8, whatever the weights, and errors as they should be."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantchat.quant.progressive_rounding import (
    LARGEST_STEP,
    PROTECTED_RANGE,
    STEP_CHOICES,
    group_codes,
    progressive,
)
from quantchat.quant.stack import concat_rows


def test_every_range_of_int8_codes_expands_within_int8() -> None:
    lows, highs = torch.meshgrid(
        torch.arange(-PROTECTED_RANGE, 1), torch.arange(PROTECTED_RANGE + 1), indexing="ij"
    )
    # Expanded codes rise with the values, so that the ends of a range are the farthest.
    ends = torch.stack((lows.flatten(), highs.flatten()), dim=-1)[:, None, :].float()
    paper = ((ends[..., 1:] - ends[..., :1]) / 15).round()
    for choice in STEP_CHOICES:
        step = (paper + choice).clamp(1, LARGEST_STEP)
        zero, q = group_codes(ends, step)
        assert float(((q - zero) * step).abs().max()) <= 127
        assert float(zero.min()) >= 0 and float(zero.max()) <= 15
        assert float(q.min()) >= 0 and float(q.max()) <= 15


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.one_of(
            st.floats(-1e4, 1e4, width=32),
            st.sampled_from([0.0, 1e-30, -1e-30, 118.5, 119.0, -119.0, 120.0, -112.9, 3e38]),
        ),
        min_size=64,
        max_size=64,
    ),
    st.sampled_from([0, 32, 64]),
)
def test_adversarial_weights_expand_within_int8(values: list[float], group_size: int) -> None:
    weight = torch.tensor([values])
    made = progressive(weight, group_size)
    q = made.codes().view(1, -1, made.group_size).to(torch.int64)
    wide = (q - made.group_zero[..., None]) * made.group_scale[..., None].to(torch.int64)
    assert int(wide.abs().max()) <= 127
    assert torch.equal(wide.view(1, -1), made.expand().to(torch.int64))
    assert int(made.group_scale.min()) >= 1 and int(made.group_scale.max()) <= LARGEST_STEP
    assert int(made.group_zero.max()) <= 15
    assert bool(torch.isfinite(made.dequantize(torch.float32)).all())


@pytest.mark.parametrize(
    ("group_size", "bound"), [(0, 0.135), (128, 0.102), (64, 0.094), (32, 0.085)]
)
def test_errors_on_normal_weights(group_size: int, bound: float) -> None:
    weight = torch.randn(96, 1024, generator=torch.Generator().manual_seed(1))
    made = progressive(weight, group_size)
    assert made.group_size == (group_size or 1024)
    assert float((made.dequantize(torch.float32) - weight).norm() / weight.norm()) < bound
    if not group_size:
        assert torch.equal(made.group_scale, torch.ones_like(made.group_scale))


def test_no_group_is_worse_than_with_the_papers_step() -> None:
    weight = torch.randn(64, 512, generator=torch.Generator().manual_seed(2)).pow(3)
    made = progressive(weight, 64)
    w = weight.view(64, -1, 64)
    scale = (w.abs().amax(dim=(1, 2), keepdim=True) / PROTECTED_RANGE).double()
    codes = (w / scale.float()).round()
    low, high = codes.aminmax(dim=-1, keepdim=True)
    low, high = low.clamp_max(0), high.clamp_min(0)
    step = ((high - low) / 15).round().clamp_min(1)
    zero = (-(low / step).round()).clamp(0, 15)
    theirs = (((codes / step).round() + zero).clamp(0, 15) - zero) * step
    ours = made.expand().view(64, -1, 64).float()
    worst = (ours - codes).square().sum(-1) - (theirs - codes).square().sum(-1)
    assert float(worst.max()) <= 0
    assert float((ours - codes).norm()) < 0.99 * float((theirs - codes).norm())


def test_rows_of_one_sign_keep_their_values() -> None:
    weight = 1 + torch.rand(8, 128, generator=torch.Generator().manual_seed(3))
    for group_size in (0, 64):
        back = progressive(weight, group_size).dequantize(torch.float32)
        assert float((back - weight).abs().max()) < 2 / 15
    nothing = progressive(torch.zeros(2, 64), 32)
    assert not nothing.dequantize(torch.float32).any()


def test_clips_bound_each_group() -> None:
    weight = torch.randn(16, 256, generator=torch.Generator().manual_seed(4))
    weight[:, ::64] *= 20
    clip = torch.full((16, 4), 2.5)
    clipped = progressive(weight, 64, clip).dequantize(torch.float32)
    assert float(clipped.abs().max()) < 2.5 * 1.1
    body = weight.abs() < 2.5
    plain = progressive(weight, 64).dequantize(torch.float32)
    assert float((clipped - weight)[body].norm()) < 0.5 * float((plain - weight)[body].norm())
    assert float(progressive(weight, 0, clip[:, :1]).dequantize(torch.float32).abs().max()) < 2.75


def test_stacked_and_taken_rows_are_the_same() -> None:
    made = progressive(torch.randn(12, 64), 32)
    rows = torch.tensor([11, 2])
    taken = made.take_rows(rows)
    assert torch.equal(taken.dequantize(torch.float32), made.dequantize(torch.float32)[rows])
    stacked = concat_rows([made, taken])
    assert stacked is not None and stacked.shape == (14, 64)
    assert concat_rows([made, progressive(torch.randn(2, 64), 64)]) is None
