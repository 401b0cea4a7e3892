"""Right against left, in figures: what the line between panes and prompt says."""

from __future__ import annotations

from dataclasses import dataclass

from quantchat.comparing.difference import Agreement, agreement
from quantchat.tui.control.comparing.rounds import LiveRound
from quantchat.tui.control.comparing.side import Side


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """None where a figure is not known yet."""

    speed_ratio: float | None = None
    """Decode speed of the right over the left."""
    weight_ratio: float | None = None
    """Weights of the left over the right."""
    saved_bytes: int | None = None
    peak_bytes: int = 0
    """Of the process; 0 when not known."""
    divergence: int | None = None
    """Index of the first token that differs."""
    words: tuple[str, str] = ("", "")
    """The tokens there, in the order of the panes; empty where an answer had ended."""
    same_tokens: int = 0
    """Tokens compared so far."""
    same_context: bool = True
    """Both saw the same before the answer."""
    agreement: Agreement | None = None
    """Guided mode."""
    scored_of: int = 0
    """Tokens that are to be scored."""
    exact_tokens: int = 0
    """Of those that are scored."""
    problem: str = ""


def difference_of(left: Side, right: Side, shown: LiveRound | None, peak_bytes: int) -> Difference:
    """The figures of the latest round."""
    weight = saved = None
    if left.info is not None and right.info is not None:
        weight = left.info.weight_bytes / max(1, right.info.weight_bytes)
        saved = left.info.weight_bytes - right.info.weight_bytes
    if shown is None:
        return Difference(weight_ratio=weight, saved_bytes=saved, peak_bytes=peak_bytes)
    guided = shown.mode == "guided"
    at = None if guided else shown.parting
    return Difference(
        speed_ratio=None if guided else speed_ratio(shown),
        weight_ratio=weight,
        saved_bytes=saved,
        peak_bytes=peak_bytes,
        divergence=at,
        words=(
            _word(shown.written(shown.name_at(0)).pieces, at),
            _word(shown.written(shown.name_at(1)).pieces, at),
        ),
        same_tokens=0 if guided else shown.same_tokens,
        same_context=shown.same_context,
        agreement=agreement(shown.known_scores) if guided else None,
        scored_of=len(shown.left.ids) - shown.left.given if guided else 0,
        exact_tokens=shown.exact_tokens,
        problem=shown.problem if guided else "",
    )


def speed_ratio(shown: LiveRound) -> float | None:
    """Decode speed of the right over the left."""
    a, b = shown.left.metrics, shown.right.metrics
    if a is None or b is None or not a.decode_tok_per_s or not b.decode_tok_per_s:
        return None
    return b.decode_tok_per_s / a.decode_tok_per_s


def _word(pieces: list[str], at: int | None) -> str:
    return pieces[at] if at is not None and at < len(pieces) else ""
