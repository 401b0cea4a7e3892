"""A Hugging Face model folder: config.json and safetensors, in one file or in shards.

Owns shards and their index. Headers are `safetensors_header`; what the config means belongs to the model's
family file.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Literal

from quantchat.checkpoints.base import Fetch, TensorEntry
from quantchat.checkpoints.facts import Facts
from quantchat.checkpoints.files import DISK, Files
from quantchat.checkpoints.open_files import OpenFiles
from quantchat.checkpoints.safetensors_header import Header, read_header, values
from quantchat.errors import CheckpointError

if TYPE_CHECKING:
    import torch

    from quantchat.checkpoints.layouts.codes import Codes
    from quantchat.checkpoints.layouts.module import Layout, PackedModule

CONFIG = "config.json"
SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
SUFFIX = ".safetensors"


class SafetensorsFolder(OpenFiles):
    """An open model folder. See `Checkpoint` for how views live."""

    def __init__(self, folder: Path, files: Files = DISK) -> None:
        """Raises CheckpointError naming the file, and the tensor or shard that is missing."""
        super().__init__(files)
        self.path = folder
        config, config_bytes = files.read_object(folder / CONFIG)
        self.config = Facts(folder / CONFIG, MappingProxyType(config))
        self._headers: dict[Path, Header] = {}
        self._modules: dict[str, PackedModule] = {}
        self.notes: tuple[str, ...] = ()
        """What of a quantized folder's layout is left out, in words."""
        self._digest = hashlib.sha256(config_bytes)
        try:
            self.tensors = MappingProxyType(self._open_tensors())
        except BaseException:
            self.close()
            raise

    @property
    def container(self) -> Literal["safetensors"]:
        return "safetensors"

    @property
    def metadata(self) -> Mapping[str, str]:
        """The free texts in the files' headers; the last file wins."""
        return MappingProxyType(
            {
                key: text
                for header in self._headers.values()
                for key, text in header.metadata.items()
            }
        )

    def dense(
        self,
        name: str,
        dtype: torch.dtype | None = None,
        device: torch.device | str = "cpu",
        fetch: Fetch | None = None,
    ) -> torch.Tensor:
        """The tensor's values in torch shape, cast on the device; None means float32."""
        import torch

        entry = self.tensors[name]
        wanted = torch.float32 if dtype is None else dtype
        if name in self._modules:
            return self.codes(name, device, fetch).dense().to(wanted)
        raw = self.raw(name)
        moved = raw.to(device) if fetch is None else fetch(entry)
        stored = values(entry, moved)
        owned = stored.untyped_storage().data_ptr() != raw.untyped_storage().data_ptr()
        return stored.to(wanted, copy=not owned)

    def add_layout(self, layout: Layout) -> None:
        """Show packed linears as tensors [N, K] in place of their parts."""
        hidden = {part.name for module in layout.modules for part in module.parts.values()}
        hidden.update(layout.other)
        shown = {name: entry for name, entry in self.tensors.items() if name not in hidden}
        self._modules = {module.entry.name: module for module in layout.modules}
        shown |= {name: module.entry for name, module in self._modules.items()}
        self.tensors = MappingProxyType(shown)
        self.notes = layout.notes

    def is_packed(self, name: str) -> bool:
        """Whether a tensor is a packed linear, which `codes` reads and `raw` does not."""
        return name in self._modules

    def parts_of(self, name: str) -> tuple[TensorEntry, ...]:
        """What is read for a tensor, in that order: the parts of a packed linear, or itself."""
        module = self._modules.get(name)
        return (self.tensors[name],) if module is None else tuple(module.parts.values())

    def codes(
        self, name: str, device: torch.device | str = "cpu", fetch: Fetch | None = None
    ) -> Codes:
        """The codes of a packed linear, unpacked on the device."""
        module = self._modules[name]
        loaded = {}
        for part, entry in module.parts.items():
            moved = self._range(entry).to(device) if fetch is None else fetch(entry)
            loaded[part] = values(entry, moved)
        return module.read(loaded)

    def identity(self) -> str:
        """Hash of names, sizes, modification times, headers and config."""
        digest = self._digest.copy()
        for path, mapping in sorted(self._mappings.items()):
            header = self._headers[path].sha256
            line = f"|{path.name}|{mapping.size}|{mapping.modified_ns}|{header}"
            digest.update(line.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()[:20]

    def _open_tensors(self) -> dict[str, TensorEntry]:
        if self.files.exists(self.path / SINGLE):
            return dict(self._open_file(SINGLE).tensors)
        if self.files.exists(self.path / INDEX):
            return self._open_shards()
        names = [name for name in self.files.names(self.path) if name.endswith(SUFFIX)]
        if len(names) == 1:
            return dict(self._open_file(names[0]).tensors)
        if not names:
            raise CheckpointError(self.path, "holds no *.safetensors")
        raise CheckpointError(
            self.path,
            f"holds {len(names)} *.safetensors, but no {INDEX}",
            hint="download the model again, with its index",
        )

    def _open_file(self, name: str) -> Header:
        path = self.path / name
        self._headers[path] = read_header(self._bytes(path))
        return self._headers[path]

    def _open_shards(self) -> dict[str, TensorEntry]:
        index = self.path / INDEX
        table, index_bytes = self.files.read_object(index)
        self._digest.update(index_bytes)
        weight_map = Facts(index, table).section("weight_map")
        shard_of = {tensor: weight_map.text(tensor) for tensor in weight_map}
        if not shard_of:
            raise CheckpointError(index, "weight_map is empty")
        headers: dict[str, Header] = {}
        for shard in sorted(set(shard_of.values())):
            self._check_shard(index, shard)
            headers[shard] = self._open_file(shard)
        entries = {}
        for tensor, shard in shard_of.items():
            if tensor not in headers[shard].tensors:
                raise CheckpointError(
                    self.path / shard, f"lacks it, though {INDEX} says it is here", tensor=tensor
                )
            entries[tensor] = headers[shard].tensors[tensor]
        return entries

    def _check_shard(self, index: Path, shard: str) -> None:
        plain = shard.endswith(SUFFIX) and not any(mark in shard for mark in "/\\:\0")
        if not plain:
            raise CheckpointError(index, f"shard {shard[:80]!r} is not a plain *.safetensors name")
        try:
            there = self.files.exists(self.path / shard)
        except OSError:
            there = False
        if not there:
            raise CheckpointError(
                self.path,
                f"shard {shard[:80]} is missing",
                hint="the download is incomplete; pull the model again",
            )
