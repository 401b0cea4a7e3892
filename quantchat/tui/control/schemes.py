"""What each scheme would be for the chosen model on this machine, as rows of the chooser.

Owns the rows alone: plans and speeds are `hardware`'s, measured quality the store's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from quantchat.events import MemoryUse, ModelInfo
from quantchat.requests import LoadRequest
from quantchat.store.quality import Quality

AUTO = "auto"


@dataclass(frozen=True, slots=True, kw_only=True)
class SchemeRow:
    """A scheme as a line of the chooser."""

    name: str
    """What the settings call it."""
    summary: str
    """One sentence."""
    takes: str = ""
    """The scheme that auto comes to."""
    refusal: str = ""
    """Why it cannot be chosen; empty where it can."""
    hint: str = ""
    weight_bytes: int = 0
    kv: str = ""
    kv_bytes: int = 0
    """For `context_tokens`."""
    context_tokens: int = 0
    tok_per_s: float | None = None
    """Predicted, behind `speed_tokens`."""
    speed_tokens: int = 0
    quality: Quality | None = None
    """Measured before, on this model."""
    calibrates: bool = False
    packed: bool = False
    """Its weights lie on disk ready to load."""
    held: str = ""
    """What the device keeps in place of the codes, in a few words."""

    @property
    def allowed(self) -> bool:
        """Whether it can be chosen."""
        return not self.refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """What the loaded model holds, free again once another one is there."""

    device: str
    device_name: str
    size_bytes: int

    @staticmethod
    def of(info: ModelInfo, memory: MemoryUse) -> Held:
        """Of a loaded model."""
        size = memory.weight_bytes + memory.kv_reserved_bytes + memory.workspace_bytes
        return Held(device=info.device, device_name=info.device_name, size_bytes=size)


class SchemeBook(Protocol):
    """Where the chooser's rows come from; may block and is run in a thread."""

    def rows(
        self, request: LoadRequest, held: Held | None, *, may_measure: bool
    ) -> list[SchemeRow]:
        """auto, then every scheme, under the request's model, device, KV and context.

        `may_measure`: nothing else runs, so the device's speed can be measured where it is not
        known. Raises QuantchatError where the model cannot be read.
        """
