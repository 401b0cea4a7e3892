"""Recommended models by the memory of the device: a literal table.

Owns the choice, all of it from the catalog and none of it gated. Which row suits a machine is
`hardware.shelf_choice`'s.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class ShelfRow:
    """A recommendation."""

    alias: str
    """In the catalog."""
    scheme: str
    """With which it fits beside SHELF_CONTEXT_TOKENS of context."""
    memory_gib: int
    """Of the smallest card that it is meant for."""


SHELF_CONTEXT_TOKENS = 8192

SHELF = (
    ShelfRow(alias="smollm2-360m", scheme="int8", memory_gib=2),
    ShelfRow(alias="qwen2.5-1.5b", scheme="int4", memory_gib=4),
    ShelfRow(alias="qwen3-4b", scheme="int8", memory_gib=8),
    ShelfRow(alias="qwen2.5-7b", scheme="int8", memory_gib=12),
    ShelfRow(alias="qwen3-8b", scheme="int8", memory_gib=16),
    ShelfRow(alias="qwen3-14b", scheme="int8", memory_gib=24),
    ShelfRow(alias="qwen3-32b", scheme="int8", memory_gib=48),
)
"""The smallest device first."""


def shelf_scheme(alias: str) -> str:
    """The scheme that is recommended for a model; "" for one that is not on the shelf."""
    return next((row.scheme for row in SHELF if row.alias == alias), "")
