"""Readings of the open conversation's answers: the one that runs or ran last, and every one.

Owns which figures belong to which answer; what follows from them is `reading`'s.
"""

from __future__ import annotations

from dataclasses import dataclass

from quantchat.store.records import Turn
from quantchat.tui import figures
from quantchat.tui.control.conversation import Conversation
from quantchat.tui.control.loads import Loads
from quantchat.tui.figures import model_name
from quantchat.tui.reading import Reading, exchange_tokens

RECENT_TURNS = 40
"""What the length of an exchange is averaged over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered:
    """An answer of the path with what was measured of it."""

    turn_id: int
    number: int
    """Among the answers of the path, from 1."""
    model: str
    scheme: str
    kv: str
    reading: Reading

    @property
    def label(self) -> str:
        """Scheme and KV precision, by which speeds are told apart."""
        return " · ".join(part for part in (self.scheme, self.kv and f"kv {self.kv}") if part)


def current(conversation: Conversation, loads: Loads) -> Reading:
    """The answer that runs or ran last in this conversation, and the machine beside it."""
    stats, info = conversation.measured.latest, loads.info
    memory = loads.memory
    if stats is not None and info is not None and stats.memory.weight_bytes == info.weight_bytes:
        memory = stats.memory
    last = Reading()
    for turn in reversed(conversation.path):
        if turn.role == "assistant" and (reading := _reading(conversation, turn, loads)).answered:
            last = reading
            break
    growth, left = exchange_tokens(conversation.path[-RECENT_TURNS:]), last.tokens_left
    return Reading(
        kept=last.kept,
        recent_s=last.recent_s,
        trace=last.trace,
        memory=memory,
        info=info,
        exchanges_left=int(left / growth) if growth and left is not None else None,
        live=last.live,
    )


def answers_of(conversation: Conversation, loads: Loads) -> list[Answered]:
    """Every answer of the path, the running one as far as it is."""
    return [
        Answered(
            turn_id=turn.id,
            number=number,
            model=model_name(turn.model),
            scheme=turn.scheme,
            kv=turn.kv,
            reading=_reading(conversation, turn, loads),
        )
        for number, turn in enumerate(
            (turn for turn in conversation.path if turn.role == "assistant"), start=1
        )
    ]


def _reading(conversation: Conversation, turn: Turn, loads: Loads) -> Reading:
    stats, trace = conversation.measured.latest, conversation.measured.trace(turn.id)
    if stats is None or conversation.measured.turn_id != turn.id:
        return Reading(kept=turn.metrics or {}, trace=trace, live=False)
    running = conversation.answering is not None and conversation.answering.turn.id == turn.id
    kept = figures.kept(stats.metrics, loads.info) if running else turn.metrics or {}
    return Reading(
        kept=kept,
        recent_s=stats.metrics.itl_recent_s,
        trace=trace,
        info=loads.info,
    )
