"""What models were measured to take and to give on this machine, one row for each way of loading.

The rows lie in loads.json of the data folder. What estimates are replaced by them is decided by who
shows them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from quantchat.store.rows import RowFile

FORMAT = 1
KEEP_ROWS = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasuredLoad:
    """A model as it was loaded last; figures that nobody could take are NaN."""

    identity: str
    """Of the model's file: Checkpoint.identity."""
    scheme: str
    kv: str
    device: str
    """Name of the processor or card."""
    context_tokens: int
    weight_bytes: int
    """Without the dense copies that a processor keeps for prompts."""
    kv_bytes: int
    """Reserved for `context_tokens`."""
    kv_bytes_per_token: int
    workspace_bytes: float
    """Beside weights and KV, the driver's part included."""
    peak_bytes: float
    """The most that the process held of the device, once the load had ended."""
    tok_per_s: float
    """Decoding the last answer that was long enough."""
    speed_tokens: int
    """In the context behind that answer."""
    measured: str
    """Date and time, ISO 8601 in UTC."""
    version: str
    """Of quantchat."""

    @property
    def key(self) -> tuple[object, ...]:
        """What a newer measurement replaces."""
        return self.identity, self.scheme, self.kv, self.device

    @property
    def has_workspace(self) -> bool:
        """Whether the device told what is held beside weights and KV."""
        return math.isfinite(self.workspace_bytes) and self.workspace_bytes > 0

    @property
    def has_peak(self) -> bool:
        """Whether the highest use during the load is known."""
        return math.isfinite(self.peak_bytes) and self.peak_bytes > 0

    @property
    def has_speed(self) -> bool:
        """Whether an answer was timed."""
        return math.isfinite(self.tok_per_s) and self.tok_per_s > 0


ROWS = RowFile("loads.json", MeasuredLoad, form=FORMAT, keep=KEEP_ROWS, group=lambda row: row.key)


def measured_load(identity: str, scheme: str, kv: str, device: str) -> MeasuredLoad | None:
    """The last load of a model in that way; None where there was none."""
    rows = ROWS.find((identity, scheme, kv, device))
    return rows[-1] if rows else None


def remember_load(row: MeasuredLoad) -> None:
    """Keep a row in place of the one of its key. Trouble is logged, never raised."""
    ROWS.add([row])
