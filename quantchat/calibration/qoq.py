"""QoQ: 4-bit weights that expand to int8, for int8 inputs and int4 keys and values.

QServe, 2405.04532: the stream and value heads are rotated, keys and the inputs of `down` smoothed,
ranges searched, and what rounding a column loses is made up for by the columns after it. All of it
is folded into weights.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from quantchat.calibration.compensation import Compensation
from quantchat.calibration.forward import Taps
from quantchat.calibration.layer import LINEARS, DenseLayer
from quantchat.calibration.method import Ending, ForwardMethod, LayerResult
from quantchat.calibration.progressive_fit import SHRINKS, fit_progressive
from quantchat.calibration.rotation import ModelRotation
from quantchat.calibration.smooth_attention import key_peaks, smoothed
from quantchat.calibration.walk import LayerWalk
from quantchat.model.weights import Matrix, WeightRecipe
from quantchat.quant.progressive import ProgressiveWeight
from quantchat.quant.progressive_rounding import progressive
from quantchat.quant.rounding import int8_channel
from quantchat.quant.tensor import DenseWeight

SEED = 29
"""Of the rotation's signs."""
LEAST_PEAK = 1e-5
FLOOR = 0.01
"""Of an input that comes alone, as a share of the mean square of all."""


@dataclass(frozen=True, slots=True, kw_only=True)
class QoqParts:
    """Which of QoQ's measures are taken; all of them but for studies."""

    rotate: bool = True
    smooth_keys: bool = True
    smooth_down: bool = True
    search: bool = True
    """Ranges are searched; else groups span their weights."""
    compensate: bool = True


class Qoq(ForwardMethod):
    """Progressive groups, or rows, of every linear."""

    def __init__(
        self, walk: LayerWalk, recipe: WeightRecipe, parts: QoqParts | None = None
    ) -> None:
        self._walk = walk
        self._spec = walk.spec
        self._group = recipe.group_size
        self._dtype = recipe.dtype
        self._parts = QoqParts() if parts is None else parts
        self._rotation = (
            ModelRotation(walk.spec, seed=SEED, device=walk.device) if self._parts.rotate else None
        )

    def enter(self, walk: LayerWalk) -> torch.Tensor:
        """See ForwardMethod.enter."""
        return walk.hidden if self._rotation is None else self._rotation.stream.turn(walk.hidden)

    def prepare(self, index: int, layer: DenseLayer) -> DenseLayer:
        """See ForwardMethod.prepare."""
        return layer if self._rotation is None else self._rotation.layer(layer)

    @torch.no_grad()
    def calibrate_layer(self, index: int, layer: DenseLayer, taps: Taps) -> LayerResult:
        """See ForwardMethod.calibrate_layer."""
        if self._parts.smooth_keys:
            layer = smoothed(layer, key_peaks(layer, taps.qkv, self._spec), self._spec)
        down = torch.ones(self._spec.intermediate, device=layer.down.device)
        if self._parts.smooth_down:
            alpha, beta = (0.3, 0.7) if self._group else (0.1, 0.9)
            down = smoothing(taps.down, layer.down, alpha, beta)
            layer = replace(
                layer,
                up=layer.up / down[:, None],
                up_bias=None if layer.up_bias is None else layer.up_bias / down,
                down=layer.down * down,
            )
        matrices: dict[str, Matrix] = {}
        rounded: dict[str, torch.Tensor] = {}
        for linear, parts in LINEARS.items():
            self._walk.check()
            inputs = taps.of(linear)
            gram = rounded_gram(inputs / down if linear == "down" else inputs)
            stored = self._rounded(torch.cat(layer.parts(linear)), gram)
            del gram
            matrices[f"layers.{index}.{linear}"] = Matrix((stored,), layer.fused_bias(linear))
            rows = [part.shape[0] for part in layer.parts(linear)]
            dense = torch.split(stored.dequantize(torch.float32), rows)
            rounded |= dict(zip(parts, dense, strict=True))
        return LayerResult(matrices, self._norms(index, layer), layer.with_weights(rounded))

    def ending(self, walk: LayerWalk) -> Ending:
        """See Method.ending."""
        if self._rotation is None:
            return Ending()
        norm = walk.reader.vector("final_norm")
        table = walk.reader.weight("embed", "dense").dequantize(self._dtype)
        if self._spec.tied_head:
            head = table
        else:
            head = walk.reader.weight("head", "dense").dequantize(self._dtype)
        head = self._rotation.output_head(head, norm)
        table = self._rotation.table(table)
        # Where the table was the head, it has the head's format still.
        own = int8_channel(table) if self._spec.tied_head else DenseWeight(table)
        return Ending(int8_channel(head), own, {"final_norm": torch.ones_like(norm)})

    def _rounded(self, weight: torch.Tensor, gram: torch.Tensor) -> ProgressiveWeight:
        if not self._parts.search and not self._parts.compensate:
            return progressive(weight, self._group)
        shrinks = SHRINKS if self._parts.search else SHRINKS[:1]
        fit = fit_progressive(weight, gram, self._group, shrinks=shrinks)
        # Of inputs that have nothing to do with each other none makes up for another.
        known = gram if self._parts.compensate else gram.diagonal().diag()
        return Compensation(known).round(weight, fit)

    def _norms(self, index: int, layer: DenseLayer) -> dict[str, torch.Tensor]:
        norms = {
            "attn_norm": layer.attn_norm,
            "mlp_norm": layer.mlp_norm,
            "q_norm": layer.q_norm,
            "k_norm": layer.k_norm,
        }
        return {f"layers.{index}.{name}": w for name, w in norms.items() if w is not None}


def smoothing(
    inputs: torch.Tensor, weight: torch.Tensor, alpha: float, beta: float
) -> torch.Tensor:
    """What inputs [R, K] of a weight [N, K] are divided by: float32 [K], geometric mean 1."""
    x = inputs.abs().amax(dim=0).float().clamp_min(LEAST_PEAK)
    w = weight.abs().amax(dim=0).clamp_min(LEAST_PEAK)
    factors = x.pow(alpha) / w.pow(beta)
    return factors / factors.log().mean().exp()


def rounded_gram(x: torch.Tensor) -> torch.Tensor:
    """Mean of x x^T, float32 [K, K], of inputs [R, K] as int8 codes of each row stand for them.

    Each input counts as if a little of it came alone: silent here is not silent for ever. Of inputs
    that are not finite it says nothing, and all matter equally.
    """
    wide = x.float()
    scale = (wide.abs().amax(dim=1, keepdim=True) / 127).clamp_min(1e-12)
    rounded = (wide / scale).round_().mul_(scale)
    gram = (rounded.t() @ rounded).div_(x.shape[0])
    if not bool(gram.isfinite().all()):
        return torch.eye(len(gram), device=gram.device)
    gram.diagonal().add_(FLOOR * gram.diagonal().mean())
    return gram
