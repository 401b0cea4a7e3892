"""Gated activations in plain torch: the truth that the kernels are held to."""

from __future__ import annotations

import torch


def silu_mul(gate_up: torch.Tensor) -> torch.Tensor:
    """silu of the first half times the second: gate_up [M, 2 I] -> [M, I]; fp32, rounded once."""
    gate, up = gate_up.float().chunk(2, dim=-1)
    return (torch.nn.functional.silu(gate) * up).to(gate_up.dtype)
