"""A bounded table of records in one JSON file of the data folder, replaced in one step.

Rows that this version cannot read are dropped, a file that is no table of rows is moved aside.
Owns the file; what the rows mean belongs to who keeps them.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import threading
from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from quantchat import paths
from quantchat.whole_file import replace_file

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

    class Record(DataclassInstance, Protocol):
        """A frozen record of texts, whole numbers and floats."""

        @property
        def key(self) -> tuple[object, ...]:
            """What a newer row replaces."""


Row = TypeVar("Row", bound="Record")

FILE_LIMIT_BYTES = 8 << 20
TEXT_LIMIT = 400

logger = logging.getLogger(__name__)


class RowFile(Generic[Row]):
    """The rows of one file; it is read again only once it has changed."""

    def __init__(
        self,
        name: str,
        row: type[Row],
        *,
        form: int,
        keep: int,
        group: Callable[[Row], Hashable],
        usable: Callable[[Row], bool] = lambda row: True,
    ) -> None:
        """`form` goes up when a figure's meaning changes, so that old rows are not shown as new
        ones; `keep`: so many of the newest; `group`: what `find` is asked by.
        """
        self.name = name
        self.keep = keep
        self._row = row
        self._form = form
        self._group = group
        self._usable = usable
        self._types = {field.name: str(field.type) for field in fields(row)}
        self._seen: tuple[Path, tuple[int, int], Mapping[Hashable, list[Row]]] | None = None
        self._writing = threading.Lock()

    def path(self) -> Path:
        """Where the rows lie."""
        return paths.data_dir() / self.name

    def find(self, group: Hashable) -> list[Row]:
        """The rows of a group, oldest first."""
        path = self.path()
        try:
            status = path.stat()
        except OSError:
            return []
        stamp = (status.st_size, status.st_mtime_ns)
        seen = self._seen
        if seen is None or seen[:2] != (path, stamp):
            found: dict[Hashable, list[Row]] = {}
            for row in self._read(path, aside=False):
                found.setdefault(self._group(row), []).append(row)
            seen = self._seen = (path, stamp, MappingProxyType(found))
        return list(seen[2].get(group, ()))

    def add(self, rows: Iterable[Row]) -> None:
        """Keep rows, each in place of an older one of its key. Trouble is logged, never raised."""
        fresh = {row.key: row for row in rows if self._usable(row)}
        if not fresh:
            return
        try:
            path = self.path()
            with self._writing:
                kept = [row for row in self._read(path, aside=True) if row.key not in fresh]
                table = [*kept, *fresh.values()][-self.keep :]
                described = {"format": self._form, "rows": [as_object(row) for row in table]}
                replace_file(path, json.dumps(described, indent=0).encode())
        except OSError as error:
            logger.warning("%s is not kept: %s", self.name, error)

    def _read(self, path: Path, *, aside: bool) -> list[Row]:
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
                    path.replace(path.with_name(f"{path.stem}.broken.json"))
            return []
        if table.get("format") != self._form:
            return []
        rows = (self._parsed(described) for described in table["rows"][-self.keep :])
        return [row for row in rows if row is not None]

    def _parsed(self, described: Any) -> Row | None:
        if not isinstance(described, dict):
            return None
        values: dict[str, Any] = {}
        for name, kind in self._types.items():
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
        row = self._row(**values)
        return row if self._usable(row) else None


def as_object(row: Record) -> dict[str, Any]:
    """A row as JSON has it: no NaN, no endless text."""
    return {
        name: value[:TEXT_LIMIT]
        if isinstance(value, str)
        else None
        if isinstance(value, float) and not math.isfinite(value)
        else value
        for name, value in asdict(row).items()
    }


def _number(value: Any) -> float | None:
    """A number as JSON gives it; null stands for what is none (NaN)."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float) or abs(value) > 1e300:
        return None
    return float(value)
