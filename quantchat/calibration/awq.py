"""AWQ: inputs that matter are scaled up before 4-bit rounding, and groups' ranges are cut.

2306.00978. A scale moves into what makes the input: a norm, the rows of v or of up. Which power of
an input's size is best, and how far a group is cut, is searched on the linear's own inputs.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from quantchat.calibration.forward import LayerForward, Taps
from quantchat.calibration.layer import LINEARS, DenseLayer
from quantchat.calibration.method import ForwardMethod, LayerResult, matrices_of
from quantchat.quant.rounding import int4_group
from quantchat.quant.tensor import StoredWeight

RATIOS = 20
LEAST_SCALE = 1e-4
IMPORTANCE_FLOOR = 0.02


class Awq(ForwardMethod):
    """Groups of int4 for every linear of a layer."""

    def __init__(
        self, forward: LayerForward, group_size: int, *, check: Callable[[], None]
    ) -> None:
        self._forward = forward
        self._spec = forward.spec
        self._group = group_size
        self._check = check

    @torch.no_grad()
    def calibrate_layer(self, index: int, layer: DenseLayer, taps: Taps) -> LayerResult:
        """See ForwardMethod.calibrate_layer."""
        scales: dict[str, torch.Tensor] = {}
        for linear in LINEARS:
            self._check()
            scales[linear] = self._scale(layer, linear, taps)
        folded = self._folded(layer, scales)
        stored: dict[str, StoredWeight] = {}
        rounded: dict[str, torch.Tensor] = {}
        for linear, parts in LINEARS.items():
            importance = importance_of(taps.of(linear)) / scales[linear].square()
            for part in parts:
                self._check()
                weight = int4_group(folded.weight(part), self._group, importance)
                stored[part] = weight
                rounded[part] = weight.dequantize(torch.float32)
        vectors = {
            f"layers.{index}.attn_norm": folded.attn_norm,
            f"layers.{index}.mlp_norm": folded.mlp_norm,
        }
        return LayerResult(
            matrices_of(index, folded, stored), vectors, folded.with_weights(rounded)
        )

    def _scale(self, layer: DenseLayer, linear: str, taps: Taps) -> torch.Tensor:
        """The best scale of a linear's inputs, float32 [K]."""
        x = taps.of(linear)
        weights = layer.parts(linear)
        size = self._shared(x.float().abs().mean(dim=0), linear)
        gram = gram_of(x)
        best, best_error = torch.ones_like(size), float("inf")
        for step in range(RATIOS):
            scale = scale_of(size, step / RATIOS)
            error = sum(
                output_error(nearest(w * scale, self._group) / scale - w, gram) for w in weights
            )
            if error < best_error:
                best, best_error = scale, error
        return best

    def _shared(self, size: torch.Tensor, linear: str) -> torch.Tensor:
        """One number for all inputs of `o` that read the same value channel: the largest."""
        if linear != "o":
            return size
        heads = size.view(self._spec.kv_heads, -1, self._spec.head_dim)
        return heads.amax(dim=1, keepdim=True).expand(heads.shape).flatten()

    def _folded(self, layer: DenseLayer, scales: dict[str, torch.Tensor]) -> DenseLayer:
        """The same layer with every scale in the weights behind it and its inverse in front."""
        value = scales["o"].view(self._spec.kv_heads, -1, self._spec.head_dim)[:, 0].flatten()
        qkv, o, gate_up, down = (scales[linear] for linear in LINEARS)
        return replace(
            layer,
            attn_norm=layer.attn_norm / qkv,
            q=layer.q * qkv,
            k=layer.k * qkv,
            v=layer.v * qkv / value[:, None],
            v_bias=None if layer.v_bias is None else layer.v_bias / value,
            o=layer.o * o,
            mlp_norm=layer.mlp_norm / gate_up,
            gate=layer.gate * gate_up,
            up=layer.up * gate_up / down[:, None],
            up_bias=None if layer.up_bias is None else layer.up_bias / down,
            down=layer.down * down,
        )


def importance_of(x: torch.Tensor) -> torch.Tensor:
    """Mean square of each input, mean 1, bounded below. x [R, K] -> float32 [K]."""
    squares = x.float().square().mean(dim=0)
    return (squares / squares.mean()).clamp_min(IMPORTANCE_FLOOR)


def scale_of(size: torch.Tensor, ratio: float) -> torch.Tensor:
    """size ** ratio, put around 1."""
    scale = size.pow(ratio).clamp_min(LEAST_SCALE)
    return scale / (scale.max() * scale.min()).sqrt()


def gram_of(x: torch.Tensor) -> torch.Tensor:
    """Mean of x x^T, float32 [K, K]."""
    return (x.t() @ x).float() / x.shape[0]


def output_error(difference: torch.Tensor, gram: torch.Tensor) -> float:
    """Sum over outputs of the mean square that a difference of weights [N, K] makes."""
    low = difference.to(torch.bfloat16)
    return float(((low @ gram.to(torch.bfloat16)).float() * difference).sum())


def nearest(weight: torch.Tensor, group_size: int) -> torch.Tensor:
    """Rounded to 16 even steps between each group's ends, and back. float32 [N, K]."""
    groups = weight.view(weight.shape[0], -1, group_size)
    low, high = groups.aminmax(dim=-1, keepdim=True)
    low, high = low.clamp_max(0), high.clamp_min(0)
    step = ((high - low) / 15).clamp_min(1e-9)
    zero = (low / step).round_()
    return (groups / step).round_().clamp_(zero, zero + 15).mul_(step).view(weight.shape)
