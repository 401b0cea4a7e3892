"""What schemes were measured to cost, model by model, remembered from one evaluation to the next.

One JSON file in the data folder, replaced in one step. Rows that this version cannot read are
dropped, a file that is no table of rows is moved aside. Nothing here is shipped: every row was
measured on this machine.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import os
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import MappingProxyType
from typing import Any

from quantchat import paths

FORMAT = 1
"""Goes up when a figure's meaning changes, so that old rows are not shown as new ones."""
FILE_LIMIT_BYTES = 8 << 20
KEEP_ROWS = 4096
"""The newest; a row takes some 600 bytes."""
TEXT_LIMIT = 400

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Quality:
    """One row of an evaluation: a scheme with a KV precision against the model's own weights."""

    identity: str
    """Of the model file: Checkpoint.identity."""
    model: str
    scheme: str
    group_size: int
    kv: str
    device: str
    """Name of the processor or card."""
    calibration: str
    """Key of the calibration settings, empty for schemes without."""
    reference: str
    """fp32 or fp16."""
    method: str
    """How the text was cut: text.METHODS, or chats."""
    text: str
    """Name of the text."""
    text_hash: str
    tokens: int
    """Scored tokens."""
    bits_per_weight: float
    weight_bytes: int
    kl_mean: float
    """Nats, reference || row."""
    kl_mean_se: float
    same_top: float
    """Share of positions with the same likeliest token."""
    same_top_se: float
    ppl_ratio: float
    """Perplexity over the reference's."""
    measured: str
    """Date and time, ISO 8601 in UTC."""
    version: str
    """Of quantchat."""

    @property
    def key(self) -> tuple[object, ...]:
        """What a newer measurement replaces."""
        return (
            *(self.identity, self.scheme, self.group_size, self.kv, self.device),
            *(self.calibration, self.reference, self.method, self.text_hash),
        )


def quality_file() -> Path:
    """Where the rows lie."""
    return paths.data_dir() / "quality.json"


def measured_quality(identity: str, scheme: str, kv: str) -> Quality | None:
    """The measurement of most tokens, the newest among equals; None where there is none."""
    known = _by_pair(quality_file()).get((identity, scheme, kv))
    return None if not known else max(known, key=lambda row: (row.tokens, row.measured))


def remember(rows: Iterable[Quality]) -> None:
    """Add rows, each in place of an older one of its key. Trouble is logged, never raised.

    Rows without a finite mean are left out.
    """
    fresh = {row.key: row for row in rows if math.isfinite(row.kl_mean)}
    if not fresh:
        return
    try:
        path = quality_file()
        kept = [row for row in _read(path, aside=True) if row.key not in fresh]
        table = [*kept, *fresh.values()][-KEEP_ROWS:]
        text = json.dumps({"format": FORMAT, "rows": [as_object(row) for row in table]}, indent=0)
        _replace(path, text.encode())
    except OSError as error:
        logger.warning("measured quality is not kept: %s", error)


_seen: dict[Path, tuple[tuple[int, int], Mapping[tuple[str, str, str], list[Quality]]]] = {}
"""By file: size and modification time at the last reading, and the rows then."""


def _by_pair(path: Path) -> Mapping[tuple[str, str, str], list[Quality]]:
    """Rows by identity, scheme and KV; the file is read again only once it has changed."""
    try:
        status = path.stat()
    except OSError:
        return MappingProxyType({})
    stamp = (status.st_size, status.st_mtime_ns)
    known = _seen.get(path)
    if known is not None and known[0] == stamp:
        return known[1]
    found: dict[tuple[str, str, str], list[Quality]] = {}
    for row in _read(path, aside=False):
        found.setdefault((row.identity, row.scheme, row.kv), []).append(row)
    _seen.clear()
    _seen[path] = (stamp, found)
    return found


def _read(path: Path, *, aside: bool) -> list[Quality]:
    """All rows that can be used; `aside`: a broken file is renamed before it is written over."""
    try:
        with path.open("rb") as file:
            data = file.read(FILE_LIMIT_BYTES + 1)
    except OSError:
        return []
    try:
        if len(data) > FILE_LIMIT_BYTES:
            raise ValueError(f"larger than {FILE_LIMIT_BYTES >> 20} MiB")
        table = json.loads(data)
        if not isinstance(table, dict) or not isinstance(table.get("rows"), list):
            raise ValueError("not a table of rows")
    except (ValueError, RecursionError) as error:
        logger.warning("%s cannot be used: %s", path.name, error)
        if aside:
            with contextlib.suppress(OSError):
                path.replace(path.with_name("quality.broken.json"))
        return []
    if table.get("format") != FORMAT:
        return []
    rows = (_row(described) for described in table["rows"][-KEEP_ROWS:])
    return [row for row in rows if row is not None]


_TYPES: Mapping[str, str] = MappingProxyType({f.name: str(f.type) for f in fields(Quality)})


def _row(described: Any) -> Quality | None:
    if not isinstance(described, dict):
        return None
    values: dict[str, Any] = {}
    for name, kind in _TYPES.items():
        value = described.get(name)
        if kind == "float":
            value = _number(value)
            if value is None:
                return None
        elif kind == "int":
            if type(value) is not int or not 0 <= value < 1 << 63:
                return None
        elif not isinstance(value, str) or len(value) > TEXT_LIMIT:
            return None
        values[name] = value
    row = Quality(**values)
    return row if math.isfinite(row.kl_mean) else None


def _number(value: Any) -> float | None:
    """A number as JSON gives it; null stands for what is none (NaN)."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e300:
        return None
    return float(value)


def as_object(row: Quality) -> dict[str, Any]:
    """A row as JSON has it: no NaN, no endless text."""
    return {
        name: value[:TEXT_LIMIT]
        if isinstance(value, str)
        else None
        if isinstance(value, float) and not math.isfinite(value)
        else value
        for name, value in asdict(row).items()
    }


def _replace(path: Path, data: bytes) -> None:
    number, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(number, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(name, path)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
