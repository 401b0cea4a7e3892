"""Every error that a person may see: one message, one hint, one exit code.

Owns the taxonomy. Rendering belongs to the command line and the screens.
`raise` these for anything a user or a file can cause; `assert` guards our own invariants.
"""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

from quantchat.requests import WayOut
from quantchat.sizes import size_words

MOST_CHARS = 400
MOST_HINT_CHARS = 1000
"""Of a message and a hint that quote files."""


class QuantchatError(Exception):
    """Base of all errors meant for people: `message` says what, `hint` says what to do."""

    exit_code: ClassVar[int] = 1
    lacks_memory: ClassVar[bool] = False
    """Whether it might do with more memory free."""

    def __init__(self, message: str, *, hint: str = "", ways: tuple[WayOut, ...] = ()) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.ways = ways
        """Loads that would do instead."""

    def __str__(self) -> str:
        return f"{self.message} ({self.hint})" if self.hint else self.message


class UsageError(QuantchatError):
    """The command's words or a setting's value are off."""

    exit_code = 2


class SettingsError(UsageError):
    """A settings file or value cannot be used."""


class CheckpointError(QuantchatError):
    """A model file is cut off, lies about itself or lacks something; names file and tensor."""

    def __init__(self, path: Path, problem: str, *, tensor: str = "", hint: str = "") -> None:
        where = f"{path.name}: tensor {tensor!r}: " if tensor else f"{path.name}: "
        super().__init__(_plain(where + problem, MOST_CHARS), hint=_plain(hint, MOST_HINT_CHARS))
        self.path = path
        self.tensor = tensor


def _plain(text: str, most: int) -> str:
    """A text with words out of files in it: no control characters, and not without end."""
    if not text.isprintable():
        text = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
    return text if len(text) <= most else f"{text[: most - 3]}..."


class UnsupportedModelError(CheckpointError):
    """The file is sound, but holds something that quantchat does not run."""


class TokenizerError(CheckpointError):
    """A model's tokenizer or chat template is missing or cannot be used."""


class ModelNotFoundError(QuantchatError):
    """No model answers to the name, on disk or in the catalog."""


class DownloadError(QuantchatError):
    """No source delivered the model, or what came is not what was promised."""


class Cancelled(QuantchatError):
    """The user stopped it; nothing half-done is ever used."""

    exit_code = 130


class PlanError(QuantchatError):
    """The scheme, KV precision or context cannot run on this device."""


class NoRoomError(PlanError):
    """What the plan would need is more than what is free."""

    lacks_memory = True


class DeviceMemoryError(QuantchatError):
    """An allocation did not fit: what was asked, what is free, and the ways out."""

    lacks_memory = True

    def __init__(
        self,
        what: str,
        *,
        needed_bytes: int,
        free_bytes: int,
        asked_bytes: int = 0,
        ways: tuple[WayOut, ...] = (),
    ) -> None:
        """`asked_bytes`: the one allocation that failed, 0 where unknown."""
        piece = f"; the last {size_words(asked_bytes)} could not be had" if asked_bytes else ""
        super().__init__(
            f"not enough memory for {what}: "
            f"{size_words(needed_bytes)} needed, {size_words(free_bytes)} free{piece}",
            hint="; ".join(way.words for way in ways)
            or "choose a lower scheme (int4), int8 KV, or a shorter context",
            ways=ways,
        )
        self.needed_bytes = needed_bytes
        self.free_bytes = free_bytes
        self.asked_bytes = asked_bytes


class DeviceError(QuantchatError):
    """The card cannot be used: it is busy, cannot be started, or failed while it ran."""


class DeviceLostError(DeviceError):
    """The card's context is dead: nothing runs on it until the process ends."""


class EngineError(QuantchatError):
    """The engine cannot do what was asked in the state it is in."""


class StoreError(QuantchatError):
    """The conversation database cannot be opened or written."""
