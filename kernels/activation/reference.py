"""Activations in plain torch: the truth that the kernels are held to."""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
import torch.nn.functional as F

Activation: TypeAlias = Literal["silu", "gelu_tanh", "gelu"]


def activate(x: torch.Tensor, activation: Activation) -> torch.Tensor:
    """The function of one value, in fp32."""
    wide = x.float()
    if activation == "silu":
        return F.silu(wide)
    return F.gelu(wide, approximate="tanh" if activation == "gelu_tanh" else "none")


def gated(gate_up: torch.Tensor, activation: Activation) -> torch.Tensor:
    """Activation of the first half times the second: gate_up [M, 2 I] -> [M, I]; rounded once."""
    gate, up = gate_up.float().chunk(2, dim=-1)
    return (activate(gate, activation) * up).to(gate_up.dtype)


def plain(x: torch.Tensor, activation: Activation) -> torch.Tensor:
    """Activation of x [M, I], without a gate; fp32, rounded once."""
    return activate(x, activation).to(x.dtype)
