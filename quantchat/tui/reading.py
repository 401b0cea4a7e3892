"""What the meters show of one answer: its figures, and what follows from them.

Owns the arithmetic on figures that the engine measured; None is what cannot be known, and nothing
here guesses. Works on live answers and on those that the store keeps, old ones too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from quantchat.events import NO_GAPS, GapTrace, MemoryUse, ModelInfo
from quantchat.store.records import Figures, Turn

LEAST_ENERGY_S = 1.0
"""The card's energy counter moves in steps: less than this of decoding says little."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One answer, and the machine beside it where the answer is of now."""

    kept: Figures = field(default_factory=dict)
    """By the names of `figures.kept`; empty before the first answer."""
    recent_s: tuple[float, ...] = ()
    trace: GapTrace = NO_GAPS
    memory: MemoryUse | None = None
    info: ModelInfo | None = None
    """Of the model that is loaded, for live answers."""
    exchanges_left: int | None = None
    live: bool = True
    """False for an answer out of the store."""

    @property
    def answered(self) -> bool:
        """Whether there is a token to speak of."""
        return bool(self.kept.get("completion_tokens"))

    @property
    def tokens_left(self) -> int | None:
        """Places of the context that are empty."""
        now, most = self.kept.get("context_tokens"), self.kept.get("context_tokens_max")
        return None if now is None or most is None else max(0, int(most - now))

    @property
    def decode_s(self) -> float:
        """From the first token to the last."""
        speed = self.kept.get("decode_tok_per_s", 0.0)
        return (self.kept.get("completion_tokens", 0) - 1) / speed if speed > 0 else 0.0

    @property
    def achieved_bytes_per_s(self) -> float | None:
        """What decode steps read a second, from the first token to the last."""
        read, speed = self.kept.get("read_bytes_per_token"), self.kept.get("decode_tok_per_s")
        if not read or not speed:
            return None
        # The last step's bytes less what the context grew by since the middle one.
        grown = (self.kept["completion_tokens"] - 1) / 2
        return speed * max(0.0, read - grown * self.kept.get("kv_bytes_per_token", 0))

    @property
    def device_bytes_per_s(self) -> float | None:
        """What the answer's device reads at best."""
        known = self.kept.get("read_bytes_per_s")
        if known is None and self.live and self.info is not None:
            return self.info.read_bytes_per_s
        return known

    @property
    def joules_per_token(self) -> float | None:
        """Energy of a token after the first."""
        joules = self.kept.get("decode_joules")
        if joules is None or self.decode_s < LEAST_ENERGY_S:
            return None
        return joules / (self.kept["completion_tokens"] - 1)


def exchange_tokens(path: Sequence[Turn]) -> float | None:
    """Tokens that an exchange of this conversation added on average; None before two answers."""
    held = [
        turn.metrics["context_tokens"]
        for turn in path
        if turn.metrics is not None and turn.metrics.get("context_tokens")
    ]
    if len(held) < 2 or held[-1] <= held[0]:
        return None
    return (held[-1] - held[0]) / (len(held) - 1)
