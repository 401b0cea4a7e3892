"""A stored turn as the transcript draws it."""

from __future__ import annotations

from collections.abc import Mapping

from quantchat.store.records import Turn as StoredTurn
from quantchat.store.records import TurnState
from quantchat.tui.figures import answer_line, model_name
from quantchat.tui.widgets.turn import State, Turn

STATES: Mapping[TurnState, State] = {
    "complete": "done",
    "stopped": "stopped",
    "failed": "failed",
    "streaming": "stopped",
}


def shown(turn: StoredTurn) -> Turn:
    """The turn with its label and figures."""
    label = " · ".join(
        part for part in (model_name(turn.model), turn.scheme, turn.kv and f"kv {turn.kv}") if part
    )
    metrics = turn.metrics or {}
    return Turn(
        key=turn.id,
        role="user" if turn.role == "user" else "assistant",
        text=turn.content,
        label=label or "answer",
        figures=answer_line(metrics, turn.note) if turn.role == "assistant" else "",
        state=STATES[turn.state],
        version=turn.version + 1,
        versions=turn.versions,
        attachments=turn.attachments,
        editable=True,
        thought_tokens=int(metrics.get("thought_tokens", 0)),
        thought_s=float(metrics.get("thought_s", 0.0)),
    )
