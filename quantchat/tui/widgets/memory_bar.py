"""A device's memory as one bar: who holds what, told apart by pattern as well as by colour.

Owns the parts and their look; what the figures are is the engine's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from textual.content import Content
from textual.style import Style

from quantchat.events import MemoryUse
from quantchat.tui.markup.palette import Palette

PartKey: TypeAlias = Literal[
    "weights", "kv_used", "kv_reserved", "workspace", "program", "others", "free"
]


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A stretch of the bar."""

    key: PartKey
    name: str
    fill: str
    """One cell of its pattern."""
    count_bytes: int


PARTS: tuple[tuple[PartKey, str, str], ...] = (
    ("weights", "weights", "█"),
    ("kv_used", "KV in use", "▓"),
    ("kv_reserved", "KV reserved", "▒"),
    ("workspace", "workspace", "▌"),
    ("program", "program", "▄"),
    ("others", "others", "░"),
    ("free", "free", "·"),
)
"""Key, name and pattern in the order of the bar; no two patterns look alike without colour."""


def parts_of(memory: MemoryUse, *, on_card: bool) -> tuple[Part, ...]:
    """Parts whose bytes add up to the device's total.

    A card's cache is taken whole at the start; the processor's, page by page as it fills.
    """
    ours = memory.device_total_bytes - memory.device_free_bytes - memory.others_bytes
    cache = memory.kv_reserved_bytes if on_card else memory.kv_used_bytes
    program = max(0, ours - memory.weight_bytes - memory.workspace_bytes - cache)
    held = {
        "weights": memory.weight_bytes,
        "kv_used": memory.kv_used_bytes,
        "kv_reserved": max(0, memory.kv_reserved_bytes - memory.kv_used_bytes),
        "workspace": memory.workspace_bytes,
        "program": program,
        "others": memory.others_bytes,
    }
    held["free"] = max(0, memory.device_total_bytes - sum(held.values()))
    return tuple(
        Part(key=key, name=name, fill=fill, count_bytes=held[key]) for key, name, fill in PARTS
    )


def cells_of(parts: Sequence[Part], width: int) -> list[int]:
    """Cells of each part: what is there gets one at least, the largest pays for it."""
    total = sum(part.count_bytes for part in parts)
    if not total or width < len(parts):
        return [0] * len(parts)
    cells = [
        max(1, round(part.count_bytes / total * width)) if part.count_bytes else 0 for part in parts
    ]
    while (over := sum(cells) - width) != 0:
        largest = max(range(len(cells)), key=cells.__getitem__)
        cells[largest] -= over if over < 0 else min(over, max(1, cells[largest] // 2))
    return cells


def memory_bar(parts: Sequence[Part], width: int, palette: Palette) -> Content:
    """The bar, `width` cells wide."""
    return Content.assemble(
        *(
            Content.styled(part.fill * cells, style_of(part.key, palette))
            for part, cells in zip(parts, cells_of(parts, width), strict=True)
            if cells
        )
    )


def style_of(key: PartKey, palette: Palette) -> Style:
    """A part's colour."""
    return {
        "weights": palette.primary,
        "kv_used": palette.accent,
        "kv_reserved": palette.accent,
        "workspace": palette.warning,
        "program": palette.success,
        "others": palette.error,
        "free": palette.muted,
    }[key]
