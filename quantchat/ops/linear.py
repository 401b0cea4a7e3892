"""The contract of a linear operation and the dense one that every device has."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F


class LinearOp(Protocol):
    """`y = x W^T + b`; x [M, K] in the compute dtype -> y [M, N] in the compute dtype."""

    out_features: int
    in_features: int
    weight_bytes: int
    """Bytes of the stored weight as this op reads it in decode."""
    copy_bytes: int
    """Bytes held besides, for prefill; 0 where the stored weight serves both."""
    kernel: str
    """What runs, in a word, for the plan and the meters."""

    def __call__(self, x: torch.Tensor) -> torch.Tensor: ...


class DenseLinear:
    """Library matmul on a dense weight [N, K] in the compute dtype."""

    def __init__(self, weight: torch.Tensor, bias: torch.Tensor | None) -> None:
        self.out_features, self.in_features = weight.shape
        self.weight_bytes = weight.nbytes
        self.copy_bytes = 0
        self.kernel = f"dense {str(weight.dtype).removeprefix('torch.')}"
        self._weight = weight
        self._bias = bias

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return F.linear(x, self._weight, self._bias)
