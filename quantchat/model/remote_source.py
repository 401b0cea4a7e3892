"""A model on the hub as the loader would see it, from its config and the beginnings of its files.

Owns what stands for files that are not here. Weights are never fetched: such a source is good for
shapes, types and sizes alone.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from quantchat.checkpoints.facts import Facts
from quantchat.checkpoints.gguf import GgufFile, Head, read_head
from quantchat.checkpoints.gguf_metadata import Cursor, MoreNeeded
from quantchat.checkpoints.json_file import MAX_JSON_BYTES, parse_object
from quantchat.checkpoints.layouts.table import OLD_CONFIGS
from quantchat.checkpoints.safetensors import CONFIG, SUFFIX, SafetensorsFolder
from quantchat.checkpoints.safetensors_header import LENGTH_BYTES, MAX_HEADER_BYTES
from quantchat.errors import CheckpointError
from quantchat.hub.remote_header import PIECE_BYTES, Beginning, RemoteRepo
from quantchat.model.config_hf import hf_traits, spec_from_config
from quantchat.model.families import ModelSource, source_of
from quantchat.spec import DecoderSpec

if TYPE_CHECKING:
    import torch

_LAYER = re.compile(r"\.\d+(?=\.)")
TIED = "tie_word_embeddings"
QUANTIZED = "quantization_config"


class RemoteFiles:
    """Implements `checkpoints.files.Files` over a repository; paths lie under its name."""

    def __init__(self, repo: RemoteRepo) -> None:
        self.repo = repo
        self.root = Path(repo.listing.repo)
        self.heads: dict[Path, Head] = {}
        """Of the GGUF files that were opened."""

    def exists(self, path: Path) -> bool:
        """See Files.exists."""
        return self._name(path) in self.repo.listing.files

    def names(self, folder: Path) -> list[str]:
        """See Files.names."""
        start = "" if folder == self.root else f"{self._name(folder)}/"
        inside = (
            name.removeprefix(start) for name in self.repo.listing.files if name.startswith(start)
        )
        return sorted(name for name in inside if "/" not in name)

    def open(self, path: Path) -> RemoteBytes:
        """See Files.open: the header is fetched; raises SourceError, too."""
        name = self._name(path)
        if self.repo.file(name) is None:
            raise CheckpointError(path, "is missing")
        with Beginning(self.repo, name) as beginning:
            if name.endswith(SUFFIX):
                _grow_safetensors(beginning)
            else:
                self.heads[path] = _grow_gguf(beginning, path)
            return RemoteBytes(self.repo, path, name, bytes(beginning.data))

    def read_object(
        self, path: Path, *, max_bytes: int = MAX_JSON_BYTES
    ) -> tuple[dict[str, Any], bytes]:
        """See Files.read_object; raises SourceError, too."""
        name = self._name(path)
        if self.repo.file(name) is None:
            raise CheckpointError(path, "is missing")
        data = self.repo.whole(name, max_bytes)
        return parse_object(data, path, "the file"), data

    def _name(self, path: Path) -> str:
        return path.relative_to(self.root).as_posix()


class RemoteBytes:
    """Implements `checkpoints.files.Bytes`: a header, and small pieces fetched when asked for.

    The file may be looked at from a byte `base` on: offsets and size count from there.
    """

    modified_ns = 0

    def __init__(self, repo: RemoteRepo, path: Path, name: str, data: bytes, base: int = 0) -> None:
        self.path = path
        self.size = repo.listing.files[name].size_bytes - base
        self._base = base
        self._repo = repo
        self._name = name
        self._data = data

    def buffer(self) -> memoryview:
        """See Bytes.buffer."""
        return memoryview(self._data)

    def view(self, offset: int, nbytes: int) -> torch.Tensor:
        """See Bytes.view; for tensors of a few bytes."""
        import torch

        if nbytes > PIECE_BYTES:
            raise CheckpointError(self.path, f"a small tensor of {nbytes} bytes is not sensible")
        piece = self._data[offset : offset + nbytes]
        if len(piece) < nbytes:
            piece = self._repo.piece(self._name, self._base + offset, nbytes)
        return torch.frombuffer(bytearray(piece), dtype=torch.uint8)

    def close(self) -> None:
        """See Bytes.close."""


class _RemoteFolder(SafetensorsFolder):
    """Small tensors by which layouts tell shapes are fetched once for a linear of all layers."""

    def __init__(self, root: Path, files: RemoteFiles) -> None:
        self._alike: dict[str, torch.Tensor] = {}
        super().__init__(root, files)

    def raw(self, name: str) -> torch.Tensor:
        """See Checkpoint.raw; of a small tensor, or of one like it in another layer."""
        key = _LAYER.sub(".#", name)
        if key not in self._alike:
            self._alike[key] = super().raw(name)
        return self._alike[key]


def remote_gguf(repo: RemoteRepo, name: str) -> tuple[ModelSource, Head]:
    """A GGUF model, and the head of its first file; raises CheckpointError, SourceError, Cancelled."""
    files = RemoteFiles(repo)
    file = GgufFile(files.root / name, files)
    return source_of(file), files.heads[file.path]


def remote_folder(repo: RemoteRepo) -> ModelSource:
    """A safetensors folder by its headers; raises CheckpointError, SourceError, Cancelled."""
    files = RemoteFiles(repo)
    return source_of(_RemoteFolder(files.root, files))


def plain_spec(repo: RemoteRepo) -> tuple[DecoderSpec, str] | None:
    """Spec and type by config.json alone; None where only headers tell all that matters.

    Raises CheckpointError, SourceError, Cancelled.
    """
    files = RemoteFiles(repo)
    path = files.root / CONFIG
    config = Facts(path, MappingProxyType(files.read_object(path)[0]))
    traits = hf_traits(config)
    inner = config.section(traits.section) if traits.section else config
    packed = QUANTIZED in config or any(files.exists(files.root / name) for name in OLD_CONFIGS)
    word = config.get("torch_dtype") or config.get("dtype") or inner.get("torch_dtype")
    dtype = {"bfloat16": "BF16", "float16": "F16", "float32": "F32"}.get(str(word))
    if packed or dtype is None or (TIED not in config and TIED not in inner):
        return None
    return spec_from_config(config, has_head=False), dtype


def _grow_gguf(beginning: Beginning, path: Path) -> Head:
    """Until metadata and tensor table are there."""
    beginning.grow()
    while True:
        held = bytes(beginning.data)
        try:
            return read_head(Cursor(memoryview(held), path, beginning.size_bytes))
        except MoreNeeded as more:
            beginning.grow(more.until_byte)


def _grow_safetensors(beginning: Beginning) -> None:
    """Until the header is there, as far as it is one."""
    beginning.grow()
    length = int.from_bytes(beginning.data[:LENGTH_BYTES], "little")
    if length <= min(MAX_HEADER_BYTES, beginning.size_bytes - LENGTH_BYTES):
        beginning.grow(LENGTH_BYTES + length)
