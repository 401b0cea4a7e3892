"""Dense float32 operations whose linears see inputs as a scheme does that always rounds them.

What a gate holds such a scheme to: its rounding is no error of a kernel. The head rounds nothing.
"""

from __future__ import annotations

import torch

from quantchat.hardware.execution import ExecutionPlan
from quantchat.kernels.quantize.reference import round_rows
from quantchat.ops.linear import LinearForm, LinearOp
from quantchat.ops.torch_ops import TorchOps
from quantchat.quant.scheme import OUTLIER_THRESHOLD
from quantchat.quant.tensor import StoredWeight
from quantchat.spec import DecoderSpec


class ReferenceOps(TorchOps):
    """Plain torch in float32, for the scheme of a plan."""

    def __init__(self, spec: DecoderSpec, plan: ExecutionPlan, device: torch.device) -> None:
        super().__init__(spec, device=device, dtype=torch.float32)
        self._rounds = plan.all_rows
        self._threshold = OUTLIER_THRESHOLD if plan.activations == "int8_outliers" else None

    def linear(
        self, weight: StoredWeight, bias: torch.Tensor | None, *, gated: bool = False
    ) -> LinearOp:
        """See TorchOps.linear."""
        op = super().linear(weight, bias, gated=gated)
        return RoundedInputs(op, self._threshold) if self._rounds else op


class RoundedInputs:
    """A linear that sees its inputs rounded to int8, a scale a row, outliers as they are."""

    def __init__(self, op: LinearOp, threshold: float | None) -> None:
        self.out_features, self.in_features = op.out_features, op.in_features
        self.weight_bytes, self.copy_bytes = op.weight_bytes, op.copy_bytes
        self.kernel, self.owns_copy = op.kernel, op.owns_copy
        self._op = op
        self._threshold = threshold

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return self._op(round_rows(x, threshold=self._threshold))

    def packed(self) -> LinearForm | None:
        """See LinearOp.packed."""
        return None
