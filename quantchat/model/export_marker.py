"""What quantchat.json says: the file that makes a folder an export. Read without torch.

Owns the marker's name and fields; weights are `exported`'s.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from quantchat.checkpoints.facts import Facts
from quantchat.checkpoints.safetensors import SafetensorsFolder
from quantchat.errors import UnsupportedModelError
from quantchat.model.spec_json import spec_from_json
from quantchat.quant.registry import SCHEMES
from quantchat.quant.scheme import Scheme
from quantchat.spec import DecoderSpec

MARKER = "quantchat.json"
"""A folder that holds it is an export."""
FORMAT = 1
METHOD = "quantchat"
"""quant_method in config.json, so that other programs know that they do not."""
MAX_MARKER_BYTES = 64 << 20
MAX_GROUP = 1 << 20


@dataclass(frozen=True, slots=True)
class Export:
    """The marker, checked; the index is checked by who reads it, tensors as they are read."""

    checkpoint: SafetensorsFolder
    spec: DecoderSpec
    scheme: Scheme
    group_size: int
    recipe: Mapping[str, Any]
    """How it was made, for people."""
    quality: tuple[Mapping[str, Any], ...]
    """What was measured when it was made, for people."""
    index: Mapping[str, Any]


def read_export(checkpoint: SafetensorsFolder) -> Export:
    """The export in an open folder; raises CheckpointError, UnsupportedModelError."""
    path = checkpoint.path / MARKER
    table, _ = checkpoint.files.read_object(path, max_bytes=MAX_MARKER_BYTES)
    facts = Facts(path, MappingProxyType(table))
    if facts.integer("format") != FORMAT:
        raise UnsupportedModelError(
            path, f"is of format {facts.integer('format')}, this version reads {FORMAT}"
        )
    name = facts.text("scheme")
    scheme = SCHEMES.get(name)
    if scheme is None or scheme.weights == "stored":
        raise UnsupportedModelError(path, f"scheme {name[:40]!r} is not known here")
    rows = facts.get("quality")
    return Export(
        checkpoint=checkpoint,
        spec=spec_from_json(facts.section("spec")),
        scheme=scheme,
        group_size=facts.integer("group_size", minimum=0, maximum=MAX_GROUP),
        recipe=facts.section("recipe"),
        quality=tuple(
            row for row in (rows if isinstance(rows, list) else ()) if isinstance(row, dict)
        ),
        index=facts.section("index"),
    )
