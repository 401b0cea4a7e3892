"""Linears on cards with asynchronous copies (SM 80 and up): one kernel for few rows, any format.

Owns which kernel sees how many rows: up to `few_rows` the tensor-core kernel on weights as stored,
above the library's product, on 8-bit codes or on weights made dense on the way.
"""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F

from quantchat.hardware.op_table import few_rows
from quantchat.kernels.linear.dequantize import dequantize as dense_from_tiles
from quantchat.kernels.linear.launch import NextNorm, RowWeight, Weight, linear, shape_of
from quantchat.kernels.linear.pack import GROUP_SIZES as INT4_GROUPS
from quantchat.kernels.linear.pack import TILE_ROWS, UNIT_COLUMNS, Int4Tiles, pack
from quantchat.kernels.linear.tiles import LinearShape
from quantchat.kernels.quantize.dense import dequantize_weight
from quantchat.ops.linear import LinearForm, bias_of, tensor_of
from quantchat.ops.linear_8bit import ManyRows, many_rows
from quantchat.ops.quantized_rows import CodeFormat, QuantizedRows
from quantchat.quant.scheme import ActivationFormat
from quantchat.quant.tensor import (
    DenseWeight,
    Fp8ChannelWeight,
    Int4GroupWeight,
    Int8ChannelWeight,
    StoredWeight,
)

ROW_COLUMNS = 16
"""8-bit rows are read this many columns at a time."""
DENSE_COLUMNS = 8


class TileLinear:
    """A stored weight, what multiplies few rows with it, and what multiplies many."""

    INT4_FORM: ClassVar[str] = "int4-tiles-1"
    INT4_GATED_FORM: ClassVar[str] = "int4-gated-tiles-1"
    INT8_FORM: ClassVar[str] = "int8-rows-1"
    FP8_FORM: ClassVar[str] = "fp8-rows-1"

    def __init__(
        self,
        weight: Weight,
        bias: torch.Tensor | None,
        *,
        gated: bool,
        many: ManyRows | None,
        dependent: bool,
    ) -> None:
        """`gated`: gate above up, [2 I, K]. `many` takes more rows than those; None: dense."""
        self.out_features, self.in_features = weight.rows, weight.columns
        self.gated = gated
        self.weight_bytes = weight.nbytes
        self.copy_bytes = 0
        self.code = _code(weight)
        self.kernel = f"tensor-core {self.code} kernel"
        self.owns_copy = isinstance(weight, Int4Tiles)
        form = None if many is None else many.form
        self.few_rows = few_rows(self.code, "16bit" if form is None else form)
        self._weight = weight
        self._bias = bias
        self._many = many
        self._dependent = dependent

    def shape(self, *, one_row: bool) -> LinearShape:
        """What the kernel's tile is chosen by in a decode step."""
        return shape_of(self._weight, gated=self.gated, one_row=one_row)

    @property
    def codes_read(self) -> CodeFormat | None:
        """The 8-bit form in which many rows are best handed over."""
        return None if self._many is None else self._many.form

    @property
    def input_scale(self) -> torch.Tensor | None:
        """float32 []: the scale of those codes, where calibration has fixed it."""
        return None if self._many is None else self._many.given

    def __call__(self, x: torch.Tensor | QuantizedRows) -> torch.Tensor:
        if isinstance(x, torch.Tensor) and x.shape[0] <= self.few_rows and not self._shuffled:
            return self.few(x)
        if self._many is not None:
            return self._many(x)
        assert isinstance(x, torch.Tensor)
        return F.linear(x, self._dense(x.dtype), self._bias)

    @property
    def _shuffled(self) -> bool:
        """Outputs of few rows come gated or not at all."""
        return isinstance(self._weight, Int4Tiles) and self._weight.gated

    def few(
        self,
        x: torch.Tensor,
        *,
        squares: torch.Tensor | None = None,
        eps: float = 0.0,
        row_scale: torch.Tensor | None = None,
        gated: bool = False,
        residual: torch.Tensor | None = None,
        following: NextNorm | None = None,
        out: torch.Tensor | None = None,
        out_dtype: torch.dtype | None = None,
    ) -> torch.Tensor:
        """See kernels.linear.launch.linear; x [M, K], M at most `few_rows`."""
        y: torch.Tensor = linear(
            x,
            self._weight,
            bias=self._bias,
            squares=squares,
            eps=eps,
            row_scale=row_scale,
            gated=gated,
            residual=residual,
            following=following,
            out=out,
            out_dtype=out_dtype,
            dependent=self._dependent,
        )
        return y

    def _dense(self, dtype: torch.dtype) -> torch.Tensor:
        weight = self._weight
        if isinstance(weight, Int4Tiles):
            dense: torch.Tensor = dense_from_tiles(weight, dtype)
            return dense
        if weight.scale is None:
            stored: torch.Tensor = weight.codes
            return stored
        assert weight.codes.dtype == torch.int8
        wide: torch.Tensor = dequantize_weight(weight.codes, weight.scale, dtype)
        return wide

    def packed(self) -> LinearForm | None:
        """See LinearOp.packed."""
        weight = self._weight
        if isinstance(weight, Int4Tiles):
            form = self.INT4_GATED_FORM if weight.gated else self.INT4_FORM
            tensors = {"words": weight.words, "pairs": weight.pairs}
            group = weight.group_size
        elif weight.scale is not None:
            form = self.INT8_FORM if self.code == "int8" else self.FP8_FORM
            tensors = {"codes": weight.codes, "scale": weight.scale}
            if self.input_scale is not None:
                tensors["input_scale"] = self.input_scale
            group = 0
        else:
            return None
        if self._bias is not None:
            tensors["bias"] = self._bias
        shape = (self.out_features, self.in_features)
        return LinearForm(form=form, shape=shape, group_size=group, tensors=tensors)


