"""One linear that a folder keeps in several tensors: which they are, and how they are read.

Owns the checks of shapes and types, which are done when a folder is opened. Sizes come from
tensors that are in the file, so nothing larger than a small multiple of it is ever made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NoReturn, TypeAlias

import torch

from quantchat.checkpoints.base import TensorEntry
from quantchat.checkpoints.layouts.codes import Codes
from quantchat.errors import CheckpointError

Tensors: TypeAlias = Mapping[str, torch.Tensor]
FLOATS = ("F16", "BF16", "F32")


@dataclass(frozen=True, slots=True, kw_only=True)
class PackedModule:
    """A linear's weight in packed parts."""

    entry: TensorEntry
    """As a tensor [N, K] of a kind of its own, with the bytes of all parts; it lies nowhere."""
    parts: Mapping[str, TensorEntry]
    """What the reader calls a part -> where it lies."""
    read: Callable[[Tensors], Codes]
    """Parts by name, on any device -> codes; raises CheckpointError where they do not fit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """What is packed in a folder."""

    modules: tuple[PackedModule, ...] = ()
    other: tuple[str, ...] = ()
    """Tensors besides that belong to the layout and are not used, such as scales of a cache."""
    notes: tuple[str, ...] = ()
    """What of the layout is left out, in words."""


class Parts:
    """The tensors of one module while its layout looks at them."""

    def __init__(self, tensors: Mapping[str, TensorEntry], name: str) -> None:
        self.name = name
        self.found: dict[str, TensorEntry] = {}
        self._tensors = tensors

    def has(self, suffix: str) -> bool:
        """Whether there is a tensor of that suffix."""
        return f"{self.name}.{suffix}" in self._tensors

    def take(
        self, suffix: str, dtypes: Iterable[str], shape: tuple[int, ...] | None = None
    ) -> TensorEntry:
        """A part that must be there; raises CheckpointError where it is not as it must be."""
        full = f"{self.name}.{suffix}"
        entry = self._tensors.get(full)
        if entry is None:
            path = next(iter(self._tensors.values())).file
            raise CheckpointError(
                path.parent, "is missing", tensor=full, hint="the model is incomplete"
            )
        wanted = tuple(dtypes)
        if entry.dtype not in wanted:
            raise CheckpointError(
                entry.file, f"has type {entry.dtype}, {' or '.join(wanted)} expected", tensor=full
            )
        if shape is not None and entry.shape != shape:
            raise CheckpointError(
                entry.file, f"has shape {entry.shape}, {shape} expected", tensor=full
            )
        self.found[suffix] = entry
        return entry

    def matrix(self, suffix: str, dtypes: Iterable[str]) -> tuple[int, int]:
        """The shape of a part that must have two dimensions, neither of them empty."""
        entry = self.take(suffix, dtypes)
        if len(entry.shape) != 2 or 0 in entry.shape:
            self.refuse(suffix, f"has shape {entry.shape}, a matrix is expected")
        return entry.shape[0], entry.shape[1]

    def refuse(self, suffix: str, problem: str) -> NoReturn:
        """Raise CheckpointError about a part."""
        full = f"{self.name}.{suffix}"
        raise CheckpointError(self._tensors[full].file, problem, tensor=full)

    def module(
        self, kind: str, shape: tuple[int, int], read: Callable[[Tensors], Codes]
    ) -> PackedModule:
        """The module of all parts taken."""
        first = next(iter(self.found.values()))
        entry = TensorEntry(
            name=f"{self.name}.weight",
            shape=shape,
            dtype=kind,
            offset=first.offset,
            nbytes=sum(part.nbytes for part in self.found.values()),
            file=first.file,
        )
        return PackedModule(entry=entry, parts=dict(self.found), read=read)


def owners(tensors: Mapping[str, TensorEntry], suffix: str) -> Iterator[str]:
    """Names of modules that have a tensor of that suffix, in order."""
    ending = f".{suffix}"
    return (name.removesuffix(ending) for name in sorted(tensors) if name.endswith(ending))


def checked_groups(parts: Parts, suffix: str, groups: torch.Tensor, count: int) -> torch.Tensor:
    """g_idx as int64, known to name groups that there are."""
    found = groups.long()
    if int(found.min()) < 0 or int(found.max()) >= count:
        parts.refuse(suffix, f"names groups beyond the {count} that there are")
    return found


def in_a_row(groups: torch.Tensor, group_size: int) -> bool:
    """Whether inputs lie in groups one after another."""
    order = torch.arange(groups.numel(), device=groups.device) // group_size
    return bool(torch.equal(groups, order))
