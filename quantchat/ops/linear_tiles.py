"""Linears on cards with asynchronous copies (SM 80 and up): one kernel for few rows, any format.

Owns which kernel sees how many rows: up to `few_rows` the tensor-core kernel on weights as stored,
up to `stored_rows` another, above the library's product, on 8-bit codes or on weights made dense.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from quantchat.hardware.op_table import MANY_ROWS, WIDE_SM, few_rows, stored_rows
from quantchat.kernels._launch import PLAIN_SM, sm_version
from quantchat.kernels.linear.dequantize import dequantize as dense_from_tiles
from quantchat.kernels.linear.dequantize import expand
from quantchat.kernels.linear.launch import (
    NextNorm,
    RowWeight,
    Weight,
    form_of,
    linear,
    shape_of,
)
from quantchat.kernels.linear.many import linear_many
from quantchat.kernels.linear.pack import Int4Tiles
from quantchat.kernels.linear.reference import Gate
from quantchat.kernels.linear.table_dequantize import dequantize_table
from quantchat.kernels.linear.table_pack import TableTiles
from quantchat.kernels.linear.tiles import LinearShape
from quantchat.kernels.linear.wide import BoxedTiles, linear_wide, takes_wide
from quantchat.kernels.quantize.dense import dequantize_weight
from quantchat.kernels.sparse.add import add_sparse
from quantchat.kernels.sparse.product import sparse_product
from quantchat.ops.linear import LinearForm, bias_of, check_order, tensor_of
from quantchat.ops.linear_8bit import ExpandedProduct, ManyRows, many_rows
from quantchat.ops.quantized_rows import CodeFormat, QuantizedRows
from quantchat.ops.tile_forms import (
    kernel_weight,
    packed_weight,
    restored_sparse,
    restored_weight,
    sparse_tensors,
)
from quantchat.quant.lut import LutWeight, SparseRows
from quantchat.quant.scheme import ActivationFormat
from quantchat.quant.tensor import (
    Fp8ChannelWeight,
    Int4GroupWeight,
    Int8ChannelWeight,
    StoredWeight,
)
from quantchat.spec import DecoderSpec


def gate_kind(spec: DecoderSpec) -> Gate:
    """The gate of a model whose gates and products run in one launch."""
    assert takes_gate(spec), f"{spec.activation} does not ride on a linear"
    return "silu" if spec.activation == "silu" else "gelu_tanh"


def takes_gate(spec: DecoderSpec) -> bool:
    """Whether the kernel of few rows can gate on the way."""
    return spec.gated and spec.activation in ("silu", "gelu_tanh")


class TileLinear:
    """A stored weight, what multiplies few rows with it, and what multiplies many."""

    def __init__(
        self,
        weight: Weight,
        bias: torch.Tensor | None,
        *,
        gated: bool,
        many: ManyRows | None,
        dependent: bool,
        sparse: SparseRows | None = None,
        order: torch.Tensor | None = None,
    ) -> None:
        """`gated`: gate above up, [2 I, K]. `many` takes more rows than those; None: dense.

        `sparse` [N, K] is added to the weight. `order` int32 [K]: which input each column is for.
        """
        self.out_features, self.in_features = weight.rows, weight.columns
        self.gated = gated
        self.weight_bytes = weight.nbytes + (0 if sparse is None else sparse.nbytes)
        self.copy_bytes = 0
        self.code: str = form_of(weight)
        self.kernel = f"tensor-core {self.code} kernel"
        self.owns_copy = not isinstance(weight, RowWeight)
        form = None if many is None else many.form
        self.few_rows = few_rows(self.code, "16bit" if form is None else form)
        self._boxed = _boxed(weight)
        sm = PLAIN_SM if self._boxed is None else WIDE_SM
        self.stored_rows = stored_rows(self.code, "16bit" if form is None else form, sm)
        self._weight = weight
        self._sparse = sparse
        self._order = order
        self._bias = bias
        self._many = many
        self._dependent = dependent

    def shape(self, *, one_row: bool) -> LinearShape:
        """What the kernel's tile is chosen by in a decode step."""
        return shape_of(self._weight, gated=self.gated, one_row=one_row)

    @property
    def weight(self) -> Weight:
        """As the kernel reads it."""
        return self._weight

    @property
    def plain(self) -> bool:
        """One weight and nothing besides, of inputs as they come."""
        besides = (self._bias, self._sparse, self._order, self._many)
        two_level = isinstance(self._weight, Int4Tiles) and self._weight.channel is not None
        return all(each is None for each in besides) and not two_level

    def on(self, weight: Weight) -> TileLinear:
        """The same op on the same weight elsewhere in memory; for plain ones."""
        assert self.plain
        return TileLinear(weight, None, gated=self.gated, many=None, dependent=self._dependent)

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
        x = self._in_order(x)
        if x.shape[0] <= self.stored_rows and self.code in MANY_ROWS:
            return self._between(x)
        return F.linear(x, self._dense(x.dtype), self._bias)

    def _between(self, x: torch.Tensor) -> torch.Tensor:
        """Up to `stored_rows` rows [M, K]; outputs in their natural order, gated or not."""
        weight, x = self._weight, x.contiguous()
        if self._boxed is not None:
            assert isinstance(weight, Int4Tiles)
            wide: torch.Tensor = linear_wide(x, weight, bias=self._bias, boxed=self._boxed)
            return wide
        assert not isinstance(weight, TableTiles)
        many: torch.Tensor = linear_many(x, weight, bias=self._bias)
        return many

    @property
    def _shuffled(self) -> bool:
        """Outputs of few rows come gated or not at all."""
        return not isinstance(self._weight, RowWeight) and self._weight.gated

    def few(
        self,
        x: torch.Tensor,
        *,
        squares: torch.Tensor | None = None,
        eps: float = 0.0,
        row_scale: torch.Tensor | None = None,
        gated: bool = False,
        gate: Gate = "silu",
        residual: torch.Tensor | None = None,
        following: NextNorm | None = None,
        out: torch.Tensor | None = None,
        out_dtype: torch.dtype | None = None,
    ) -> torch.Tensor:
        """See kernels.linear.launch.linear; x [M, K], M at most `few_rows`."""
        x = self._in_order(x)
        extra: torch.Tensor | None = None
        if self._sparse is not None:
            entries = (self._sparse.starts, self._sparse.columns, self._sparse.values)
            extra = sparse_product(x, *entries, dependent=self._dependent)
        y: torch.Tensor = linear(
            x,
            self._weight,
            bias=self._bias,
            squares=squares,
            eps=eps,
            row_scale=row_scale,
            extra=extra,
            gated=gated,
            gate=gate,
            residual=residual,
            following=following,
            out=out,
            out_dtype=out_dtype,
            dependent=self._dependent,
        )
        return y

    def _in_order(self, x: torch.Tensor) -> torch.Tensor:
        """Inputs as the columns of the weight stand."""
        return x if self._order is None else x.index_select(1, self._order)

    def _dense(self, dtype: torch.dtype) -> torch.Tensor:
        weight = self._weight
        if isinstance(weight, TableTiles):
            table: torch.Tensor = dequantize_table(weight, dtype)
            sparse = self._sparse
            if sparse is not None:
                add_sparse(table, sparse.starts, sparse.columns, sparse.values)
            return table
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
        made = packed_weight(self._weight)
        if made is None:
            return None
        form, group, tensors = made
        if self.input_scale is not None:
            tensors["input_scale"] = self.input_scale
        if self._sparse is not None:
            tensors |= sparse_tensors(self._sparse)
        if self._order is not None:
            tensors["order"] = self._order
        if self._bias is not None:
            tensors["bias"] = self._bias
        shape = (self.out_features, self.in_features)
        return LinearForm(form=form, shape=shape, group_size=group, tensors=tensors)


