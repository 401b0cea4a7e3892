"""Rounding: bounds, awkward groups, better than the plain methods."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from quantchat.quant.pack import pack_nibbles, unpack_nibbles
from quantchat.quant.rounding import FP8_MAX, fp8_channel, fp8_round, int4_group, int8_channel
from quantchat.quant.stack import concat_rows
from quantchat.quant.tensor import int4_group_weight


def relative(a: torch.Tensor, b: torch.Tensor) -> float:
    return float((a - b).norm() / b.norm())


def round_to_nearest(w: torch.Tensor, group: int) -> torch.Tensor:
    grouped = w.view(w.shape[0], -1, group)
    low, high = grouped.aminmax(dim=-1, keepdim=True)
    scale = (high - low) / 15
    return (((grouped - low) / scale).round().clamp(0, 15) * scale + low).view_as(w)


def test_golden_packing() -> None:
    packed = pack_nibbles(torch.arange(8, dtype=torch.uint8)[None])
    assert packed.tolist() == [[0x10, 0x32, 0x54, 0x76]]
    assert unpack_nibbles(packed).tolist() == [list(range(8))]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.integers(0, 15), min_size=2, max_size=64).filter(lambda codes: len(codes) % 2 == 0)
)
def test_packing_round_trips(codes: list[int]) -> None:
    tensor = torch.tensor([codes], dtype=torch.uint8)
    assert torch.equal(unpack_nibbles(pack_nibbles(tensor)), tensor)


@pytest.mark.parametrize("shape", [(1, 32), (3, 64), (17, 96), (130, 576)])
def test_int8_error_is_half_a_step(shape: tuple[int, int]) -> None:
    w = torch.randn(shape) * torch.rand(shape[0], 1)
    rounded = int8_channel(w)
    error = (rounded.dequantize(torch.float32) - w).abs()
    assert bool((error <= rounded.scale[:, None] * 0.5 + 1e-7).all())
    assert torch.equal(rounded.scale, rounded.scale.to(torch.bfloat16).float())
    assert relative(rounded.dequantize(torch.float32), w) < 0.01


@pytest.mark.parametrize("shape", [(1, 32), (3, 64), (17, 96), (130, 576)])
def test_fp8_error_is_half_a_step_of_three_bits(shape: tuple[int, int]) -> None:
    w = torch.randn(shape) * torch.rand(shape[0], 1)
    rounded = fp8_channel(w)
    dense = rounded.dequantize(torch.float32)
    # half a unit in the third bit behind the point, or of the smallest subnormal
    bound = torch.maximum(w.abs() * 2**-4, rounded.scale[:, None] * 2**-10)
    assert bool(((dense - w).abs() <= bound * 1.001).all())
    assert rounded.floats().data_ptr() == rounded.codes.data_ptr()
    assert bool((rounded.floats().float().abs() <= FP8_MAX).all())


def test_fp8_beats_the_largest_scale_that_clips_nothing() -> None:
    w = torch.randn(64, 1024, generator=torch.Generator().manual_seed(5))
    s = w.abs().amax(dim=1, keepdim=True) / FP8_MAX
    plain = (fp8_round(w / s).float() * s - w).norm(dim=1)
    ours = (fp8_channel(w).dequantize(torch.float32) - w).norm(dim=1)
    assert bool((ours <= plain * 1.0001).all())
    assert float(ours.norm()) < 0.99 * float(plain.norm())


def test_fp8_saturates_instead_of_turning_into_nan() -> None:
    codes = fp8_round(torch.tensor([1e9, -1e9, 449.0, 0.0]))
    assert codes.float().tolist() == [448.0, -448.0, 448.0, 0.0]


@pytest.mark.parametrize(
    ("n", "k", "group"), [(1, 32, 32), (5, 96, 32), (33, 576, 64), (7, 1536, 128)]
)
def test_int4_beats_round_to_nearest(n: int, k: int, group: int) -> None:
    torch.manual_seed(n * k)
    # A heavy tail, as trained weights have.
    w = torch.randn(n, k) * torch.rand(n, k).pow(2)
    ours = relative(int4_group(w, group).dequantize(torch.float32), w)
    plain = relative(round_to_nearest(w, group), w)
    assert ours < 0.95 * plain


def test_every_group_is_at_least_as_good_as_round_to_nearest() -> None:
    w = torch.randn(64, 256)
    ours = (int4_group(w, 64).dequantize(torch.float32) - w).view(64, -1, 64).norm(dim=-1)
    plain = (round_to_nearest(w, 64) - w).view(64, -1, 64).norm(dim=-1)
    assert bool((ours <= plain * 1.01).all())


@pytest.mark.parametrize(
    "row",
    [
        torch.zeros(64),
        torch.full((64,), 0.37),
        torch.cat((torch.zeros(63), torch.tensor([5.0]))),
        torch.full((64,), 1e-9),
        torch.linspace(-3e4, 3e4, 64),
        torch.cat((torch.full((32,), -1.0), torch.full((32,), 1.0))),
    ],
    ids=["zeros", "constant", "spike", "tiny", "huge", "two values"],
)
def test_awkward_groups_stay_finite_and_close(row: torch.Tensor) -> None:
    w = row[None].float()
    for rounded in (int8_channel(w), fp8_channel(w), int4_group(w, 64)):
        back = rounded.dequantize(torch.float32)
        assert bool(torch.isfinite(back).all())
        span = float(w.max() - w.min())
        assert float((back - w).abs().max()) <= span / 15 + float(w.abs().max()) / 127 + 1e-6


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, 1e38, -1e38])
def test_a_group_that_its_scales_cannot_hold_is_no_number(value: float) -> None:
    w = torch.randn(2, 128)
    w[0, 5] = value
    back = int4_group(w, 64).dequantize(torch.float32)
    assert not bool(back[0, :64].isfinite().any())
    assert bool(back[0, 64:].isfinite().all()) and bool(back[1].isfinite().all())


def test_rows_are_taken_and_stacked_in_any_format() -> None:
    w = torch.randn(6, 64)
    order = torch.tensor([5, 0, 3])
    for rounded in (int8_channel(w), fp8_channel(w), int4_group(w, 32)):
        taken = rounded.take_rows(order).dequantize(torch.float32)
        assert torch.equal(taken, rounded.dequantize(torch.float32)[order])
        stacked = concat_rows([rounded, rounded.take_rows(order)])
        assert stacked is not None and stacked.shape == (9, 64)
        assert torch.equal(stacked.dequantize(torch.float32)[6:], taken)
    assert concat_rows([int8_channel(w), int4_group(w, 32)]) is None
    assert concat_rows([int4_group(w, 64), int4_group(w, 32)]) is None


def test_bytes_are_those_of_the_tensors() -> None:
    weight = int4_group(torch.randn(16, 128), 64)
    assert weight.nbytes == 16 * 64 + 2 * 16 * 2 * 2
    codes = torch.randint(0, 16, (4, 64), dtype=torch.uint8)
    made = int4_group_weight(codes, torch.ones(4, 2), torch.zeros(4, 2), 32)
    assert torch.equal(made.dequantize(torch.float32), codes.float())


def test_fp8_rows_stack_only_with_their_kind() -> None:
    w = torch.randn(4, 64)
    stacked = concat_rows([fp8_channel(w), fp8_channel(w)])
    assert stacked is not None and stacked.shape == (8, 64)
    assert concat_rows([fp8_channel(w), int8_channel(w)]) is None
