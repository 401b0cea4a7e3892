"""Products of many rows on a card with both sides in 8 bits.

Owns what runs above CARD_ROWS rows for 8-bit weights: the library's int8 or fp8 product, scales and
bias. Weights are read as stored, codes [N, K] row after row; few rows are another op's affair.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Literal, Protocol, TypeAlias

import torch
import torch.nn.functional as F

from quantchat.kernels._launch import sm_version
from quantchat.kernels.quantize import rows as row_kernels
from quantchat.kernels.quantize.dense import dequantize_weight
from quantchat.kernels.quantize.matmul import LOWEST_SM, scaled_matmul
from quantchat.kernels.quantize.parted import LastingWeight
from quantchat.kernels.quantize.product import scale_product
from quantchat.ops.quantized_rows import CodeFormat, QuantizedRows
from quantchat.quant.scheme import ActivationFormat
from quantchat.quant.tensor import Fp8ChannelWeight, Int8ChannelWeight

INT8_LOWEST_ROWS = 17
"""torch's int8 product takes no fewer."""
INT8_MULTIPLE = 8
FP8_MULTIPLE = 16
KERNEL_MULTIPLE = 16
PARTED_SM = 90
"""Cards whose products may begin before the kernel ahead has ended."""
Int8Way: TypeAlias = Literal["library", "kernel"]
ANY_ROWS = sys.maxsize
INT8_WAYS: Mapping[int, tuple[tuple[int, Int8Way], ...]] = MappingProxyType(
    {90: ((ANY_ROWS, "kernel"),)}
)
"""By SM version: up to so many rows, whose int8 product. On an H100 ours takes 23 ms for the linears
of Llama-3.1-8B over 2048 rows, the library's 38."""
INT8_OTHERWISE: tuple[tuple[int, Int8Way], ...] = ((ANY_ROWS, "library"),)
PRODUCT_BYTES = 32 * 2**20
"""int32 products at a time: what the card's second-level cache keeps until they are scaled."""
PRODUCT_COLUMNS = 256
"""Columns of a product at a time are a multiple of this, the library's widest tile."""


class ManyRows(Protocol):
    """`y = x W^T + b` for many rows; x [M, K] 16-bit, or its codes -> y [M, N] 16-bit."""

    form: CodeFormat | None
    """Codes that are taken as they are; None where the product is in 16 bits."""
    given: torch.Tensor | None
    """float32 []: the scale that codes are to have, where calibration has fixed it."""

    def __call__(self, x: torch.Tensor | QuantizedRows) -> torch.Tensor: ...


class Int8Product:
    """int8 x int8 with int32 sums, then one pass for both scales and the bias.

    The sums of a wide matrix would go to memory and back, four bytes each; in pieces they stay in
    the card's cache.
    """

    form: CodeFormat | None = "int8"

    def __init__(
        self,
        codes: torch.Tensor,
        scale: torch.Tensor,
        bias: torch.Tensor | None,
        *,
        dtype: torch.dtype,
        given: torch.Tensor | None = None,
        product_bytes: int = PRODUCT_BYTES,
    ) -> None:
        """codes int8 [N, K]; scale float32 [N]; `dtype` of the result; `given`: see ManyRows."""
        self.given = given
        self._codes = codes
        self._scale = scale
        self._bias = bias
        self._dtype = dtype
        self._product_bytes = product_bytes

    def __call__(self, x: torch.Tensor | QuantizedRows) -> torch.Tensor:
        rows = quantized(x, "int8", self.given)
        count, columns = rows.shape[0], self._codes.shape[0]
        assert count >= INT8_LOWEST_ROWS, f"the int8 product takes no {count} rows"
        y = torch.empty(count, columns, dtype=self._dtype, device=rows.codes.device)
        step = product_columns(count, columns, self._product_bytes)
        buffer = torch.empty(count * step, dtype=torch.int32, device=rows.codes.device)
        for start in range(0, columns, step):
            part = slice(start, min(start + step, columns))
            width = part.stop - part.start
            product = buffer[: count * width].view(count, width)
            torch._int_mm(rows.codes, self._codes[part].t(), out=product)
            scale_product(
                product,
                rows.scale,
                self._scale[part],
                y[:, part],
                bias=None if self._bias is None else self._bias[part],
            )
        return y


