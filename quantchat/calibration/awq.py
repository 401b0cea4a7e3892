"""AWQ: inputs that matter are scaled up before groups are rounded to 4 bits.

2306.00978. A scale moves into what makes the input: a norm, the rows of v or of up. Which power of
an input's mean size is the best is searched on the error that rounding makes in the outputs on
calibration text. Groups are fitted by least squares (quant.rounding), which cuts their ranges as
it goes and so stands where the paper searches clips.
"""

from __future__ import annotations

from dataclasses import replace

import torch

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
        # What makes a linear's inputs comes after it: its rows take the inverse of the scale.
        for linear in ("o", "qkv", "down", "gate_up"):
            scale, weights = self._search(folded, linear, taps.of(linear))
            folded = self._folded(folded, linear, scale)
            stored |= zip(LINEARS[linear], weights, strict=True)
        rounded = {part: weight.dequantize(torch.float32) for part, weight in stored.items()}
        vectors = {
            f"layers.{index}.attn_norm": folded.attn_norm,
            f"layers.{index}.mlp_norm": folded.mlp_norm,
        }
        return LayerResult(
            matrices_of(index, folded, stored), vectors, folded.with_weights(rounded)
        )

    def _search(
        self, layer: DenseLayer, linear: str, x: torch.Tensor
    ) -> tuple[torch.Tensor, list[Int4GroupWeight]]:
        """The best scale of a linear's inputs x [R, K], float32 [K], and its parts under it."""
        size = self._size(x, linear)
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

    def _size(self, x: torch.Tensor, linear: str) -> torch.Tensor:
        """Mean magnitude of each input [K]; inputs of `o` that read one value channel share theirs."""
        size = x.abs().mean(dim=0, dtype=torch.float32)
        if linear != "o":
            return size
        heads = size.view(self._spec.kv_heads, -1, self._spec.head_dim)
        return heads.amax(dim=1, keepdim=True).expand(heads.shape).flatten()

    def _folded(self, layer: DenseLayer, linear: str, scale: torch.Tensor) -> DenseLayer:
        """The same layer with a scale in a linear's columns and its inverse in what feeds it."""
        scaled = {part: layer.weight(part) * scale for part in LINEARS[linear]}
        if linear == "qkv":
            return replace(layer, attn_norm=layer.attn_norm / scale, **scaled)
        if linear == "gate_up":
            return replace(layer, mlp_norm=layer.mlp_norm / scale, **scaled)
        if linear == "down":
            bias = None if layer.up_bias is None else layer.up_bias / scale
            return replace(layer, up=layer.up / scale[:, None], up_bias=bias, **scaled)
        value = scale.view(self._spec.kv_heads, -1, self._spec.head_dim)[:, 0].flatten()
        bias = None if layer.v_bias is None else layer.v_bias / value
        return replace(layer, v=layer.v / value[:, None], v_bias=bias, **scaled)


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
