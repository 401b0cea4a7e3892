"""What a packed file holds besides bytes: which tensors make which part of a decoder.

Owns the index in the file's metadata and the stored formats' names there. Ops know their own
forms; here they are names.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch

from quantchat.model.packed_weights import BIAS, weight_of
from quantchat.ops.linear import LinearForm
from quantchat.quant.codebook import CodebookWeight
from quantchat.quant.lut import LutWeight
from quantchat.quant.progressive import ProgressiveWeight
from quantchat.quant.tensor import (
    DenseWeight,
    Fp8ChannelWeight,
    Int4GroupWeight,
    Int8ChannelWeight,
    StoredWeight,
)

STORED = "stored "
"""A form that begins so is a stored format, not an op's own."""
MAX_PARTS = 8
MAX_NOTES = 64
MAX_NOTE_CHARACTERS = 400
MAX_LINEARS = 1 << 16
MAX_SIZE = 1 << 40


@dataclass(frozen=True, slots=True, kw_only=True)
class PartEntry:
    """A LinearForm whose tensors are names in the file."""

    form: str
    shape: tuple[int, int]
    group_size: int
    tensors: Mapping[str, str]

    def load(self, tensors: Mapping[str, torch.Tensor]) -> LinearForm:
        """With the tensors themselves; ValueError where one is missing."""
        missing = [name for name in self.tensors.values() if name not in tensors]
        if missing:
            raise ValueError(f"{missing[0]} is missing")
        return LinearForm(
            form=self.form,
            shape=self.shape,
            group_size=self.group_size,
            tensors={key: tensors[name] for key, name in self.tensors.items()},
        )


@dataclass(slots=True)
class Index:
    """All parts of a decoder in a file."""

    linears: dict[str, tuple[PartEntry, ...]] = field(default_factory=dict)
    """Our fused name -> its parts, several where formats differ."""
    embedding: PartEntry | None = None
    vectors: dict[str, str] = field(default_factory=dict)
    """Our name of a norm weight -> tensor."""
    notes: tuple[str, ...] = ()
    """What was told when the parts were made."""

    def to_text(self) -> str:
        """As JSON."""
        return json.dumps(
            {
                "linears": {
                    name: [_described(part) for part in parts]
                    for name, parts in self.linears.items()
                },
                "embedding": None if self.embedding is None else _described(self.embedding),
                "vectors": self.vectors,
                "notes": self.notes,
            }
        )

    @staticmethod
    def from_text(text: str) -> Index:
        """What `to_text` gave; ValueError for anything else."""
        table = json.loads(text)
        if not isinstance(table, dict) or not isinstance(table.get("linears"), dict):
            raise ValueError("the index is not a table of linears")
        if len(table["linears"]) > MAX_LINEARS:
            raise ValueError("the index has too many linears")
        return Index(
            {name: _parts(described) for name, described in table["linears"].items()},
            _part(table.get("embedding")),
            _names(table.get("vectors")),
            _lines(table.get("notes", [])),
        )


def stored_form(weight: StoredWeight, bias: torch.Tensor | None) -> LinearForm:
    """A stored weight as a form, for ops that have none of their own."""
    tensors = {
        name: values.reshape(1) if values.dim() == 0 else values
        for name, values in weight.tensors().items()
    }
    if bias is not None:
        tensors[BIAS] = bias
    group = 0
    if isinstance(weight, (Int4GroupWeight, ProgressiveWeight)):
        group = weight.group_size
    elif isinstance(weight, CodebookWeight):
        group = weight.block_size
    kind = f"lut{weight.bits}" if isinstance(weight, LutWeight) else _NAMES[type(weight)]
    return LinearForm(form=STORED + kind, shape=weight.shape, group_size=group, tensors=tensors)


def stored_weight(form: LinearForm) -> tuple[StoredWeight, torch.Tensor | None]:
    """What `stored_form` was made of; ValueError where it does not fit together."""
    weight = weight_of(form.form.removeprefix(STORED), form)
    return weight, form.tensors.get(BIAS)


_NAMES: Mapping[type, str] = {
    DenseWeight: "dense",
    Int8ChannelWeight: "int8_channel",
    Fp8ChannelWeight: "fp8_channel",
    Int4GroupWeight: "int4_group",
    CodebookWeight: "codebook4",
    ProgressiveWeight: "progressive4",
}


def _described(part: PartEntry) -> dict[str, Any]:
    return {
        "form": part.form,
        "shape": list(part.shape),
        "group_size": part.group_size,
        "tensors": dict(part.tensors),
    }


def _parts(described: Any) -> tuple[PartEntry, ...]:
    if not isinstance(described, list) or not 0 < len(described) <= MAX_PARTS:
        raise ValueError("a linear has no list of parts")
    parts = tuple(_part(one) for one in described)
    if None in parts:
        raise ValueError("a part is missing")
    return tuple(part for part in parts if part is not None)


def _part(described: Any) -> PartEntry | None:
    if described is None:
        return None
    if not isinstance(described, dict) or not isinstance(described.get("form"), str):
        raise ValueError("a part has no form")
    shape = described.get("shape")
    if not isinstance(shape, list) or len(shape) != 2:
        raise ValueError(f"{described['form']}: a shape has two sizes")
    return PartEntry(
        form=described["form"],
        shape=(_size(shape[0]), _size(shape[1])),
        group_size=_size(described.get("group_size")),
        tensors=_names(described.get("tensors")),
    )


def _size(value: Any) -> int:
    if type(value) is not int or not 0 <= value < MAX_SIZE:
        raise ValueError(f"{value!r} is not a size")
    return value


def _names(described: Any) -> dict[str, str]:
    if not isinstance(described, dict) or not all(isinstance(v, str) for v in described.values()):
        raise ValueError("names of tensors are not a table of texts")
    return dict(described)


def _lines(described: Any) -> tuple[str, ...]:
    if not isinstance(described, list) or len(described) > MAX_NOTES:
        raise ValueError("the notes are no short list")
    if not all(isinstance(line, str) and len(line) <= MAX_NOTE_CHARACTERS for line in described):
        raise ValueError("a note is no short text")
    return tuple(described)
