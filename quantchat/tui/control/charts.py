"""Charts of a conversation's answers, from what is kept of each.

Owns what is plotted and how it is called; drawing belongs to `widgets.plots`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TypeAlias

from quantchat.events import NO_GAPS
from quantchat.tui import figures
from quantchat.tui.control.readings import Answered
from quantchat.tui.reading import Reading
from quantchat.tui.widgets.axes import speed_label, time_label, tokens_label
from quantchat.tui.widgets.plots import Column, Columns, Curve

NOTHING = "No answer of this conversation has been measured yet."
GAPS_GONE = (
    "The gaps of an answer are kept while the app is open; its p50, p95 and max are kept for good."
)
UNBROKEN_CELLS = 24
"""What is shorter stays in one line."""

Parts: TypeAlias = tuple[tuple[int, float], ...]
PartsOf: TypeAlias = Callable[[Answered], Parts]


def ttft_chart(answers: Sequence[Answered], chosen: int) -> Columns:
    """Time to first token of each answer, in parts."""
    return Columns(
        title="Time to first token, by answer",
        legend=tuple((kind, name) for kind, (name, _) in enumerate(figures.TTFT_PARTS)),
        columns=_columns(answers, _ttft),
        chosen=chosen,
        label=time_label,
        nothing=NOTHING,
    )


def speed_chart(answers: Sequence[Answered], chosen: int) -> Columns:
    """Decode speed of each answer, told apart by model, scheme and KV."""
    kinds: dict[tuple[str, str], int] = {}
    for each in answers:
        if each.reading.answered:
            kinds.setdefault((each.model, each.label), len(kinds))
    models = {model for model, _ in kinds}
    legend = tuple(
        (at, f"{model} {label}" if len(models) > 1 else label or "unknown")
        for (model, label), at in kinds.items()
    )
    return Columns(
        title="Decode speed, by answer",
        legend=legend,
        columns=_columns(answers, partial(_speed, kinds)),
        chosen=chosen,
        label=speed_label,
        nothing=NOTHING,
    )


def context_chart(answers: Sequence[Answered], chosen: int) -> Columns:
    """Tokens in the context behind each answer."""
    most = next(
        (
            int(each.reading.kept["context_tokens_max"])
            for each in reversed(answers)
            if "context_tokens_max" in each.reading.kept
        ),
        0,
    )
    return Columns(
        title=f"Context, by answer{f' (room for {figures.count(most)})' if most else ''}",
        legend=((0, "reused"), (1, "computed"), (2, "written")),
        columns=_columns(answers, _context),
        chosen=chosen,
        label=tokens_label,
        nothing=NOTHING,
    )


def gap_chart(answers: Sequence[Answered], chosen: int) -> Curve:
    """Gaps between the tokens of the chosen answer."""
    answer = answers[chosen] if answers else None
    trace = NO_GAPS if answer is None else answer.reading.trace
    number = f", answer {answer.number}" if answer is not None else ""
    return Curve(
        title=f"Gap between tokens (ITL){number}",
        legend=((0, "mean (line)"), (3, f"longest of {trace.run_tokens} (dots)"))
        if trace.run_tokens > 1
        else ((0, "every gap"),),
        mean=trace.mean_s,
        peaks=trace.max_s,
        first="token 2",
        last=f"token {figures.count(_tokens(answer))}",
        label=time_label,
        nothing=NOTHING if answer is None else GAPS_GONE,
    )


def _tokens(answer: Answered | None) -> int:
    return 0 if answer is None else int(answer.reading.kept.get("completion_tokens", 0))


def answer_words(answer: Answered) -> tuple[str, str]:
    """The chosen answer: what it is, and what was measured of it."""
    kept, reading = answer.reading.kept, answer.reading
    named = [f"answer {answer.number}", answer.model, answer.label]
    if not reading.answered:
        return " · ".join(part for part in named if part), "not measured"
    first = [*named, figures.tokens(int(kept["completion_tokens"]))]
    second = []
    if kept.get("decode_tok_per_s"):
        second.append(f"decode {figures.speed(kept['decode_tok_per_s'])} tok/s")
    if kept.get("prefill_tok_per_s"):
        second.append(f"prefill {figures.speed(kept['prefill_tok_per_s'])} tok/s")
    if "ttft_s" in kept:
        parts = figures.ttft_parts(kept)
        said = f"TTFT {figures.duration(kept['ttft_s'])}"
        second.append(f"{said} ({parts})" if parts else said)
    second += _gaps(reading)
    if (achieved := reading.achieved_bytes_per_s) is not None:
        second.append(f"reads {figures.gigabytes(achieved)}")
    if (joules := reading.joules_per_token) is not None:
        second.append(f"{figures.energy(joules)} a token")
    return " · ".join(part for part in first if part), " · ".join(map(_unbroken, second))


def _unbroken(text: str) -> str:
    return text.replace(" ", "\N{NO-BREAK SPACE}") if len(text) < UNBROKEN_CELLS else text


def _gaps(reading: Reading) -> list[str]:
    kept = reading.kept
    if kept["completion_tokens"] < 2 or "itl_p50_s" not in kept:
        return []
    said = f"ITL {figures.duration(kept['itl_p50_s'])} p50"
    if "itl_p95_s" in kept:
        said += f", {figures.duration(kept['itl_p95_s'])} p95"
    if "itl_max_s" in kept:
        said += f", {figures.duration(kept['itl_max_s'])} max"
    return [said]


def _columns(answers: Sequence[Answered], parts: PartsOf) -> tuple[Column, ...]:
    return tuple(
        Column(parts=parts(each) if each.reading.answered else (), mark=str(each.number))
        for each in answers
    )


def _ttft(answer: Answered) -> Parts:
    kept = answer.reading.kept
    if "prefill_s" not in kept:
        # Old answers have the whole alone: most of it was prefill.
        return ((2, kept["ttft_s"]),) if kept.get("ttft_s") else ()
    return tuple((kind, kept.get(key, 0.0)) for kind, (_, key) in enumerate(figures.TTFT_PARTS))


def _speed(kinds: dict[tuple[str, str], int], answer: Answered) -> Parts:
    speed = answer.reading.kept.get("decode_tok_per_s")
    return ((kinds[answer.model, answer.label], speed),) if speed else ()


def _context(answer: Answered) -> Parts:
    kept = answer.reading.kept
    if "prompt_tokens" not in kept:
        return ()
    cached = kept.get("cached_tokens", 0)
    return (
        (0, cached),
        (1, kept["prompt_tokens"] - cached),
        (2, kept["completion_tokens"]),
    )
