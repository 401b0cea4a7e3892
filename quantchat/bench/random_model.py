"""A model of a known shape with random weights that exist only on the device.

Stands where a checkpoint stands, so that loading, rounding and fusing are the real ones. A tensor's
values depend on its name alone: whoever reads it again gets the same ones on the same device.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping
from pathlib import Path

import torch

from quantchat.checkpoints.base import Container, Fetch, TensorEntry
from quantchat.errors import UsageError
from quantchat.model.families import ModelSource
from quantchat.model.names import our_names, tensor_shape
from quantchat.shapes import SHAPES
from quantchat.spec import DecoderSpec

DEVIATION = 0.02
"""Standard deviation of matrices, as models are initialised: activations stay finite."""


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
    names = {name: name for name in our_names(spec)}
    entries = {}
    for part in names:
        shape = tensor_shape(spec, part)
        elements = 1
        for size in shape:
            elements *= size
        entries[part] = TensorEntry(
            name=part, shape=shape, dtype="BF16", offset=0, nbytes=2 * elements, file=Path(name)
        )
    return ModelSource(RandomCheckpoint(name, entries), spec, names, True)


def shape_named(name: str) -> DecoderSpec:
    """The shape of that name; raises UsageError naming the known ones."""
    try:
        return SHAPES[name]
    except KeyError:
        raise UsageError(f"unknown shape {name!r}", hint=f"one of: {', '.join(SHAPES)}") from None
