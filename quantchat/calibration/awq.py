"""AWQ: inputs that matter are scaled up before groups are rounded to 4 bits.

2306.00978. A scale moves into what makes the input: a norm, the rows of v or of up. Which power of
an input's mean size is the best is searched on the error that rounding makes in the outputs on
calibration text. Rounding is least squares that know the inputs (quant.rounding), in the search
as in the end. It cuts ranges itself: the paper's clips in front of it made the starter model worse
(KL .124 for .077; rounded to nearest .330, HQQ .247).
"""

from __future__ import annotations

import torch

from quantchat.calibration.folding import INWARD, fold, norms_of, shared
from quantchat.calibration.forward import Taps
from quantchat.calibration.layer import LINEARS, DenseLayer
from quantchat.calibration.method import ForwardMethod, LayerResult, matrices_of
from quantchat.calibration.walk import LayerWalk
from quantchat.model.weights import WeightRecipe
from quantchat.quant.rounding import int4_group
from quantchat.quant.tensor import Int4GroupWeight, StoredWeight

RATIOS = tuple(n / 10 for n in range(8))
"""Powers tried. Least squares that know the inputs leave less to scaling than rounding to nearest:
on the starter model none is best, on models off its 4-bit grid 0.1 to 0.4."""
LEAST_SCALE = 1e-4
IMPORTANCE_FLOOR = 0.02
"""Least weight of an input, as a share of the mean: silent here is not silent for ever."""


class Awq(ForwardMethod):
    """Groups of int4 for every linear of a layer, norms changed to fit."""

    def __init__(self, walk: LayerWalk, recipe: WeightRecipe) -> None:
        self._spec = walk.spec
        self._group = recipe.group_size
        self._check = walk.check

    @torch.no_grad()
    def calibrate_layer(self, index: int, layer: DenseLayer, taps: Taps) -> LayerResult:
        """See ForwardMethod.calibrate_layer."""
        folded, stored = layer, dict[str, StoredWeight]()
        for linear in INWARD:
            scale, weights = self._search(folded, linear, taps.of(linear))
            folded = fold(folded, linear, scale, self._spec)
            stored |= zip(LINEARS[linear], weights, strict=True)
        rounded = {part: weight.dequantize(torch.float32) for part, weight in stored.items()}
        return LayerResult(
            matrices_of(index, folded, stored),
            norms_of(index, folded),
            folded.with_weights(rounded),
        )

    def _search(
        self, layer: DenseLayer, linear: str, x: torch.Tensor
    ) -> tuple[torch.Tensor, list[Int4GroupWeight]]:
        """The best scale of a linear's inputs x [R, K], float32 [K], and its parts under it."""
        size = shared(x.abs().mean(dim=0, dtype=torch.float32), linear, self._spec)
        squares, gram = importance_of(x), gram_of(x)
        best_error = float("inf")
        for ratio in RATIOS:
            self._check()
            scale = scale_of(size, ratio)
            weights: list[Int4GroupWeight] = []
            error = 0.0
            for dense in layer.parts(linear):
                weight = int4_group(dense * scale, self._group, squares / scale.square())
                error += output_error(weight.dequantize(torch.float32) / scale - dense, gram)
                weights.append(weight)
            if error < best_error or ratio == RATIOS[0]:
                best, best_error = (scale, weights), error
        return best


def importance_of(x: torch.Tensor) -> torch.Tensor:
    """Mean square of each input, mean 1, bounded below; all ones where one is not finite.

    x [R, K] -> float32 [K].
    """
    squares = x.float().square().mean(dim=0)
    average = squares.mean()
    if not bool(average.isfinite()) or not bool(average > 0):
        return torch.ones_like(squares)
    return (squares / average).clamp_min(IMPORTANCE_FLOOR)


def scale_of(size: torch.Tensor, ratio: float) -> torch.Tensor:
    """size ** ratio [K], its largest and least value equally far from 1."""
    scale = size.pow(ratio).clamp_min(LEAST_SCALE)
    scale = scale / (scale.max() * scale.min()).sqrt()
    return torch.where(scale.isfinite() & (scale > 0), scale, 1.0)


def gram_of(x: torch.Tensor) -> torch.Tensor:
    """Mean of x x^T in the type of x: [R, K] -> [K, K]."""
    return (x.t() @ x) / x.shape[0]


def output_error(difference: torch.Tensor, gram: torch.Tensor) -> float:
    """Sum over outputs of the mean square that a difference of weights [N, K] makes."""
    spread = difference.to(gram.dtype) @ gram
    return float((spread.float() * difference).sum())
