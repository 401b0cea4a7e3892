"""SmoothQuant: outliers of a linear's inputs moved into its weights before both go to 8 bits.

2211.10438. Factors s = max|x| ** alpha / max|w| ** (1 - alpha) go from the norm in front into the
weights of q, k and v, of gate and up; `o` and `down` have no norm and stay. Alpha is searched for
each of the two on the error of the 8-bit product, no smoothing being one of the choices.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from quantchat.calibration.forward import Taps, product
from quantchat.calibration.layer import LINEARS, DenseLayer
from quantchat.calibration.method import ForwardMethod, LayerResult, matrices_of
from quantchat.calibration.walk import LayerWalk
from quantchat.ops.quantized_rows import quantize_rows
from quantchat.quant.rounding import int8_channel
from quantchat.quant.tensor import StoredWeight

ALPHAS = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
SEARCH_ROWS = 1024
"""Rows of the inputs, spread over all, on which alphas are compared."""
LEAST = 1e-5
"""Least factor and least magnitude."""


class SmoothQuant(ForwardMethod):
    """int8 rows for every linear of a layer, norms changed to fit."""

    def __init__(self, walk: LayerWalk) -> None:
        self._check = walk.check

    @torch.no_grad()
    def calibrate_layer(self, index: int, layer: DenseLayer, taps: Taps) -> LayerResult:
        """See ForwardMethod.calibrate_layer."""
        qkv = self._factors(layer, "qkv", taps.qkv)
        gate_up = self._factors(layer, "gate_up", taps.gate_up)
        smooth = replace(
            layer,
            attn_norm=layer.attn_norm / qkv,
            q=layer.q * qkv,
            k=layer.k * qkv,
            v=layer.v * qkv,
            mlp_norm=layer.mlp_norm / gate_up,
            gate=layer.gate * gate_up,
            up=layer.up * gate_up,
        )
        stored: dict[str, StoredWeight] = {
            part: int8_channel(smooth.weight(part)) for parts in LINEARS.values() for part in parts
        }
        vectors = {
            f"layers.{index}.attn_norm": smooth.attn_norm,
            f"layers.{index}.mlp_norm": smooth.mlp_norm,
        }
        # 8 bits move the streams by next to nothing: the dense layer stands for its rounded self.
        return LayerResult(matrices_of(index, smooth, stored), vectors, layer)

    def _factors(self, layer: DenseLayer, linear: str, x: torch.Tensor) -> torch.Tensor:
        """The best factors of a linear's inputs, float32 [K]."""
        rows = x[:: max(1, x.shape[0] // SEARCH_ROWS)]
        weights = layer.parts(linear)
        inputs = x.abs().amax(dim=0).float().clamp_min(LEAST)
        columns = torch.stack([w.abs().amax(dim=0) for w in weights]).amax(dim=0).clamp_min(LEAST)
        best = torch.ones_like(inputs)
        best_error = sum(_error(rows, w, best) for w in weights)
        for alpha in ALPHAS:
            self._check()
            factors = (inputs**alpha / columns ** (1 - alpha)).clamp_min(LEAST)
            error = sum(_error(rows, w, factors) for w in weights)
            if error < best_error:
                best, best_error = factors, error
        return best


def _error(x: torch.Tensor, weight: torch.Tensor, factors: torch.Tensor) -> float:
    """Squared error of the 8-bit product of x [R, K] and weight [N, K] under factors [K]."""
    smooth, scaled = x.float() / factors, weight * factors
    rows = quantize_rows(smooth, "int8")
    rounded = rows.dequantize(torch.float32)
    difference = int8_channel(scaled).dequantize(torch.float32) - scaled
    # Two products of small differences: neither drowns in what the products' own type rounds off.
    error = product((rounded - smooth).to(x.dtype), scaled)
    error += product(rounded.to(x.dtype), difference)
    return float(error.square().sum())
