"""8-bit linears on the CPU whose many-row products take 8-bit activations as well.

int8 runs in torch's int8 product, twice as fast as bfloat16 where the processor has int8 units.
No CPU op multiplies fp8: its values are held as bfloat16, which is exact, and the inputs of prompts
are rounded as a card would round them, so that the answer is the card's.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from quantchat.hardware.op_table import CARD_ROWS, CPU_COPY_ROWS
from quantchat.ops.linear import LinearForm
from quantchat.ops.quantized_rows import quantize_rows
from quantchat.quant.tensor import Fp8ChannelWeight, Int8ChannelWeight

CACHE_LINE_BYTES = 64


def aligned(codes: torch.Tensor) -> torch.Tensor:
    """The codes at a cache line; torch's int8 op crashes on others (seen with AVX-512)."""
    return codes if codes.data_ptr() % CACHE_LINE_BYTES == 0 else codes.clone()


class Int8RowsLinear:
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
        self._bias = bias
        self._copy = None if copy_dtype is None else weight.codes.to(copy_dtype)
        self.weight_bytes = self._codes.nbytes + self._scale.nbytes
        self.copy_bytes = 0 if self._copy is None else self._copy.nbytes
        self.kernel = "packed int8, int8 products"
        self.owns_copy = False

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[0] < CPU_COPY_ROWS:
            y: torch.Tensor = torch.ops.aten._weight_int8pack_mm(x, self._codes, self._scale)
        else:
            rows = quantize_rows(x, "int8")
            if self._copy is None:
                product = torch._int_mm(rows.codes, self._codes.t()).float()
            else:
                product = F.linear(rows.codes.to(self._copy.dtype), self._copy).float()
            y = product.mul_(rows.scale[:, None]).mul_(self._scale).to(x.dtype)
        return y if self._bias is None else y.add_(self._bias)

    def packed(self) -> LinearForm | None:
        """See LinearOp.packed: the stored weight is what is kept."""
        return None


class Fp8Linear:
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
            rows = quantize_rows(x, "fp8")
            inputs = rows.codes
            scale = scale * rows.scale[:, None]
        y = (F.linear(inputs.to(values.dtype), values) * scale).to(x.dtype)
        return y if self._bias is None else y.add_(self._bias)

    def packed(self) -> LinearForm | None:
        """See LinearOp.packed: the stored weight is what is kept."""
        return None
