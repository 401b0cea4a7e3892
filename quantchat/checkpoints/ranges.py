"""Checks that the byte ranges a file states are real: inside the file, and apart."""

from __future__ import annotations

import itertools
from collections.abc import Iterable

from quantchat.checkpoints.base import TensorEntry
from quantchat.errors import CheckpointError


def check_range(entry: TensorEntry, file_size: int) -> None:
    """Raise CheckpointError where a tensor's bytes reach past the end of its file."""
    end = entry.offset + entry.nbytes
    if end > file_size:
        shown = str(end) if end < 1 << 63 else "an absurd byte"
        raise CheckpointError(
            entry.file,
            f"reaches to byte {shown}, the file has {file_size}",
            tensor=entry.name,
            hint="the file is cut off or damaged; download it again",
        )


def check_overlaps(entries: Iterable[TensorEntry]) -> None:
    """Raise CheckpointError where two tensors of one file share bytes."""
    ordered = sorted((entry for entry in entries if entry.nbytes), key=lambda entry: entry.offset)
    for before, after in itertools.pairwise(ordered):
        if after.offset < before.offset + before.nbytes:
            raise CheckpointError(
                after.file, f"shares bytes with tensor {before.name!r}", tensor=after.name
            )
