"""8-bit linears on the CPU whose many-row products take 8-bit activations as well.

int8 runs in torch's int8 product, twice as fast as bfloat16 where the processor has int8 units.
No CPU op multiplies fp8: its values are held as bfloat16, which is exact, and the inputs of prompts
are rounded as a card would round them, so that the answer is the card's.
"""

from __future__ import annotations

import functools

import torch
import torch.nn.functional as F

from quantchat.hardware.op_table import CARD_ROWS, CPU_COPY_ROWS
from quantchat.ops.linear import CopyKeeper, LinearForm
from quantchat.ops.quantized_rows import prepare_rows, quantize_rows
from quantchat.quant.scheme import ActivationFormat
from quantchat.quant.tensor import Fp8ChannelWeight, Int8ChannelWeight

CACHE_LINE_BYTES = 64
PACKED_COLUMNS = 16
_PROBE_SIZE = 64


@functools.cache
def int8_products_are_exact() -> bool:
    """Whether this processor sums int8 products without saturating; those without units may not."""
    codes = torch.full((_PROBE_SIZE, _PROBE_SIZE), 127, dtype=torch.int8)
    return bool((torch._int_mm(codes, codes) == 127 * 127 * _PROBE_SIZE).all())


def aligned(codes: torch.Tensor) -> torch.Tensor:
    """The codes at a cache line; torch's int8 op crashes on others (seen with AVX-512)."""
    return codes if codes.data_ptr() % CACHE_LINE_BYTES == 0 else codes.clone()


def packed_int8(x: torch.Tensor, codes: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """x [M, K] times codes [N, K] times scale [N], all bfloat16 but the codes, by torch's packed op.

    The op reads past the end of rows that are no multiple of 16 long; those are made dense.
    """
    if codes.shape[1] % PACKED_COLUMNS:
        return F.linear(x, codes.to(x.dtype)).mul_(scale)
    y: torch.Tensor = torch._weight_int8pack_mm(x, codes, scale)
    return y


class Int8RowsLinear(CopyKeeper):
    """int8 weights [N, K]: packed against bfloat16 rows when few, int8 x int8 when many."""

    def __init__(
        self,
        weight: Int8ChannelWeight,
        bias: torch.Tensor | None,
        copy_dtype: torch.dtype | None,
    ) -> None:
        self.out_features, self.in_features = weight.shape
        self._codes = aligned(weight.codes.contiguous())
        self._scale = weight.scale.to(torch.bfloat16)
        self._given = weight.input_scale
        self._bias = bias
        self._copy = None if copy_dtype is None else weight.codes.to(copy_dtype)
        self.weight_bytes = self._codes.nbytes + self._scale.nbytes
        self.copy_bytes = 0 if self._copy is None else self._copy.nbytes
        self.kernel = "packed int8, int8 products"
        self.owns_copy = False

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[0] < CPU_COPY_ROWS:
            y = packed_int8(x, self._codes, self._scale)
        else:
            rows = quantize_rows(x, "int8", self._given)
            if self._copy is not None:
                product = F.linear(rows.codes.to(self._copy.dtype), self._copy).float()
            elif int8_products_are_exact():
                product = torch._int_mm(rows.codes, self._codes.t()).float()
            else:
                product = F.linear(rows.codes.float(), self._codes.float())
            y = product.mul_(rows.scale[:, None]).mul_(self._scale).to(x.dtype)
        return y if self._bias is None else y.add_(self._bias)

    def packed(self) -> LinearForm | None:
        """See LinearOp.packed: the stored weight is what is kept."""
        return None


class Int8InputsLinear(CopyKeeper):
    """int8 weights [N, K] against rows rounded to int8, few or many, as integers in bfloat16.

    Their product with int8 codes is that of int8 x int8, which many rows take where the processor
    does it exactly; where outliers stay unrounded they are in the same product.
    """

    def __init__(
        self,
        weight: Int8ChannelWeight,
        bias: torch.Tensor | None,
        copy_dtype: torch.dtype | None,
        *,
        activations: ActivationFormat,
        owns_copy: bool,
    ) -> None:
        """`activations`: int8 or int8_outliers; `owns_copy`: the codes are not the stored weight's."""
        self.out_features, self.in_features = weight.shape
        self._codes = aligned(weight.codes.contiguous())
        self._scale = weight.scale.contiguous()
        self._ones = torch.ones(self.out_features, dtype=torch.bfloat16)
        self._bias = bias
        self._activations: ActivationFormat = activations
        self._copy = None if copy_dtype is None else weight.codes.to(copy_dtype)
        self.weight_bytes = self._codes.nbytes + self._scale.nbytes
        self.copy_bytes = 0 if self._copy is None else self._copy.nbytes
        self.kernel = "packed int8, rounded inputs"
        self.owns_copy = owns_copy
        self._multiplies = activations == "int8" and int8_products_are_exact()

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        rows, scale = prepare_rows(x, self._activations)
        many = x.shape[0] >= CPU_COPY_ROWS
        if many and self._copy is not None:
            product = F.linear(rows.to(self._copy.dtype), self._copy)
        elif many and self._multiplies:
            product = torch._int_mm(rows.to(torch.int8), self._codes.t())
        else:
            product = packed_int8(rows, self._codes, self._ones)
        y = product.float().mul_(scale[:, None]).mul_(self._scale).to(x.dtype)
        return y if self._bias is None else y.add_(self._bias)

    def packed(self) -> LinearForm | None:
        """See LinearOp.packed: the stored weight is what is kept."""
        return None


class Fp8Linear(CopyKeeper):
    """fp8 values held as bfloat16 [N, K], scaled after the product.

    `round_inputs`: above CARD_ROWS rows the inputs are rounded to fp8, as a card's product takes
    them.
    """

    def __init__(
        self,
        weight: Fp8ChannelWeight,
        bias: torch.Tensor | None,
        copy_dtype: torch.dtype | None,
        *,
        round_inputs: bool,
    ) -> None:
        self.out_features, self.in_features = weight.shape
        self._values = weight.floats().to(torch.bfloat16)
        self._scale = weight.scale.contiguous()
        self._given = weight.input_scale
        self._bias = bias
        self._copy = None if copy_dtype in (None, torch.bfloat16) else self._values.to(copy_dtype)
        self._round_inputs = round_inputs
        self.weight_bytes = self._values.nbytes + self._scale.nbytes
        self.copy_bytes = 0 if self._copy is None else self._copy.nbytes
        self.kernel = "fp8 values in bfloat16"
        self.owns_copy = True

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        many = self._copy is not None and x.shape[0] >= CPU_COPY_ROWS
        values = self._copy if self._copy is not None and many else self._values
        scale = self._scale[None]
        inputs = x
        if self._round_inputs and x.shape[0] > CARD_ROWS:
            rows = quantize_rows(x, "fp8", self._given)
            inputs = rows.codes
            scale = scale * rows.scale[:, None]
        y = (F.linear(inputs.to(values.dtype), values) * scale).to(x.dtype)
        return y if self._bias is None else y.add_(self._bias)

    def packed(self) -> LinearForm | None:
        """See LinearOp.packed: the stored weight is what is kept."""
        return None
