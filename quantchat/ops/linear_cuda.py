"""Linears on a card: tiles from SM 80 on; below, plain kernels for few rows, the library above."""

from __future__ import annotations

from typing import ClassVar

import torch
import torch.nn.functional as F

from quantchat.kernels._launch import sm_version
from quantchat.kernels.linear.launch import LOWEST_SM
from quantchat.kernels.quantize.dense import dequantize_weight
from quantchat.kernels.w8a16 import gemv as int8_gemv
from quantchat.kernels.wna16 import dequantize as int4_dense
from quantchat.kernels.wna16 import gemv as int4_gemv
from quantchat.kernels.wna16 import pack as int4_pack
from quantchat.kernels.wna16.tiles import MAX_ROWS
from quantchat.ops.linear import (
    DenseLinear,
    LinearForm,
    LinearOp,
    OrderedLinear,
    RoundedLinear,
    bias_of,
    tensor_of,
)
from quantchat.ops.linear_tiles import restored_tiles, tile_linear
from quantchat.quant.progressive import ProgressiveWeight
from quantchat.quant.scheme import ActivationFormat
from quantchat.quant.tensor import DenseWeight, Int4GroupWeight, Int8ChannelWeight, StoredWeight

INT4_GROUPS = (32, 64, 128)
INT8_COLUMNS = 16
"""The int8 kernel reads this many columns at a time."""