class Fp8Product:
    """fp8 x fp8 with scales by row and column inside the library's product (SM 89 and up)."""

    form: CodeFormat | None = "fp8"

    def __init__(
        self,
        codes: torch.Tensor,
        scale: torch.Tensor,
        bias: torch.Tensor | None,
        *,
        dtype: torch.dtype,
        given: torch.Tensor | None = None,
        fast: bool = True,
    ) -> None:
        """codes uint8 [N, K], E4M3FN bits; scale float32 [N]; `given`: see ManyRows.

        `fast` sums inside the tensor cores, with fewer bits than fp32.
        """
        self.given = given
        self._codes = codes.view(torch.float8_e4m3fn)
        self._scale = scale.view(1, -1)
        # The library's product by rows writes bfloat16 and takes a bias in it.
        self._bias = None if bias is None else bias.to(torch.bfloat16)
        self._dtype = dtype
        self._fast = fast

    def __call__(self, x: torch.Tensor | QuantizedRows) -> torch.Tensor:
        rows = quantized(x, "fp8", self.given)
        y = torch._scaled_mm(
            rows.codes,
            self._codes.t(),
            scale_a=rows.scale.view(-1, 1),
            scale_b=self._scale,
            bias=self._bias,
            out_dtype=torch.bfloat16,
            use_fast_accum=self._fast,
        )
        return y.to(self._dtype)


class KernelProduct:
    """Either format in our own kernel, scaled in the same launch; any number of outputs."""

    def __init__(
        self,
        codes: torch.Tensor,
        scale: torch.Tensor,
        bias: torch.Tensor | None,
        *,
        form: CodeFormat,
        dtype: torch.dtype,
        given: torch.Tensor | None = None,
        lasting: bool = True,
    ) -> None:
        """codes [N, K] int8, or uint8 with E4M3FN bits; scale float32 [N]; `given`: see ManyRows.

        `lasting`: codes, scale and bias are not written any more.
        """
        self.form: CodeFormat | None = form
        self.given = given
        self._form: CodeFormat = form
        self._codes = codes if form == "int8" else codes.view(torch.float8_e4m3fn)
        self._scale = scale
        self._bias = bias
        self._dtype = dtype
        on_sm90 = sm_version(codes.device) == PARTED_SM
        self._lasting = LastingWeight.of(self._codes) if lasting and on_sm90 else None

    def __call__(self, x: torch.Tensor | QuantizedRows) -> torch.Tensor:
        rows = quantized(x, self._form, self.given)
        y: torch.Tensor = scaled_matmul(
            rows.codes,
            rows.scale,
            self._codes,
            self._scale,
            dtype=self._dtype,
            bias=self._bias,
            lasting=self._lasting,
        )
        return y


class ProductByRows:
    """One of several products of the same weight and codes, by the number of rows."""

    def __init__(self, parts: tuple[tuple[int, ManyRows], ...]) -> None:
        """Most rows of each and the product, ascending; the last takes any."""
        self.form: CodeFormat | None = parts[0][1].form
        self.given = parts[0][1].given
        assert all(product.form == self.form for _, product in parts)
        assert parts[-1][0] == ANY_ROWS
        self._parts = parts

    def __call__(self, x: torch.Tensor | QuantizedRows) -> torch.Tensor:
        rows = x.shape[0]
        return next(product for most, product in self._parts if rows <= most)(x)


class ExpandedProduct:
    """int8 codes made for each call from a smaller form, then our kernel's or the library's product."""

    form: CodeFormat | None = "int8"
    given: torch.Tensor | None = None

    def __init__(
        self,
        expand: Callable[[], torch.Tensor],
        scale: torch.Tensor,
        bias: torch.Tensor | None,
        *,
        dtype: torch.dtype,
    ) -> None:
        """`expand` gives codes int8 [N, K]; scale float32 [N]; `dtype` of the result."""
        self._expand = expand
        self._scale = scale
        self._bias = bias
        self._dtype = dtype

    def __call__(self, x: torch.Tensor | QuantizedRows) -> torch.Tensor:
        codes = self._expand()
        product = many_rows(
            Int8ChannelWeight(codes, self._scale),
            self._bias,
            activations="int8",
            dtype=self._dtype,
            lasting=False,
        )
        assert product is not None, f"no int8 product takes {tuple(codes.shape)}"
        return product(x)


