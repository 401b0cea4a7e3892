"""Scales of linears' inputs fixed beforehand: one for each linear, found on calibration text.

A token whose inputs go beyond its range is clipped. The range is that of all inputs seen, or less
where clipping costs less than the finer steps save.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from quantchat.calibration.forward import Taps
from quantchat.calibration.layer import LINEARS, DenseLayer
from quantchat.calibration.method import ForwardMethod, LayerResult, matrices_of
from quantchat.calibration.walk import LayerWalk
from quantchat.model.weights import WeightRecipe
from quantchat.quant.rounding import FP8_MAX, fp8_channel, fp8_round, int8_channel
from quantchat.quant.tensor import StoredWeight

SHRINKS = tuple(0.5 ** (n / 4) for n in range(21))
"""Shares of the full range that are tried, down to a thirty-second."""


class StaticScales(ForwardMethod):
    """8-bit rows for every linear, each with the scale of its inputs."""

    def __init__(self, walk: LayerWalk, recipe: WeightRecipe) -> None:
        self._fp8 = recipe.scheme.weights == "fp8_channel"
        self._check = walk.check

    @torch.no_grad()
    def calibrate_layer(self, index: int, layer: DenseLayer, taps: Taps) -> LayerResult:
        """See ForwardMethod.calibrate_layer."""
        stored: dict[str, StoredWeight] = {}
        for linear, parts in LINEARS.items():
            self._check()
            scale = input_scale(taps.of(linear), layer.parts(linear), fp8=self._fp8)
            for part in parts:
                weight = layer.weight(part)
                stored[part] = (
                    replace(fp8_channel(weight), input_scale=scale)
                    if self._fp8
                    else replace(int8_channel(weight), input_scale=scale)
                )
        return LayerResult(matrices_of(index, layer, stored), {}, layer)


def input_scale(x: torch.Tensor, weights: tuple[torch.Tensor, ...], *, fp8: bool) -> torch.Tensor:
    """The scale of inputs x [R, K] with the least error of the outputs, float32 [].

    The error of an input is weighed by the squares of the weights that multiply it.
    """
    x = x.float()
    shares = torch.stack([w.square().sum(dim=0) for w in weights]).sum(dim=0)
    full = (x.abs().amax() / (FP8_MAX if fp8 else 127)).clamp_min(1e-12)
    best, best_error = full, float("inf")
    for shrink in SHRINKS:
        scale = full * shrink
        codes = x / scale
        codes = fp8_round(codes).float() if fp8 else codes.round_().clamp_(-127, 127)
        error = float((codes.mul_(scale).sub_(x).square_().sum(dim=0) * shares).sum())
        if error < best_error:
            best, best_error = scale, error
    return best
