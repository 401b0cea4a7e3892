"""What calibration runs on: how much text, whose, and how much memory it may take.

Known before torch is, since the names of packed files hang on it.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from quantchat.errors import UsageError

VERSION = 2
"""Goes up when a method or the sampled text changes, so that older results are not taken."""
MAX_SEQUENCES = 1024
MAX_TOKENS = 4096
MAX_FILE_BYTES = 1 << 28


@dataclass(frozen=True, slots=True, kw_only=True)
class CalibrationSettings:
    """One calibration; raises UsageError for sizes that cannot be."""

    sequences: int = 16
    tokens: int = 256
    """Tokens of each sequence; shorter where the model's context is."""
    seed: int = 17
    file: Path | None = None
    """UTF-8 text of the user's; None: the model writes its own."""
    memory_bytes: int = 2 << 30
    """Bound of activations held at a time, weights apart; no result hangs on it with the defaults."""

    def __post_init__(self) -> None:
        if not 1 <= self.sequences <= MAX_SEQUENCES:
            raise UsageError(f"calibration takes 1 to {MAX_SEQUENCES} sequences")
        if not 16 <= self.tokens <= MAX_TOKENS:
            raise UsageError(f"calibration sequences have 16 to {MAX_TOKENS} tokens")

    def key(self) -> str:
        """A short name of all that results hang on; raises UsageError where the file is no use."""
        text = (
            "own" if self.file is None else hashlib.sha256(read_text_bytes(self.file)).hexdigest()
        )
        facts = f"{VERSION} {self.sequences} {self.tokens} {self.seed} {text}"
        return hashlib.sha256(facts.encode()).hexdigest()[:12]


def read_text_bytes(path: Path) -> bytes:
    """A text file's bytes, bounded; raises UsageError where it cannot be read."""
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise UsageError(
                f"{path.name} has {size / 2**20:.0f} MiB, at most {MAX_FILE_BYTES >> 20} are read",
                hint="cut a piece out of it",
            )
        return path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{path} cannot be read: {error.strerror}", hint="check the path"
        ) from None
