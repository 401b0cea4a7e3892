"""A model of a known shape with random weights that exist only on the device.

Stands where a checkpoint stands, so that loading, rounding and fusing are the real ones. A tensor's
values depend on its name alone: whoever reads it again gets the same ones on the same device.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import torch

from quantchat.checkpoints.base import Container, Fetch, TensorEntry
from quantchat.errors import UsageError
from quantchat.hardware.memory import linears_of
from quantchat.model.families import ModelSource
from quantchat.model.names import HUGGING_FACE, tensor_names, tensor_shape
from quantchat.model.weights import Matrix, matrix_names
from quantchat.quant.rounding import FP8_MAX, fp8_round
from quantchat.quant.scheme import Scheme, WeightFormat
from quantchat.quant.tensor import (
    Fp8ChannelWeight,
    Int4GroupWeight,
    Int8ChannelWeight,
    StoredWeight,
)
from quantchat.shapes import SHAPES
from quantchat.spec import DecoderSpec

DEVIATION = 0.02
"""Standard deviation of matrices, as models are initialised: activations stay finite."""
FP8_DEVIATIONS = 4.0
"""Deviations of a row between 0 and its largest fp8 value, as normal weights have them."""


class RandomCheckpoint:
    """Implements `quantchat.checkpoints.base.Checkpoint`."""

    def __init__(self, name: str, tensors: Mapping[str, TensorEntry]) -> None:
        self.path = Path(name)
        self.container: Container = "safetensors"
        self.tensors = tensors

    def raw(self, name: str) -> torch.Tensor:
        """Random weights have no stored bytes."""
        raise UsageError(
            f"{self.path}: random weights are not stored in blocks",
            hint="choose fp16, int8 or int4, or a GGUF file with --model",
        )

    def dense(
        self,
        name: str,
        dtype: torch.dtype | None = None,
        device: torch.device | str = "cpu",
        fetch: Fetch | None = None,
    ) -> torch.Tensor:
        """N(0, 0.02) for matrices and biases, around 1 for norms; made in float32."""
        entry = self.tensors[name]
        generator = torch.Generator(device).manual_seed(zlib.crc32(name.encode()))
        values = torch.empty(entry.shape, dtype=torch.float32, device=device)
        is_norm = len(entry.shape) == 1 and not name.endswith("bias")
        values.normal_(1.0 if is_norm else 0.0, DEVIATION, generator=generator)
        return values.to(torch.float32 if dtype is None else dtype)

    def identity(self) -> str:
        """There is no file to identify; nothing made from this is kept."""
        return f"random-{self.path}"

    def close(self) -> None:
        """Nothing is open."""


def random_source(name: str, spec: DecoderSpec) -> ModelSource:
    """A model source of `spec`; its q and k rows pair neighbours already."""
    names = tensor_names(spec, HUGGING_FACE)
    entries = {}
    for ours, theirs in names.items():
        shape = tensor_shape(spec, ours)
        elements = 1
        for size in shape:
            elements *= size
        entries[theirs] = TensorEntry(
            name=theirs, shape=shape, dtype="BF16", offset=0, nbytes=2 * elements, file=Path(name)
        )
    return ModelSource(RandomCheckpoint(name, entries), spec, names, True)


def shape_named(name: str) -> DecoderSpec:
    """The shape of that name; raises UsageError naming the known ones."""
    try:
        return SHAPES[name]
    except KeyError:
        raise UsageError(f"unknown shape {name!r}", hint=f"one of: {', '.join(SHAPES)}") from None


class RandomCodes:
    """Random codes in place of a model's rounded weights; a `MatrixSource` of the loader."""

    def __init__(self, identity: str, scheme: Scheme, group_size: int) -> None:
        self.identity = identity
        self._scheme = scheme
        self._group_size = group_size

    def matrices(
        self, spec: DecoderSpec, device: torch.device, on_part: Callable[[str], None]
    ) -> Iterator[tuple[str, Matrix]]:
        """See MatrixSource.matrices."""
        return _RandomReader(self._scheme, self._group_size, device).matrices(spec, on_part)


class _RandomReader:
    """Matrices of random codes; values spread evenly with the deviation of the dense ones."""

    def __init__(self, scheme: Scheme, group_size: int, device: torch.device) -> None:
        self._scheme = scheme
        self._group_size = group_size
        self._device = device

    def matrices(
        self, spec: DecoderSpec, on_part: Callable[[str], None]
    ) -> Iterator[tuple[str, Matrix]]:
        """Every linear of the decoder, then the head."""
        rows, columns = _sizes(spec)
        for name in [*(fused for fused, _, _ in matrix_names(spec)), "head"]:
            on_part(name)
            part = name.rsplit(".", 1)[-1]
            wanted = self._scheme.head if name == "head" else "same"
            form = self._scheme.weights if wanted == "same" else wanted
            generator = torch.Generator(self._device).manual_seed(zlib.crc32(name.encode()))
            bias = None
            if part == "qkv" and spec.qkv_bias:
                bias = self._normal((rows[part],), 0.0, generator)
            weight = self._weight_of(rows[part], columns[part], form, generator)
            yield name, Matrix((weight,), bias)

    def _weight_of(
        self, n: int, k: int, form: WeightFormat, generator: torch.Generator
    ) -> StoredWeight:
        device = self._device
        if form == "int8_channel":
            codes = torch.empty((n, k), dtype=torch.int8, device=device)
            codes.random_(-127, 128, generator=generator)
            even = DEVIATION * 12**0.5 / 254
            scale = self._normal((n,), even, generator, even / 50).to(torch.bfloat16).float()
            return Int8ChannelWeight(codes, scale)
        if form == "fp8_channel":
            values = torch.empty((n, k), dtype=torch.bfloat16, device=device)
            spread = FP8_DEVIATIONS / FP8_MAX
            values.normal_(0.0, 1 / spread, generator=generator)
            scale = self._normal((n,), DEVIATION * spread, generator, DEVIATION * spread / 50)
            return Fp8ChannelWeight(fp8_round(values).view(torch.uint8), scale)
        assert form == "int4_group"
        packed = torch.empty((n, k // 2), dtype=torch.uint8, device=device)
        packed.random_(0, 256, generator=generator)
        even = DEVIATION * 12**0.5 / 15
        groups = (n, k // self._group_size)
        scale = self._normal(groups, even, generator, even / 50)
        offset = -7.5 * scale
        return Int4GroupWeight(packed, scale.half(), offset.half(), self._group_size)

    def _normal(
        self,
        shape: tuple[int, ...],
        mean: float,
        generator: torch.Generator,
        deviation: float = DEVIATION,
    ) -> torch.Tensor:
        values = torch.empty(shape, dtype=torch.float32, device=self._device)
        return values.normal_(mean, deviation, generator=generator)


def _sizes(spec: DecoderSpec) -> tuple[dict[str, int], dict[str, int]]:
    """Rows and columns of each kind of matrix."""
    linears = linears_of(spec)
    rows = {linear.name: linear.rows for linear in linears}
    columns = {linear.name: linear.columns for linear in linears}
    return rows | {"head": spec.vocab}, columns | {"head": spec.hidden}
