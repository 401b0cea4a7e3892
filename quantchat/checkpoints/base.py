"""What every container gives: named byte ranges over a read-only mapping.

Owns the tensor record and the protocol. Parsing belongs to `gguf` and `safetensors`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, TypeAlias

if TYPE_CHECKING:
    import torch

Container: TypeAlias = Literal["gguf", "safetensors"]


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorEntry:
    """Where one tensor lies; the range is known to be inside the file."""

    name: str
    shape: tuple[int, ...]
    """Torch order, slowest dimension first."""
    dtype: str
    """The container's own name: F32, BF16, F8_E4M3, Q4_1, ..."""
    offset: int
    """First byte, from the start of the file."""
    nbytes: int
    file: Path


Fetch: TypeAlias = "Callable[[TensorEntry], torch.Tensor]"
"""Brings an entry's bytes to a device: uint8 [nbytes]."""


class Checkpoint(Protocol):
    """An open model file or folder. Use as a context manager, or call `close`.

    Tensors from `raw` are views on the mapping: they stay valid after `close` (the mapping goes
    with the last of them), must not be written to, and end the process if another program cuts
    the file off meanwhile.
    """

    @property
    def path(self) -> Path: ...

    @property
    def container(self) -> Container: ...

    @property
    def tensors(self) -> Mapping[str, TensorEntry]: ...

    def raw(self, name: str) -> torch.Tensor:
        """The tensor's bytes as stored: uint8 [nbytes], no copy. KeyError for unknown names."""

    def dense(
        self,
        name: str,
        dtype: torch.dtype | None = None,
        device: torch.device | str = "cpu",
        fetch: Fetch | None = None,
    ) -> torch.Tensor:
        """The tensor's values in torch shape, dequantised and cast on the device.

        The memory is the caller's own; `dtype` None means float32; `fetch` is a quicker way to
        the device than a plain copy of the mapping.
        """

    def identity(self) -> str:
        """Short hash for cache keys: names, sizes, modification times and header bytes."""

    def close(self) -> None: ...
