"""Tiles of the 8-bit products, and which one a shape gets."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Tile:
    """What a program computes, and how."""

    rows: int
    columns: int
    depth: int
    warps: int
    stages: int
    group: int = 8
    """Row tiles that follow each other before the next column tile."""
    copies: bool = False
    """Whole tiles are copied by the card (SM 90)."""
    programs: int = 0
    """Programs a multiprocessor that walk over all tiles; 0: one program a tile."""
    flatten: bool = False
