"""One GGUF of a repository by the head of another: the tensor table alone is fetched.

The types that a model is offered in have the same megabytes of vocabulary before their tables. Where
a file turns out to be otherwise, nobody is misled: None is the answer, and its head is read whole.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from quantchat.checkpoints.facts import Facts
from quantchat.checkpoints.gguf import GgufFile, Head, alignment_of, read_counts, read_tensors
from quantchat.checkpoints.gguf_metadata import Cursor, MoreNeeded
from quantchat.errors import CheckpointError
from quantchat.gguf_names import split_parts
from quantchat.hub.remote_header import PIECE_BYTES, RemoteRepo
from quantchat.model.families import ModelSource, source_of
from quantchat.model.remote_source import RemoteBytes, RemoteFiles

PREFIX_BYTES = 1 << 16
"""Where the architecture's keys stand, before the vocabulary."""
SLACK_BYTES = 1 << 15
"""Names and words on how a file was made differ by less."""
LEAST_BYTES = 1 << 20
"""Shorter heads are read whole."""
WHOLE = 4096
"""Windows begin at multiples of this, as data begins at a multiple of a part of it."""
_OWN_WORDS = ("general.", "tokenizer.", "quantize.", "split.")


@dataclass(frozen=True, slots=True)
class KnownHead:
    """What is remembered of a head that was read whole."""

    facts: Facts
    """Without the vocabulary."""
    first_name: str
    """Of the first tensor."""
    tensors: int
    table_start: int

    @staticmethod
    def of(head: Head) -> KnownHead | None:
        """None for a head that is no help: short, of a part of a model, or strangely aligned."""
        metadata = head.metadata
        if (
            head.table_start < LEAST_BYTES
            or not head.tensors
            or split_parts(metadata.path.name)
            or WHOLE % alignment_of(metadata)
        ):
            return None
        kept = {key: value for key, value in metadata.items() if not key.startswith("tokenizer.")}
        return KnownHead(
            facts=Facts(metadata.path, MappingProxyType(kept)),
            first_name=next(iter(head.tensors)),
            tensors=len(head.tensors),
            table_start=head.table_start,
        )


def sibling(repo: RemoteRepo, name: str, known: KnownHead) -> ModelSource | None:
    """The model in a file of the same repository, None where its head must be read whole.

    Raises SourceError, Cancelled.
    """
    size = repo.listing.files[name].size_bytes
    base = (known.table_start - SLACK_BYTES) // WHOLE * WHOLE
    count = min(PIECE_BYTES, 2 * SLACK_BYTES + WHOLE + known.tensors * 128, size - base)
    if count <= 0 or split_parts(name):
        return None
    files = RemoteFiles(repo)
    path = files.root / name
    try:
        if not _same_model(repo.piece(name, 0, min(PREFIX_BYTES, size)), path, size, known):
            return None
        data = repo.piece(name, base, count)
        word = known.first_name.encode()
        start = data.find(struct.pack("<Q", len(word)) + word)
        if start < 0:
            return None
        cursor = Cursor(memoryview(data), path, size - base)
        cursor.position = start
        facts = Facts(path, known.facts)
        entries = read_tensors(cursor, known.tensors, alignment_of(facts))
        held = RemoteBytes(repo, path, name, data, base)
        return source_of(_Sibling(path, facts, Head(3, facts, entries, "", start), held))
    except (CheckpointError, MoreNeeded):
        return None


def _same_model(prefix: bytes, path: Path, size: int, known: KnownHead) -> bool:
    """Whether the file says of its model what the known one says, as far as its prefix goes."""
    cursor = Cursor(memoryview(prefix), path, size)
    _, tensors, keys = read_counts(cursor)
    found: dict[str, Any] = {}
    try:
        for _ in range(keys):
            key = cursor.text("a metadata key", limit=len(prefix))
            found[key] = cursor.value("metadata")
    except MoreNeeded:
        pass
    told = {
        key: value
        for key, value in known.facts.items()
        if not key.startswith(_OWN_WORDS) or key in ("general.architecture", "general.alignment")
    }
    return tensors == known.tensors and all(found.get(key) == told[key] for key in told)


class _Sibling(GgufFile):
    """A GGUF file of whose head the metadata is another's."""

    def __init__(self, path: Path, facts: Facts, head: Head, held: RemoteBytes) -> None:
        self.path = path
        self.version = head.version
        self.metadata = facts
        self.tensors = MappingProxyType(head.tensors)
        self._mappings = {path: held}