def _boxed(weight: Weight) -> BoxedTiles | None:
    """The weight for the kernel of warpgroup products, where that takes it."""
    if not isinstance(weight, Int4Tiles) or sm_version(weight.words.device) != WIDE_SM:
        return None
    return BoxedTiles.of(weight) if takes_wide(weight) else None


def _many(
    weight: Weight,
    bias: torch.Tensor | None,
    *,
    given: torch.Tensor | None,
    activations: ActivationFormat,
    dtype: torch.dtype,
) -> ManyRows | None:
    """What multiplies many rows in 8 bits; `given`: scale of the inputs' codes."""
    if isinstance(weight, RowWeight) and weight.scale is not None:
        stored = Int8ChannelWeight if weight.codes.dtype == torch.int8 else Fp8ChannelWeight
        held = stored(weight.codes, weight.scale, given)
        return many_rows(held, bias, activations=activations, dtype=dtype)
    two_level = isinstance(weight, Int4Tiles) and weight.channel is not None
    if two_level and activations == "int8":
        return ExpandedProduct(lambda: expand(weight), weight.channel, bias, dtype=dtype)
    return None


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
    made = kernel_weight(weight, dtype=dtype, gated=gated)
    if made is None:
        return None
    order = weight.order if isinstance(weight, Int4GroupWeight) else None
    given = None
    if isinstance(weight, (Int8ChannelWeight, Fp8ChannelWeight)):
        given = weight.input_scale
    sparse = weight.sparse if isinstance(weight, LutWeight) else None
    return TileLinear(
        made,
        bias,
        gated=gated,
        many=_many(made, bias, given=given, activations=activations, dtype=dtype),
        dependent=dependent,
        sparse=sparse if sparse is not None and len(sparse.columns) else None,
        order=order,
    )


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
    weight = restored_weight(form, dtype=dtype, gated=gated)
    order = None
    if "order" in form.tensors:
        order = tensor_of(form, "order", form.shape[1:], torch.int32)
        check_order(order)
    has_given = "input_scale" in form.tensors
    given = tensor_of(form, "input_scale", (), torch.float32) if has_given else None
    return TileLinear(
        weight,
        bias,
        gated=gated,
        many=_many(weight, bias, given=given, activations=activations, dtype=dtype),
        dependent=dependent,
        sparse=restored_sparse(form),
        order=order,
    )
