"""The tensor types of GGUF files and of packed folders: what each becomes in memory, and whether that is worth running."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

StoredRoute: TypeAlias = Literal["int4", "int8", "dense", "fp8", "table4", "progressive4"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredType:
    """How what a file holds under one type becomes a stored format."""

    route: StoredRoute
    exact: bool
    """False where the blocks are rounded once more."""
    growth: float
    """Bytes in memory over bytes in the file."""
    held_growth: float = 0.0
    """The same where nothing reads the codes and their values are held; 0 where that cannot be."""


STORED_TYPES: Mapping[str, StoredType] = MappingProxyType(
    {
        "F32": StoredType(route="dense", exact=True, growth=1.0),
        "F16": StoredType(route="dense", exact=True, growth=1.0),
        "BF16": StoredType(route="dense", exact=True, growth=1.0),
        "Q4_0": StoredType(route="int4", exact=True, growth=5 / 4.5),
        "Q4_1": StoredType(route="int4", exact=True, growth=1.0),
        "Q4_K": StoredType(route="int4", exact=True, growth=5 / 4.5),
        "MXFP4": StoredType(route="fp8", exact=True, growth=8 / 4.25, held_growth=16 / 4.25),
        "Q8_0": StoredType(route="int8", exact=False, growth=8 / 8.5),
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
"""GGUF tensor types as the loader places them; bits per weight from ggml's block layouts.

MXFP4, of folders too: values of a row fit FP8 with a scale of its own while its largest block is at
most 2^14 above its smallest, as those of models are; others are rounded, and it is told.
"""

PACKED_TYPES: Mapping[str, StoredType] = MappingProxyType(
    {
        "INT4-GROUPS": StoredType(route="int4", exact=True, growth=5 / 4.5),
        "INT3-GROUPS": StoredType(route="int4", exact=True, growth=5 / 3.5),
        "INT2-GROUPS": StoredType(route="int4", exact=True, growth=5 / 2.5),
        "INT4-ACT-ORDER": StoredType(route="int4", exact=True, growth=5 / 4.5),
        "INT3-ACT-ORDER": StoredType(route="int4", exact=True, growth=5 / 3.5),
        "INT2-ACT-ORDER": StoredType(route="int4", exact=True, growth=5 / 2.5),
        "INT8-ROWS": StoredType(route="int8", exact=True, growth=1.01),
        "INT8-GROUPS": StoredType(route="int8", exact=False, growth=1.0),
        "ACT-ORDER": StoredType(route="int8", exact=False, growth=8 / 2),
        "ODD-GROUPS": StoredType(route="int8", exact=False, growth=8 / 2),
        "ODD-BLOCKS": StoredType(route="int8", exact=False, growth=8 / 4),
        "NF4": StoredType(route="table4", exact=True, growth=4.5 / 4, held_growth=16 / 4),
        "FP4": StoredType(route="table4", exact=True, growth=4.5 / 4, held_growth=16 / 4),
        "FP8-ROWS": StoredType(route="fp8", exact=True, growth=1.01, held_growth=2.0),
        "FP8-BLOCKS": StoredType(route="int8", exact=False, growth=1.0),
        "NVFP4": StoredType(route="dense", exact=True, growth=16 / 4.5),
        "QOQ-INT4": StoredType(route="progressive4", exact=True, growth=4.25 / 4, held_growth=4.0),
        "LUT4": StoredType(route="table4", exact=True, growth=1.0, held_growth=16 / 4),
        "LUT3": StoredType(route="table4", exact=True, growth=4 / 3, held_growth=16 / 3),
    }
)
"""Packed linears of folders (checkpoints.layouts.kinds); growth is an upper bound over the sizes of
groups that there are. Tables, small floats and codes of two steps are read by the tensor-core kernel
alone."""
EIGHT_BIT = frozenset({"Q8_0", "INT8-ROWS", "FP8-ROWS", "MXFP4"})
PLAIN_TYPES = frozenset({"F32", "F16", "BF16"})

OTHER_TYPE = StoredType(route="int8", exact=False, growth=4.0)
"""A type without a row: read through its dense values."""


def stored_type(name: str) -> StoredType:
    """The row of a tensor type."""
    return STORED_TYPES.get(name) or PACKED_TYPES.get(name, OTHER_TYPE)


def stored_growth(names: frozenset[str], *, codes: bool = True) -> float:
    """Upper bound of memory over file bytes for a file of those types.

    `codes`: the tensor-core kernel is there, so that codes in tables and small floats are kept.
    """
    rows = (stored_type(name) for name in names)
    return max(
        (row.growth if codes else max(row.growth, row.held_growth) for row in rows), default=1.0
    )


def runs_as_stored(names: frozenset[str], *, codes: bool = True) -> bool:
    """Whether the file's own codes are worth running: 4-bit ones exactly, or 8-bit throughout."""
    rows = {name: stored_type(name) for name in names}
    if not codes and any(row.held_growth for row in rows.values()):
        return False
    routes = {row.route for row in rows.values() if row.exact}
    if routes & {"int4", "table4", "progressive4"}:
        return True
    eight = {name for name, row in rows.items() if row.route != "dense"}
    return bool(eight) and eight <= EIGHT_BIT


def is_packed(names: frozenset[str]) -> bool:
    """Whether a file of those types holds more than plain floats."""
    return bool(names - PLAIN_TYPES)
