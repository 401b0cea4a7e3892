"""What was said of a model's file on this machine, so that it is said once.

The rows lie in told.json of the data folder. What is said, and where it stays to be read, is the
interface's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256

from quantchat.store.rows import RowFile

FORMAT = 1
KEEP_ROWS = 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """The notes of a load, as their hash: other words are news."""

    identity: str
    """Of the model's file: Checkpoint.identity."""
    scheme: str
    notes: str

    @property
    def key(self) -> tuple[object, ...]:
        """What later words replace."""
        return self.identity, self.scheme


ROWS = RowFile("told.json", Told, form=FORMAT, keep=KEEP_ROWS, group=lambda row: row.key)


def first_time(identity: str, scheme: str, notes: Sequence[str]) -> bool:
    """Whether these notes were never told before; they count as told from now on."""
    row = Told(
        identity=identity,
        scheme=scheme,
        notes=sha256("\n".join(notes).encode(errors="replace")).hexdigest(),
    )
    if row in ROWS.find(row.key):
        return False
    ROWS.add([row])
    return True
