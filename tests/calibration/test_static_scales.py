"""Scales fixed beforehand: one for each linear, cut where cutting pays."""

from __future__ import annotations

import pytest
import torch
from memory_models import TINY, memory_source, recipe_of, walk_of

from quantchat.calibration.layer import LINEARS
from quantchat.calibration.static_scales import StaticScales, input_scale
from quantchat.quant.tensor import Fp8ChannelWeight, Int8ChannelWeight

IDS = torch.randint(TINY.vocab, (6, 24), generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("scheme", ["w8a8-static", "fp8-static"])
def test_parts_of_a_linear_share_their_scale(scheme: str) -> None:
    walk = walk_of(memory_source(TINY), IDS)
    results = list(StaticScales(walk, recipe_of(scheme)).results(walk))
    scales = set()
    for index, result in enumerate(results):
        for linear in LINEARS:
            # One stacked part: scales that differed would have kept q, k and v apart.
            (weight,) = result.matrices[f"layers.{index}.{linear}"].parts
            assert isinstance(weight, Int8ChannelWeight | Fp8ChannelWeight)
            assert weight.input_scale is not None
            assert weight.input_scale.shape == () and weight.input_scale.dtype == torch.float32
            scales.add(float(weight.input_scale))
    assert len(scales) == len(LINEARS) * walk.spec.layers


def rounded(x: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    return (x / scale).round().clamp(-127, 127) * scale


def test_a_lone_outlier_is_clipped_only_where_it_costs_little() -> None:
    x = torch.randn(400, 64)
    x[0, 0] = 60
    weight = torch.randn(32, 64)
    spared = weight.clone()
    spared[:, 0] = 0
    full = 60 / 127
    clipped = input_scale(x, (spared,), fp8=False)
    assert float(clipped) < 0.2 * full
    for w, scale in ((weight, input_scale(x, (weight,), fp8=False)), (spared, clipped)):
        error = ((rounded(x, scale) - x) @ w.t()).square().sum()
        whole = ((rounded(x, torch.tensor(full)) - x) @ w.t()).square().sum()
        assert float(error) < float(whole)


def test_even_inputs_keep_nearly_their_range() -> None:
    x = torch.rand(400, 64) * 2 - 1
    scale = float(input_scale(x, (torch.randn(32, 64), torch.randn(8, 64)), fp8=False))
    assert 0.8 / 127 < scale < 1.001 / 127
    assert float(input_scale(torch.zeros(4, 64), (torch.randn(8, 64),), fp8=True)) > 0
