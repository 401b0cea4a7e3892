"""Which layout a folder has, by its quantization config; what is packed is known from then on.

Owns the choice and what no layout explains. Methods without a reader are refused by name.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING

from quantchat.checkpoints.facts import Facts
from quantchat.checkpoints.safetensors import SafetensorsFolder
from quantchat.errors import CheckpointError, UnsupportedModelError

if TYPE_CHECKING:
    from quantchat.checkpoints.layouts.module import Layout

OLD_CONFIGS: Mapping[str, Mapping[str, str]] = MappingProxyType(
    {
        "quantize_config.json": {".qweight": "gptq"},
        "quant_config.json": {".s1_scales": "qoq", ".lookup_table": "squeezellm"},
    }
)
"""Files beside config.json that quantizers wrote before its `quantization_config` was, and whose they
are by the tensors there.
"""
NO_VALUES = frozenset({"I8", "U8", "I16", "U16", "I32", "U32", "F8_E4M3", "F8_E5M2", "F8_E8M0"})
"""Types that are no weights by themselves."""


def read_layout(folder: SafetensorsFolder) -> Layout | None:
    """What is packed in a folder, None where it is no quantized one."""
    facts, method = _config(folder)
    if facts is None:
        return None
    from quantchat.checkpoints.layouts.readers import READERS

    reader = READERS.get(method)
    if reader is None:
        raise UnsupportedModelError(
            facts.path,
            f"weights quantized with {method[:40]} are not supported",
            hint=f"readable: {', '.join(READERS)}; or take the 16-bit repository, or a GGUF file",
        )

    def read_bytes(name: str) -> bytes:
        return folder.raw(name).numpy().tobytes()

    layout = reader(facts, folder.tensors, read_bytes)
    _check_rest(folder, layout)
    return layout


def _config(folder: SafetensorsFolder) -> tuple[Facts | None, str]:
    """The quantization config and its method."""
    facts = folder.config.optional_section("quantization_config")
    if facts is not None:
        return facts, facts.text("quant_method", default="unknown")
    for name, methods in OLD_CONFIGS.items():
        path = folder.path / name
        for ending, method in methods.items():
            if folder.files.exists(path) and any(
                tensor.endswith(ending) for tensor in folder.tensors
            ):
                return Facts(path, MappingProxyType(folder.files.read_object(path)[0])), method
    return None, ""


def _check_rest(folder: SafetensorsFolder, layout: Layout) -> None:
    """Raises CheckpointError where codes are left that the layout does not explain."""
    used = {part.name for module in layout.modules for part in module.parts.values()}
    for name, entry in folder.tensors.items():
        if name.endswith(".weight") and entry.dtype in NO_VALUES and name not in used:
            raise CheckpointError(
                entry.file,
                f"has type {entry.dtype}, and nothing that says what its codes stand for",
                tensor=name,
                hint="the model is incomplete, or its quantization_config is another's",
            )
