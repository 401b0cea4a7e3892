"""Names of packed files; known before torch is."""

from __future__ import annotations

import re

VERSION = 4
"""Goes up when rounding or the file changes, so that old files are not read; where rounding changes,
store.quality.FORMAT goes up with it."""


def packed_stem(identity: str, scheme: str, group_size: int, calibration: str = "") -> str:
    """How the names of a model's packed files under a scheme begin; the layout follows.

    `calibration`: key of the settings that a calibrated scheme was made with.
    """
    stem = f"{plain(identity)}-{plain(scheme)}-g{group_size}"
    return f"{stem}-c{plain(calibration)}" if calibration else stem


def packed_file(stem: str, layout: str) -> str:
    """The file of a layout; that of several where `layout` is a pattern."""
    return f"{stem}-{layout}-v{VERSION}.safetensors"


def plain(text: str) -> str:
    """The letters and digits of a text, for a file's name."""
    return re.sub(r"[^A-Za-z0-9]", "", text)