def _code(weight: Weight) -> str:
    if isinstance(weight, Int4Tiles):
        return "int4"
    return {torch.int8: "int8", torch.uint8: "fp8"}.get(weight.codes.dtype, "dense")


def tile_linear(
    weight: StoredWeight,
    bias: torch.Tensor | None,
    *,
    dtype: torch.dtype,
    gated: bool,
    activations: ActivationFormat,
    dependent: bool,
) -> TileLinear | None:
    """The op of a weight and its bias in `dtype`; None for shapes that the kernel does not take."""
    columns = weight.shape[1]
    made: Weight
    many: ManyRows | None = None
    if isinstance(weight, Int4GroupWeight):
        if weight.group_size not in INT4_GROUPS:
            return None
        made = pack(weight.codes(), weight.scale, weight.offset, weight.group_size, gated=gated)
    elif isinstance(weight, (Int8ChannelWeight, Fp8ChannelWeight)):
        if columns % ROW_COLUMNS:
            return None
        made = RowWeight(codes=weight.codes.contiguous(), scale=weight.scale.contiguous())
        many = many_rows(weight, bias, activations=activations, dtype=dtype)
    else:
        assert isinstance(weight, DenseWeight)
        if columns % DENSE_COLUMNS:
            return None
        made = RowWeight(codes=weight.dequantize(dtype).contiguous(), scale=None)
    return TileLinear(made, bias, gated=gated, many=many, dependent=dependent)


def restored_tiles(
    form: LinearForm,
    *,
    dtype: torch.dtype,
    gated: bool,
    activations: ActivationFormat,
    dependent: bool,
) -> TileLinear:
    """The op that `packed` was asked of; ValueError where the form is unknown or does not fit."""
    bias = bias_of(form)
    if form.form in (TileLinear.INT4_FORM, TileLinear.INT4_GATED_FORM):
        tiles = _restored_int4(form, gated=form.form == TileLinear.INT4_GATED_FORM)
        return TileLinear(tiles, bias, gated=gated, many=None, dependent=dependent)
    if form.form not in (TileLinear.INT8_FORM, TileLinear.FP8_FORM):
        raise ValueError(f"unknown form {form.form!r}")
    if form.shape[1] % ROW_COLUMNS:
        raise ValueError(f"{form.form}: {form.shape[1]} columns")
    scale = tensor_of(form, "scale", form.shape[:1], torch.float32)
    has_given = "input_scale" in form.tensors
    given = tensor_of(form, "input_scale", (), torch.float32) if has_given else None
    if form.form == TileLinear.INT8_FORM:
        codes = tensor_of(form, "codes", form.shape, torch.int8)
        stored: Int8ChannelWeight | Fp8ChannelWeight = Int8ChannelWeight(codes, scale, given)
    else:
        codes = tensor_of(form, "codes", form.shape, torch.uint8)
        stored = Fp8ChannelWeight(codes, scale, given)
    many = many_rows(stored, bias, activations=activations, dtype=dtype)
    weight = RowWeight(codes=codes, scale=scale)
    return TileLinear(weight, bias, gated=gated, many=many, dependent=dependent)


def _restored_int4(form: LinearForm, *, gated: bool) -> Int4Tiles:
    n, k = form.shape
    group = form.group_size
    if group not in INT4_GROUPS or k % group or (gated and n % 2):
        raise ValueError(f"{form.form}: group size {group} of {n} x {k}")
    step = TILE_ROWS // 2 if gated else TILE_ROWS
    tiles = -(-(n // 2 if gated else n) // step)
    block = max(group, UNIT_COLUMNS)
    wide = -(-k // block) * block
    words = tensor_of(form, "words", (tiles, wide // UNIT_COLUMNS, 32, 4), torch.int32)
    pairs = tensor_of(form, "pairs", (tiles, wide // group, 8, 2, 2), torch.float16)
    return Int4Tiles(words=words, pairs=pairs, rows=n, columns=k, group_size=group, gated=gated)
