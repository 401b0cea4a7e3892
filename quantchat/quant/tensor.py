"""Stored formats: what a linear's weight is in memory, each with one way back to dense.

A weight is [N, K]: N outputs, K inputs, as in `y = x W^T`. Layouts and roundings produce these;
ops run them. No checkpoint quirk gets past this file.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeAlias

import torch

from quantchat.quant.codebook import CodebookWeight
from quantchat.quant.lut import LutWeight
from quantchat.quant.pack import pack_nibbles, unpack_nibbles
from quantchat.quant.progressive import ProgressiveWeight


@dataclass(frozen=True, slots=True)
class DenseWeight:
    """`data` [N, K] in a float dtype."""

    data: torch.Tensor

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K)."""
        return self.data.shape[0], self.data.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.data.nbytes

    def dequantize(self, dtype: torch.dtype) -> torch.Tensor:
        """[N, K] in `dtype`."""
        return self.data.to(dtype)

    def take_rows(self, rows: torch.Tensor) -> DenseWeight:
        """The rows [R] in that order."""
        return DenseWeight(self.data.index_select(0, rows))

    def tensors(self) -> dict[str, torch.Tensor]:
        """Parts by name, for the disk."""
        return {"data": self.data}


@dataclass(frozen=True, slots=True)
class Int8ChannelWeight:
    """`w = codes * scale`: int8 codes [N, K], float32 scale [N].

    input_scale, float32 []: the scale of the inputs' codes, where calibration has fixed it.
    """

    codes: torch.Tensor
    scale: torch.Tensor
    input_scale: torch.Tensor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K)."""
        return self.codes.shape[0], self.codes.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.codes.nbytes + self.scale.nbytes

    def dequantize(self, dtype: torch.dtype) -> torch.Tensor:
        """[N, K] in `dtype`, multiplied in float32."""
        return (self.codes.float() * self.scale[:, None]).to(dtype)

    def take_rows(self, rows: torch.Tensor) -> Int8ChannelWeight:
        """The rows [R] in that order."""
        return Int8ChannelWeight(
            self.codes.index_select(0, rows), self.scale.index_select(0, rows), self.input_scale
        )

    def tensors(self) -> dict[str, torch.Tensor]:
        """Parts by name, for the disk."""
        return {"codes": self.codes, "scale": self.scale, **_input_scale(self.input_scale)}


@dataclass(frozen=True, slots=True)
class Fp8ChannelWeight:
    """`w = codes * scale`: E4M3FN bits as uint8 codes [N, K], float32 scale [N].

    input_scale, float32 []: the scale of the inputs' codes, where calibration has fixed it.
    """

    codes: torch.Tensor
    scale: torch.Tensor
    input_scale: torch.Tensor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K)."""
        return self.codes.shape[0], self.codes.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        return self.codes.nbytes + self.scale.nbytes

    def floats(self) -> torch.Tensor:
        """The codes as float8_e4m3fn [N, K], the same memory."""
        return self.codes.view(torch.float8_e4m3fn)

    def dequantize(self, dtype: torch.dtype) -> torch.Tensor:
        """[N, K] in `dtype`, multiplied in float32."""
        return (self.floats().float() * self.scale[:, None]).to(dtype)

    def take_rows(self, rows: torch.Tensor) -> Fp8ChannelWeight:
        """The rows [R] in that order."""
        return Fp8ChannelWeight(
            self.codes.index_select(0, rows), self.scale.index_select(0, rows), self.input_scale
        )

    def tensors(self) -> dict[str, torch.Tensor]:
        """Parts by name, for the disk; floats, so that they are told from int8 by their type."""
        return {"codes": self.floats(), "scale": self.scale, **_input_scale(self.input_scale)}


@dataclass(frozen=True, slots=True)
class Int4GroupWeight:
    """`w = q * scale + offset` with one scale and offset for each group of inputs.

    packed: uint8 [N, K/2], low nibble first along K; scale, offset: float16 [N, K/group_size].
    order, int32 [K]: which input each column of codes is for; None where they stand in a row.
    """

    packed: torch.Tensor
    scale: torch.Tensor
    offset: torch.Tensor
    group_size: int
    order: torch.Tensor | None = None

    @property
    def shape(self) -> tuple[int, int]:
        """(N, K)."""
        return self.packed.shape[0], self.packed.shape[1] * 2

    @property
    def nbytes(self) -> int:
        """Bytes held."""
        order = 0 if self.order is None else self.order.nbytes
        return self.packed.nbytes + self.scale.nbytes + self.offset.nbytes + order

    def codes(self) -> torch.Tensor:
        """uint8 [N, K], 0 to 15, columns as they are stored."""
        return unpack_nibbles(self.packed)

    def dequantize(self, dtype: torch.dtype) -> torch.Tensor:
        """[N, K] in `dtype`, computed in float32."""
        n, k = self.shape
        q = self.codes().view(n, -1, self.group_size).float()
        w = q.mul_(self.scale.float()[..., None]).add_(self.offset.float()[..., None])
        w = w.view(n, k)
        return (w if self.order is None else w.index_select(1, self.order.argsort())).to(dtype)

    def take_rows(self, rows: torch.Tensor) -> Int4GroupWeight:
        """The rows [R] in that order."""
        return Int4GroupWeight(
            self.packed.index_select(0, rows),
            self.scale.index_select(0, rows),
            self.offset.index_select(0, rows),
            self.group_size,
            self.order,
        )

    def in_a_row(self) -> Int4GroupWeight:
        """The weight of inputs that were put in order before."""
        return replace(self, order=None)

    def tensors(self) -> dict[str, torch.Tensor]:
        """Parts by name, for the disk."""
        order = {} if self.order is None else {"order": self.order}
        return {"packed": self.packed, "scale": self.scale, "offset": self.offset, **order}


StoredWeight: TypeAlias = (
    DenseWeight
    | Int8ChannelWeight
    | Fp8ChannelWeight
    | Int4GroupWeight
    | CodebookWeight
    | LutWeight
    | ProgressiveWeight
)


def _input_scale(scale: torch.Tensor | None) -> dict[str, torch.Tensor]:
    return {} if scale is None else {"input_scale": scale}


def int4_group_weight(
    codes: torch.Tensor, scale: torch.Tensor, offset: torch.Tensor, group_size: int
) -> Int4GroupWeight:
    """From codes uint8 [N, K] and float scale, offset [N, K/group_size]."""
    return Int4GroupWeight(
        pack_nibbles(codes), scale.to(torch.float16), offset.to(torch.float16), group_size
    )