class Int4Linear:
    """w4a16: words int32 [N, K / 8] in the kernel's own order."""

    FORM: ClassVar[str] = "int4-planes-1"

    def __init__(
        self,
        words: torch.Tensor,
        scale: torch.Tensor,
        offset: torch.Tensor,
        bias: torch.Tensor | None,
        *,
        group_size: int,
    ) -> None:
        """scale, offset: float16 [N, K / group_size]."""
        self.out_features, self.in_features = words.shape[0], words.shape[1] * 8
        self._group = group_size
        self._words = words
        self._scale = scale
        self._offset = offset
        self._bias = bias
        self.weight_bytes = words.nbytes + scale.nbytes + offset.nbytes
        self.copy_bytes = 0
        self.kernel = "triton w4a16 GEMV"
        self.owns_copy = True

    @classmethod
    def from_weight(cls, weight: Int4GroupWeight, bias: torch.Tensor | None) -> Int4Linear:
        """Packs a stored weight."""
        return cls(
            int4_pack.pack(weight.codes(), weight.group_size),
            weight.scale.contiguous(),
            weight.offset.contiguous(),
            bias,
            group_size=weight.group_size,
        )

    @classmethod
    def from_packed(cls, form: LinearForm) -> Int4Linear:
        """From what `packed` gave; ValueError where it is not that."""
        n, k = form.shape
        if form.group_size not in INT4_GROUPS or k % form.group_size:
            raise ValueError(f"group size {form.group_size} of {k} columns")
        groups = k // form.group_size
        return cls(
            tensor_of(form, "words", (n, k // 8), torch.int32),
            tensor_of(form, "scale", (n, groups), torch.float16),
            tensor_of(form, "offset", (n, groups), torch.float16),
            bias_of(form),
            group_size=form.group_size,
        )

    def packed(self) -> LinearForm | None:
        """See LinearOp.packed."""
        tensors = {"words": self._words, "scale": self._scale, "offset": self._offset}
        if self._bias is not None:
            tensors["bias"] = self._bias
        return LinearForm(
            form=self.FORM,
            shape=(self.out_features, self.in_features),
            group_size=self._group,
            tensors=tensors,
        )

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[0] <= MAX_ROWS:
            y: torch.Tensor = int4_gemv.gemv(
                x,
                self._words,
                self._scale,
                self._offset,
                group_size=self._group,
                bias=self._bias,
            )
            return y
        dense = int4_dense.dequantize(self._words, self._scale, self._offset, self._group, x.dtype)
        return F.linear(x, dense, self._bias)


class Int8Linear:
    """w8a16: codes int8 [N, K] as stored, one float32 scale a row [N]."""

    FORM: ClassVar[str] = "int8-rows-1"

    def __init__(
        self,
        codes: torch.Tensor,
        scale: torch.Tensor,
        bias: torch.Tensor | None,
    ) -> None:
        self.out_features, self.in_features = codes.shape
        self._codes = codes
        self._scale = scale
        self._bias = bias
        self.weight_bytes = codes.nbytes + scale.nbytes
        self.copy_bytes = 0
        self.kernel = "triton w8a16 GEMV"
        self.owns_copy = False

    @classmethod
    def from_packed(cls, form: LinearForm) -> Int8Linear:
        """From what `packed` gave; ValueError where it is not that."""
        return cls(
            tensor_of(form, "codes", form.shape, torch.int8),
            tensor_of(form, "scale", form.shape[:1], torch.float32),
            bias_of(form),
        )

    def packed(self) -> LinearForm | None:
        """See LinearOp.packed."""
        tensors = {"codes": self._codes, "scale": self._scale}
        if self._bias is not None:
            tensors["bias"] = self._bias
        return LinearForm(
            form=self.FORM,
            shape=(self.out_features, self.in_features),
            group_size=0,
            tensors=tensors,
        )

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        if x.shape[0] <= MAX_ROWS:
            y: torch.Tensor = int8_gemv.gemv(x, self._codes, self._scale, bias=self._bias)
            return y
        return F.linear(x, dequantize_weight(self._codes, self._scale, x.dtype), self._bias)


def cuda_linear(
    weight: StoredWeight,
    bias: torch.Tensor | None,
    *,
    dtype: torch.dtype,
    gated: bool,
    activations: ActivationFormat,
    all_rows: bool = False,
    dependent: bool,
) -> LinearOp:
    """The op for a weight on a card; shapes that no kernel takes are made dense.

    `all_rows`: inputs are rounded however few, here where no kernel takes the shape; else who calls
    a TileLinear rounds them, since it knows the norm before.
    """
    bias = None if bias is None else bias.to(dtype)
    if sm_version(_device(weight)) >= LOWEST_SM:
        made = tile_linear(
            weight, bias, dtype=dtype, gated=gated, activations=activations, dependent=dependent
        )
        if made is not None:
            return made
    if all_rows and isinstance(weight, (Int8ChannelWeight, ProgressiveWeight)):
        dense = DenseLinear(weight.dequantize(dtype), bias, owns_copy=True)
        return RoundedLinear(dense, activations)
    if isinstance(weight, DenseWeight):
        return DenseLinear(weight.dequantize(dtype), bias)
    if isinstance(weight, Int4GroupWeight) and weight.group_size in INT4_GROUPS:
        plain = Int4Linear.from_weight(weight.in_a_row(), bias)
        return plain if weight.order is None else OrderedLinear(plain, weight.order)
    if isinstance(weight, Int8ChannelWeight) and weight.shape[1] % INT8_COLUMNS == 0:
        return Int8Linear(weight.codes.contiguous(), weight.scale.contiguous(), bias)
    return DenseLinear(weight.dequantize(dtype), bias, owns_copy=True)


def restored_linear(
    form: LinearForm,
    *,
    device: torch.device,
    dtype: torch.dtype,
    gated: bool,
    activations: ActivationFormat,
    dependent: bool,
) -> LinearOp:
    """The op that `packed` was asked of; ValueError where the form is unknown or does not fit."""
    if sm_version(device) >= LOWEST_SM:
        return restored_tiles(
            form, dtype=dtype, gated=gated, activations=activations, dependent=dependent
        )
    if form.form == Int4Linear.FORM:
        return Int4Linear.from_packed(form)
    if form.form == Int8Linear.FORM:
        return Int8Linear.from_packed(form)
    raise ValueError(f"unknown form {form.form!r}")


def _device(weight: StoredWeight) -> torch.device:
    return next(iter(weight.tensors().values())).device
