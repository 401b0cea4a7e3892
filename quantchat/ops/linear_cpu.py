"""Linears on the CPU: torch's packed int8 and int4 matmuls for few rows, dense for many.

The packed ops have fast paths for bfloat16 activations alone, and take scales in bfloat16.
Above `COPY_ROWS` rows a dense copy wins where there is room for one; the plan says so.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from quantchat.hardware.op_table import CPU_COPY_ROWS
from quantchat.ops.linear import (
    CopyKeeper,
    DenseLinear,
    LinearForm,
    LinearOp,
    OrderedLinear,
    RoundedLinear,
    StackedLinear,
)
from quantchat.ops.linear_cpu_8bit import (
    Fp8Linear,
    Int8InputsLinear,
    Int8RowsLinear,
    aligned,
    packed_int8,
)
from quantchat.quant.pack import unpack_nibbles
from quantchat.quant.progressive import ProgressiveWeight
from quantchat.quant.scheme import ActivationFormat
from quantchat.quant.slices import SLICE_ELEMENTS_CPU
from quantchat.quant.tensor import (
    DenseWeight,
    Fp8ChannelWeight,
    Int4GroupWeight,
    Int8ChannelWeight,
    StoredWeight,
)

COPY_ROWS = CPU_COPY_ROWS
"""Rows from which the dense copy is used."""
INT4_GROUPS = (32, 64, 128, 256)
PACK_ROWS = 64
"""Rows of a block of torch's int4 op, or several blocks."""


class PackedLinear(CopyKeeper):
    """One of torch's packed ops, with an optional dense copy [N, K] for many rows."""

    def __init__(
        self,
        weight: Int8ChannelWeight | Int4GroupWeight,
        bias: torch.Tensor | None,
        copy_dtype: torch.dtype | None,
        *,
        owns_copy: bool = False,
    ) -> None:
        """`owns_copy`: an int8 weight is not the stored one."""
        self.out_features, self.in_features = weight.shape
        self._bias = bias
        self._group = 0
        if isinstance(weight, Int8ChannelWeight):
            self._codes = aligned(weight.codes.contiguous())
            self._scale = weight.scale.to(torch.bfloat16)
            self.kernel = "packed int8"
        else:
            self._group = weight.group_size
            self._codes = packed_int4(weight)
            scale = weight.scale.float().t()
            zero = weight.offset.float().t() + 8 * scale
            self._scale = torch.stack((scale, zero), dim=-1).to(torch.bfloat16).contiguous()
            self.kernel = "packed int4"
        self.owns_copy = owns_copy or self._group > 0
        self.weight_bytes = self._codes.nbytes + self._scale.nbytes
        self._copy = None if copy_dtype is None else weight.dequantize(copy_dtype)
        self.copy_bytes = 0 if self._copy is None else self._copy.nbytes

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if self._copy is not None and x.shape[0] >= COPY_ROWS:
            y = F.linear(x.to(self._copy.dtype), self._copy).to(x.dtype)
        elif self._group:
            y = torch._weight_int4pack_mm_for_cpu(x, self._codes, self._group, self._scale)
        else:
            y = packed_int8(x, self._codes, self._scale)
        return y if self._bias is None else y.add_(self._bias)

    def packed(self) -> LinearForm | None:
        """None: torch's layout is that of the processor it was packed on."""
        return None


class DenseCopyLinear(DenseLinear):
    """A 16-bit weight for few rows beside a float32 copy for many, on CPUs without bf16 units."""

    def __init__(
        self, weight: torch.Tensor, bias: torch.Tensor | None, *, owns_copy: bool = False
    ) -> None:
        super().__init__(weight, bias, owns_copy=owns_copy)
        self._copy = weight.float()
        self.copy_bytes = self._copy.nbytes

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[0] < COPY_ROWS:
            return super().__call__(x)
        y = F.linear(x.float(), self._copy).to(x.dtype)
        return y if self._bias is None else y.add_(self._bias)

    def without_copy(self) -> DenseLinear:
        """See CopyKeeper.without_copy."""
        return DenseLinear(self._weight, self._bias, owns_copy=self.owns_copy)


def packed_int4(weight: Int4GroupWeight) -> torch.Tensor:
    """The codes as torch's int4 op reads them, uint8 [N, K/2]; made in slices that stay in a cache.

    The op wants a code in four bytes. Its own blocks are of up to 64 rows, so that slices of these
    are the slices of the whole.
    """
    n, k = weight.shape
    packed = torch.empty((n, k // 2), dtype=torch.uint8)
    step = max(1, SLICE_ELEMENTS_CPU // (k * PACK_ROWS)) * PACK_ROWS
    for start in range(0, n, step):
        rows = slice(start, start + step)
        codes = unpack_nibbles(weight.packed[rows]).to(torch.int32)
        packed[rows] = torch.ops.aten._convert_weight_to_int4pack_for_cpu(codes, 1)
    return packed


def cpu_linear(
    weight: StoredWeight,
    bias: torch.Tensor | None,
    *,
    dtype: torch.dtype,
    copy_dtype: torch.dtype | None,
    activations: ActivationFormat = "16bit",
    all_rows: bool = False,
) -> LinearOp:
    """The op for a weight on the CPU; formats that no packed op takes are made dense.

    `activations`: what the inputs of many rows are rounded to, or with `all_rows` those of any,
    where the weight is of that kind.
    """
    bias = None if bias is None else bias.to(dtype)
    rounds = all_rows and isinstance(weight, (Int8ChannelWeight, ProgressiveWeight))
    if dtype != torch.bfloat16:
        held = not isinstance(weight, DenseWeight)
        dense = DenseLinear(weight.dequantize(dtype), bias, owns_copy=held)
        return RoundedLinear(dense, activations) if rounds else dense
    if isinstance(weight, ProgressiveWeight):
        codes = Int8ChannelWeight(weight.expand(), weight.scale)
        if rounds:
            return Int8InputsLinear(
                codes, bias, copy_dtype, activations=activations, owns_copy=True
            )
        return PackedLinear(codes, bias, copy_dtype, owns_copy=True)
    if isinstance(weight, Fp8ChannelWeight):
        return Fp8Linear(weight, bias, copy_dtype, round_inputs=activations == "fp8")
    if isinstance(weight, Int8ChannelWeight):
        if rounds:
            return Int8InputsLinear(
                weight, bias, copy_dtype, activations=activations, owns_copy=False
            )
        if activations == "int8":
            return Int8RowsLinear(weight, bias, copy_dtype)
        return PackedLinear(weight, bias, copy_dtype)
    if isinstance(weight, Int4GroupWeight) and _packs(weight):
        packed = PackedLinear(weight.in_a_row(), bias, copy_dtype)
        return packed if weight.order is None else OrderedLinear(packed, weight.order)
    held = not isinstance(weight, DenseWeight)
    made = DenseCopyLinear if copy_dtype == torch.float32 else DenseLinear
    return made(weight.dequantize(dtype), bias, owns_copy=held)


def without_copies(op: LinearOp) -> LinearOp:
    """The op on the weight as it is stored, for any number of rows."""
    if isinstance(op, StackedLinear):
        return StackedLinear([without_copies(part) for part in op.parts])
    if isinstance(op, OrderedLinear):
        return OrderedLinear(without_copies(op.op), op.order)
    return op.without_copy() if isinstance(op, CopyKeeper | DenseCopyLinear) else op


def _packs(weight: Int4GroupWeight) -> bool:
    """Whether torch's int4 op takes the shape."""
    n, k = weight.shape
    return n % 16 == 0 and k % 2 == 0 and weight.group_size in INT4_GROUPS
