"""silu(gate) * up over the fused output of the gate and up projections."""

from __future__ import annotations

import torch

from .rows import activate


def silu_mul(
    gate_up: torch.Tensor, *, out: torch.Tensor | None = None, dependent: bool = False
) -> torch.Tensor:
    """silu of the first half times the second: gate_up [M, 2 I] -> [M, I]; fp32, rounded once."""
    return activate(gate_up, "silu", out=out, dependent=dependent)
