"""SmoothQuant: outliers of inputs moved into weights, both in 8 bits, inputs token by token.

2211.10438. Factors go from the norm in front into q, k and v, and into gate and up; `o` and `down`
have no norm in front of them and stay as they are. Alpha is searched for each of the two.
"""

from __future__ import annotations

import torch

from quantchat.calibration.folding import fold, norms_of
from quantchat.calibration.forward import Taps
from quantchat.calibration.layer import LINEARS, DenseLayer
from quantchat.calibration.method import ForwardMethod, LayerResult, matrices_of
from quantchat.calibration.smoothing import smoothing_of
from quantchat.calibration.walk import LayerWalk
from quantchat.ops.quantized_rows import quantize_rows
from quantchat.quant.rounding import int8_channel
from quantchat.quant.tensor import StoredWeight


class SmoothQuant(ForwardMethod):
    """int8 rows for every linear of a layer, norms changed to fit."""

    def __init__(self, walk: LayerWalk) -> None:
        self._spec = walk.spec
        self._check = walk.check

    @torch.no_grad()
    def calibrate_layer(self, index: int, layer: DenseLayer, taps: Taps) -> LayerResult:
        """See ForwardMethod.calibrate_layer."""
        smooth = layer
        for linear in ("qkv", "gate_up"):
            factors = smoothing_of(
                linear,
                taps.of(linear),
                layer.parts(linear),
                self._spec,
                round_inputs=_by_token,
                check=self._check,
            )
            smooth = fold(smooth, linear, factors, self._spec)
        stored: dict[str, StoredWeight] = {
            part: int8_channel(smooth.weight(part)) for parts in LINEARS.values() for part in parts
        }
        # 8 bits move the streams by next to nothing: the dense layer stands for its rounded self.
        return LayerResult(matrices_of(index, smooth, stored), norms_of(index, smooth), layer)


def _by_token(x: torch.Tensor, weights: tuple[torch.Tensor, ...]) -> torch.Tensor:
    return quantize_rows(x, "int8").dequantize(torch.float32)
