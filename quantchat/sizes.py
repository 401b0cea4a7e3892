"""Bytes as people read them."""

from __future__ import annotations


def size_words(count_bytes: float) -> str:
    """Bytes in the largest unit that fits, three digits."""
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count_bytes >= scale * 0.995:
            value = count_bytes / scale
            return f"{value:.2f} {unit}" if value < 10 else f"{value:.{value < 100:d}f} {unit}"
    return f"{count_bytes:.0f} B"