class Fp8Dequantized:
    """fp8 weights made dense before the library's 16-bit product, on cards without fp8."""

    form: CodeFormat | None = None
    given: torch.Tensor | None = None

    def __init__(self, codes: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor | None) -> None:
        """codes uint8 [N, K], E4M3FN bits; scale float32 [N]."""
        self._codes = codes
        self._scale = scale
        self._bias = bias

    def __call__(self, x: torch.Tensor | QuantizedRows) -> torch.Tensor:
        assert isinstance(x, torch.Tensor)
        return F.linear(x, dequantize_weight(self._codes, self._scale, x.dtype), self._bias)


def many_rows(
    weight: Int8ChannelWeight | Fp8ChannelWeight,
    bias: torch.Tensor | None,
    *,
    activations: ActivationFormat,
    dtype: torch.dtype,
    lasting: bool = True,
) -> ManyRows | None:
    """What multiplies many rows with an 8-bit weight under the plan's `activations`.

    Shares the weight's memory. The library's products where they take the shape and INT8_WAYS has
    nothing else, else our kernel (SM 80 and up for int8, 89 for fp8). None for int8 weights that are
    multiplied in 16 bits: the caller dequantises them. `lasting`: see KernelProduct.
    """
    codes, scale = weight.codes.contiguous(), weight.scale.contiguous()
    given = weight.input_scale
    n, k = weight.shape
    if isinstance(weight, Fp8ChannelWeight):
        if activations != "fp8" or k % KERNEL_MULTIPLE:
            return Fp8Dequantized(codes, scale, bias)
        if n % FP8_MULTIPLE == 0 and dtype == torch.bfloat16:
            return Fp8Product(codes, scale, bias, dtype=dtype, given=given)
        return KernelProduct(codes, scale, bias, form="fp8", dtype=dtype, given=given)
    if activations != "int8":
        return None
    sm = sm_version(codes.device)
    makers: dict[Int8Way, Callable[[], ManyRows]] = {}
    if n % INT8_MULTIPLE == 0 and k % INT8_MULTIPLE == 0:
        makers["library"] = lambda: Int8Product(codes, scale, bias, dtype=dtype, given=given)
    if k % KERNEL_MULTIPLE == 0 and sm >= LOWEST_SM:
        makers["kernel"] = lambda: KernelProduct(
            codes, scale, bias, form="int8", dtype=dtype, given=given, lasting=lasting
        )
    if not makers:
        return None
    if len(makers) == 1:
        return next(iter(makers.values()))()
    ways = INT8_WAYS.get(sm, INT8_OTHERWISE)
    if len(ways) == 1:
        return makers[ways[0][1]]()
    return ProductByRows(tuple((most, makers[way]()) for most, way in ways))


def product_columns(rows: int, columns: int, product_bytes: int) -> int:
    """Columns of a product at a time, in pieces of about one size, each within `product_bytes`."""
    most = max(PRODUCT_COLUMNS, product_bytes // (4 * rows))
    pieces = -(-columns // most)
    even = -(-columns // pieces)
    return min(columns, -(-even // PRODUCT_COLUMNS) * PRODUCT_COLUMNS)


def quantized(
    x: torch.Tensor | QuantizedRows, form: CodeFormat, given: torch.Tensor | None = None
) -> QuantizedRows:
    """The codes of x [M, K], as they are where the op before made them; `given`: see ManyRows."""
    if isinstance(x, QuantizedRows):
        assert x.form == form, f"{form} codes are read, not {x.form}"
        return x
    return QuantizedRows(*row_kernels.quantize_rows(x.contiguous(), form, given=given))
