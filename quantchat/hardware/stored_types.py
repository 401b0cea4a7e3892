"""The tensor types of GGUF files: what each becomes in memory, and whether that is worth running."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

StoredRoute: TypeAlias = Literal["int4", "int8", "dense"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredType:
    """How the blocks of one GGUF tensor type become a stored format."""

    route: StoredRoute
    exact: bool
    """False where the blocks are rounded once more."""
    growth: float
    """Bytes in memory over bytes in the file."""


STORED_TYPES: Mapping[str, StoredType] = MappingProxyType(
    {
        "F32": StoredType(route="dense", exact=True, growth=1.0),
        "F16": StoredType(route="dense", exact=True, growth=1.0),
        "BF16": StoredType(route="dense", exact=True, growth=1.0),
        "Q4_0": StoredType(route="int4", exact=True, growth=5 / 4.5),
        "Q4_1": StoredType(route="int4", exact=True, growth=1.0),
        "Q4_K": StoredType(route="int4", exact=True, growth=5 / 4.5),
        "Q8_0": StoredType(route="int8", exact=False, growth=1.0),
        "Q6_K": StoredType(route="int8", exact=False, growth=8 / 6.5625),
        "Q5_1": StoredType(route="int8", exact=False, growth=8 / 6),
        "Q5_0": StoredType(route="int8", exact=False, growth=8 / 5.5),
        "Q5_K": StoredType(route="int8", exact=False, growth=8 / 5.5),
        "IQ4_NL": StoredType(route="int8", exact=False, growth=8 / 4.5),
        "IQ4_XS": StoredType(route="int8", exact=False, growth=8 / 4.25),
        "Q3_K": StoredType(route="int8", exact=False, growth=8 / 3.4375),
        "Q2_K": StoredType(route="int8", exact=False, growth=8 / 2.625),
    }
)
"""GGUF tensor types as the loader places them; bits per weight from ggml's block layouts."""

OTHER_TYPE = StoredType(route="int8", exact=False, growth=4.0)
"""A type without a row: read through its dense values."""


def stored_type(name: str) -> StoredType:
    """The row of a tensor type."""
    return STORED_TYPES.get(name, OTHER_TYPE)


def stored_growth(names: frozenset[str]) -> float:
    """Upper bound of memory over file bytes for a file of those types."""
    return max((stored_type(name).growth for name in names), default=1.0)


def runs_as_stored(names: frozenset[str]) -> bool:
    """Whether the file's own blocks are worth running: 4-bit ones exactly, or 8-bit throughout."""
    rows = {name: stored_type(name) for name in names}
    if any(row.route == "int4" for row in rows.values()):
        return True
    return {name for name, row in rows.items() if row.route != "dense"} == {"Q8_0"}
