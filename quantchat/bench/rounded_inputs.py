"""Dense float32 operations whose linears see inputs as a scheme does that always rounds them.

What a gate holds such a scheme to: its rounding is no error of a kernel. The head rounds nothing.
"""

from __future__ import annotations

import torch

from quantchat.hardware.execution import ExecutionPlan
from quantchat.ops.linear import LinearOp, RoundedLinear
from quantchat.ops.torch_ops import TorchOps
from quantchat.quant.tensor import StoredWeight
from quantchat.spec import DecoderSpec


class ReferenceOps(TorchOps):
    """Plain torch in float32, for the scheme of a plan on any device."""

    def __init__(self, spec: DecoderSpec, plan: ExecutionPlan, device: torch.device) -> None:
        super().__init__(spec, device=device, dtype=torch.float32)
        self._plan = plan

    def linear(
        self, weight: StoredWeight, bias: torch.Tensor | None, *, gated: bool = False
    ) -> LinearOp:
        """See TorchOps.linear."""
        op = super().linear(weight, bias, gated=gated)
        return RoundedLinear(op, self._plan.activations) if self._plan.all_rows else op
