"""Linears on the CPU: torch's packed int8 and int4 matmuls for few rows, dense for many.

The packed ops have fast paths for bfloat16 activations alone, and take scales in bfloat16.
Above `COPY_ROWS` rows a dense copy wins where there is room for one; the plan says so.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from quantchat.ops.linear import DenseLinear, LinearOp
from quantchat.quant.tensor import DenseWeight, Int4GroupWeight, Int8ChannelWeight, StoredWeight

COPY_ROWS = 8
"""Rows from which the dense copy is used."""
INT4_GROUPS = (32, 64, 128, 256)


class PackedLinear:
    """One of torch's packed ops, with an optional dense copy [N, K] for many rows."""

    def __init__(
        self,
        weight: Int8ChannelWeight | Int4GroupWeight,
        bias: torch.Tensor | None,
        copy_dtype: torch.dtype | None,
    ) -> None:
        self.out_features, self.in_features = weight.shape
        self._bias = bias
        self._group = 0
        if isinstance(weight, Int8ChannelWeight):
            self._codes = weight.codes.contiguous()
            self._scale = weight.scale.to(torch.bfloat16)
            self.kernel = "packed int8"
        else:
            self._group = weight.group_size
            self._codes = torch.ops.aten._convert_weight_to_int4pack_for_cpu(
                weight.codes().to(torch.int32), 1
            )
            scale = weight.scale.float().t()
            zero = weight.offset.float().t() + 8 * scale
            self._scale = torch.stack((scale, zero), dim=-1).to(torch.bfloat16).contiguous()
            self.kernel = "packed int4"
        self.weight_bytes = self._codes.nbytes + self._scale.nbytes
        self._copy = None if copy_dtype is None else weight.dequantize(copy_dtype)
        self.copy_bytes = 0 if self._copy is None else self._copy.nbytes

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self._copy is not None and x.shape[0] >= COPY_ROWS:
            y = F.linear(x.to(self._copy.dtype), self._copy).to(x.dtype)
        elif self._group:
            y = torch.ops.aten._weight_int4pack_mm_for_cpu(x, self._codes, self._group, self._scale)
        else:
            y = torch.ops.aten._weight_int8pack_mm(x, self._codes, self._scale)
        return y if self._bias is None else y.add_(self._bias)


def cpu_linear(
    weight: StoredWeight,
    bias: torch.Tensor | None,
    *,
    dtype: torch.dtype,
    copy_dtype: torch.dtype | None,
) -> LinearOp:
    """The op for a weight on the CPU; formats that no packed op takes are made dense."""
    bias = None if bias is None else bias.to(dtype)
    if dtype != torch.bfloat16 or isinstance(weight, DenseWeight):
        return DenseLinear(weight.dequantize(dtype), bias)
    n, k = weight.shape
    if isinstance(weight, Int4GroupWeight) and (
        n % 16 or k % 2 or weight.group_size not in INT4_GROUPS
    ):
        return DenseLinear(weight.dequantize(dtype), bias)
    return PackedLinear(weight, bias, copy_dtype)
