"""Linears on a card: Triton GEMV on packed codes for few rows, dequantise + library above."""

from __future__ import annotations

import torch
import torch.nn.functional as F

from quantchat.kernels.w8a16 import dequantize as int8_dense
from quantchat.kernels.w8a16 import gemv as int8_gemv
from quantchat.kernels.wna16 import dequantize as int4_dense
from quantchat.kernels.wna16 import gemv as int4_gemv
from quantchat.kernels.wna16 import pack as int4_pack
from quantchat.kernels.wna16.tiles import MAX_ROWS
from quantchat.ops.linear import DenseLinear, LinearOp
from quantchat.quant.tensor import DenseWeight, Int4GroupWeight, Int8ChannelWeight, StoredWeight

INT4_GROUPS = (32, 64, 128)
INT8_COLUMNS = 16
"""The int8 kernel reads this many columns at a time."""


class Int4Linear:
    """w4a16: words int32 [N, K / 8] in the kernel's own order."""

    def __init__(
        self, weight: Int4GroupWeight, bias: torch.Tensor | None, *, dependent: bool
    ) -> None:
        self.out_features, self.in_features = weight.shape
        self._group = weight.group_size
        self._words = int4_pack.pack(weight.codes(), weight.group_size)
        self._scale = weight.scale.contiguous()
        self._offset = weight.offset.contiguous()
        self._bias = bias
        self._dependent = dependent
        self.weight_bytes = self._words.nbytes + self._scale.nbytes + self._offset.nbytes
        self.copy_bytes = 0
        self.kernel = "triton w4a16 GEMV"
        self.owns_copy = True

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[0] <= MAX_ROWS:
            y: torch.Tensor = int4_gemv.gemv(
                x,
                self._words,
                self._scale,
                self._offset,
                group_size=self._group,
                bias=self._bias,
                dependent=self._dependent,
            )
            return y
        dense = int4_dense.dequantize(self._words, self._scale, self._offset, self._group, x.dtype)
        return F.linear(x, dense, self._bias)


class Int8Linear:
    """w8a16: codes int8 [N, K] as stored, one scale a row."""

    def __init__(
        self, weight: Int8ChannelWeight, bias: torch.Tensor | None, *, dependent: bool
    ) -> None:
        self.out_features, self.in_features = weight.shape
        self._codes = weight.codes.contiguous()
        self._scale = weight.scale.contiguous()
        self._bias = bias
        self._dependent = dependent
        self.weight_bytes = self._codes.nbytes + self._scale.nbytes
        self.copy_bytes = 0
        self.kernel = "triton w8a16 GEMV"
        self.owns_copy = False

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[0] <= MAX_ROWS:
            y: torch.Tensor = int8_gemv.gemv(
                x, self._codes, self._scale, bias=self._bias, dependent=self._dependent
            )
            return y
        return F.linear(x, int8_dense.dequantize(self._codes, self._scale, x.dtype), self._bias)


def cuda_linear(
    weight: StoredWeight,
    bias: torch.Tensor | None,
    *,
    dtype: torch.dtype,
    dependent: bool,
) -> LinearOp:
    """The op for a weight on a card; shapes that no kernel takes are made dense."""
    bias = None if bias is None else bias.to(dtype)
    if isinstance(weight, DenseWeight):
        return DenseLinear(weight.dequantize(dtype), bias)
    if isinstance(weight, Int4GroupWeight) and weight.group_size in INT4_GROUPS:
        return Int4Linear(weight, bias, dependent=dependent)
    if isinstance(weight, Int8ChannelWeight) and weight.shape[1] % INT8_COLUMNS == 0:
        return Int8Linear(weight, bias, dependent=dependent)
    return DenseLinear(weight.dequantize(dtype), bias, owns_copy=True)
