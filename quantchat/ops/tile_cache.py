"""Tiles measured on a card, kept as JSON for the next start; one file a card and kernel version.

Owns the file: its name, its bounds, what is believed of it. A file is a cache: whatever is wrong
with it, it counts as empty. When tiles are measured is the engine's affair.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from quantchat import paths
from quantchat.kernels._launch import sm_version
from quantchat.kernels.linear.tiles import FORM, FORMS, LinearShape, Tile, candidates, install

logger = logging.getLogger(__name__)

MAX_BYTES = 1 << 20
"""Longer files are not read."""
MAX_ENTRIES = 2048
"""A dozen shapes a model; the newest are kept."""
MAX_DIMENSION = 1 << 24


@dataclass(frozen=True, slots=True, kw_only=True)
class CardKey:
    """What measured tiles hold for."""

    card: str
    sm: int
    triton: str
    form: int = FORM
    """Of the kernel's tiles."""

    @property
    def file_name(self) -> str:
        """One file each."""
        words = f"{self.card}-sm{self.sm}-triton-{self.triton}-form{self.form}"
        return re.sub(r"[^a-z0-9.]+", "-", words.lower())[:160].strip("-.") + ".json"


def card_key(device: torch.device) -> CardKey:
    """The key of a card that is there."""
    import triton

    name = torch.cuda.get_device_name(device)
    return CardKey(card=name, sm=sm_version(device), triton=str(triton.__version__))


def use_stored_tiles(device: torch.device) -> None:
    """Have the linears take what was measured on this card before."""
    key = card_key(device)
    install(key.sm, read_tiles(key, paths.tiles_dir()))


def read_tiles(key: CardKey, folder: Path) -> dict[LinearShape, Tile]:
    """What is stored for a card; entries that are not a tile of today's choice are left out."""
    path = folder / key.file_name
    try:
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
        found = json.loads(data) if len(data) <= MAX_BYTES else None
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        logger.warning("%s is not read: %s", path, error)
        return {}
    if not isinstance(found, dict) or found.get("key") != asdict(key):
        logger.warning("%s is not read: it was written for something else", path)
        return {}
    entries = found.get("tiles")
    tiles: dict[LinearShape, Tile] = {}
    for entry in entries[:MAX_ENTRIES] if isinstance(entries, list) else []:
        pair = _pair(entry, key.sm)
        if pair is not None:
            tiles[pair[0]] = pair[1]
    return tiles


def store_tiles(key: CardKey, folder: Path, fresh: Mapping[LinearShape, Tile]) -> None:
    """Add to what is stored; a disk that cannot be written costs a log line and the next tuning."""
    tiles = {**read_tiles(key, folder), **fresh}
    newest = list(tiles.items())[-MAX_ENTRIES:]
    entries = [{"shape": asdict(shape), "tile": asdict(tile)} for shape, tile in newest]
    text = json.dumps({"key": asdict(key), "tiles": entries}, indent=1)
    path = folder / key.file_name
    temporary = ""
    try:
        with tempfile.NamedTemporaryFile(
            "w", dir=folder, prefix=".tiles-", delete=False, encoding="utf-8"
        ) as file:
            temporary = file.name
            file.write(text)
        os.replace(temporary, path)
    except OSError as error:
        logger.warning("tuned tiles are not kept: %s", error)
        if temporary:
            with contextlib.suppress(OSError):
                os.unlink(temporary)


def _pair(entry: object, sm: int) -> tuple[LinearShape, Tile] | None:
    """A shape and its tile, where both are whole and the tile is one that would be tried today."""
    if not isinstance(entry, dict):
        return None
    shape, tile = _shape(entry.get("shape")), _tile(entry.get("tile"))
    if shape is None or tile is None or tile not in candidates(shape, sm):
        return None
    return shape, tile


def _shape(fields: object) -> LinearShape | None:
    if not isinstance(fields, dict):
        return None
    code, gated, one_row = fields.get("code"), fields.get("gated"), fields.get("one_row")
    group_size = _whole(fields.get("group_size"))
    outputs, columns = _whole(fields.get("outputs")), _whole(fields.get("columns"))
    if not isinstance(code, str) or (code, group_size) not in FORMS:
        return None
    if not isinstance(gated, bool) or not isinstance(one_row, bool) or not outputs or not columns:
        return None
    return LinearShape(
        code=code,
        group_size=group_size,
        outputs=outputs,
        columns=columns,
        gated=gated,
        one_row=one_row,
    )


def _tile(fields: object) -> Tile | None:
    if not isinstance(fields, dict):
        return None
    names = ("warps", "blocks", "programs", "stages")
    numbers = [_whole(fields.get(name)) for name in names]
    if any(number is None for number in numbers):
        return None
    return Tile(**dict(zip(names, (number or 0 for number in numbers), strict=True)))


def _whole(value: object) -> int | None:
    """A count within bounds; JSON's true is none."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= MAX_DIMENSION:
        return None
    return value
