"""Scales of linears' inputs fixed beforehand: one for each linear, found on calibration text.

What goes beyond a scale's range at run time is clipped. The range is that of all inputs seen, or
less where clipping costs less than the finer steps save. One range for all channels bears no
outliers, so int8 inputs are smoothed first, those of `o` and `down` as well; fp8, whose steps grow
with the value, need not.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from quantchat.calibration.folding import INWARD, fold, norms_of
from quantchat.calibration.forward import Taps
from quantchat.calibration.layer import LINEARS, DenseLayer
from quantchat.calibration.method import ForwardMethod, LayerResult, matrices_of
from quantchat.calibration.smoothing import smoothing_of
from quantchat.calibration.walk import LayerWalk
from quantchat.model.weights import WeightRecipe
from quantchat.quant.rounding import FP8_MAX, fp8_channel, fp8_round, int8_channel
from quantchat.quant.tensor import StoredWeight

SHRINKS = tuple(0.5 ** (n / 4) for n in range(21))
"""Shares of the full range that are tried, down to a thirty-second."""
COARSE_SHRINKS = SHRINKS[::4]
"""While alphas are compared."""
FP8_SHRINKS = SHRINKS[:5]
"""One octave: the next gives the same codes but for what it clips."""


class StaticScales(ForwardMethod):
    """8-bit rows for every linear, each with the scale of its inputs."""

    def __init__(self, walk: LayerWalk, recipe: WeightRecipe) -> None:
        self._spec = walk.spec
        self._check = walk.check
        self._fp8 = recipe.scheme.weights == "fp8_channel"

    @torch.no_grad()
    def calibrate_layer(self, index: int, layer: DenseLayer, taps: Taps) -> LayerResult:
        """See ForwardMethod.calibrate_layer."""
        smooth = layer
        scales: dict[str, torch.Tensor] = {}
        for linear in INWARD:
            self._check()
            x, factors = taps.of(linear).float(), None
            if not self._fp8:
                factors = smoothing_of(
                    linear,
                    taps.of(linear),
                    smooth.parts(linear),
                    self._spec,
                    round_inputs=_int8,
                    check=self._check,
                )
                smooth = fold(smooth, linear, factors, self._spec)
                x /= factors
            shrinks = FP8_SHRINKS if self._fp8 else SHRINKS
            scales[linear] = input_scale(x, smooth.parts(linear), fp8=self._fp8, shrinks=shrinks)
        stored: dict[str, StoredWeight] = {}
        for linear, parts in LINEARS.items():
            for part in parts:
                weight = smooth.weight(part)
                stored[part] = (
                    replace(fp8_channel(weight), input_scale=scales[linear])
                    if self._fp8
                    else replace(int8_channel(weight), input_scale=scales[linear])
                )
        return LayerResult(matrices_of(index, smooth, stored), norms_of(index, smooth), layer)


def input_scale(
    x: torch.Tensor,
    weights: tuple[torch.Tensor, ...],
    *,
    fp8: bool,
    shrinks: tuple[float, ...] = SHRINKS,
) -> torch.Tensor:
    """The scale of inputs x float32 [R, K] with the least error of the outputs, float32 [].

    The error of an input is weighed by the squares of the weights that multiply it.
    """
    shares = torch.stack([w.square().sum(dim=0) for w in weights]).sum(dim=0)
    full = (x.abs().amax() / (FP8_MAX if fp8 else 127)).clamp_min(1e-12)
    best, best_error = full, float("inf")
    for shrink in shrinks:
        scale = full * shrink
        error = float((_rounded(x, scale, fp8=fp8).sub_(x).square_().sum(dim=0) * shares).sum())
        if error < best_error:
            best, best_error = scale, error
    return best


def _rounded(x: torch.Tensor, scale: torch.Tensor, *, fp8: bool) -> torch.Tensor:
    """Inputs as their codes under a scale give them."""
    codes = x / scale
    codes = fp8_round(codes).float() if fp8 else codes.round_().clamp_(-127, 127)
    return codes.mul_(scale)


def _int8(x: torch.Tensor, weights: tuple[torch.Tensor, ...]) -> torch.Tensor:
    scale = input_scale(x, weights, fp8=False, shrinks=COARSE_SHRINKS)
    return _rounded(x, scale, fp8=False)
