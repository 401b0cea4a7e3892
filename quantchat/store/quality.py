"""What schemes were measured to cost, model by model, remembered from one evaluation to the next.

The rows lie in quality.json of the data folder. Nothing here is shipped: every row was measured on
this machine.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from quantchat.store.rows import RowFile, as_object

__all__ = ["Quality", "as_object", "measured_quality", "quality_file", "remember"]

FORMAT = 2
"""Goes up when a figure's meaning changes, or what a scheme makes of a model's weights: the latter with
model.packed_name.VERSION."""
KEEP_ROWS = 4096
"""The newest; a row takes some 600 bytes."""


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


ROWS = RowFile(
    "quality.json",
    Quality,
    form=FORMAT,
    keep=KEEP_ROWS,
    group=lambda row: (row.identity, row.scheme, row.kv),
    usable=lambda row: math.isfinite(row.kl_mean),
)


def quality_file() -> Path:
    """Where the rows lie."""
    return ROWS.path()


def measured_quality(
    identity: str, scheme: str, kv: str, calibration: str | None = None
) -> Quality | None:
    """The measurement of most tokens, the newest among equals; None where there is none.

    `calibration`: key of the settings that the scheme would be made with; None takes any.
    """
    known = [
        row
        for row in ROWS.find((identity, scheme, kv))
        if calibration is None or row.calibration == calibration
    ]
    return None if not known else max(known, key=lambda row: (row.tokens, row.measured))


def remember(rows: Iterable[Quality]) -> None:
    """Add rows, each in place of an older one of its key. Trouble is logged, never raised.

    Rows without a finite mean are left out.
    """
    ROWS.add(rows)
