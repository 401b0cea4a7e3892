"""What a comparison's exports and tables say: names, sizes, times, and the difference in words.

Owns the words alone; Markdown, SVG and the command's table lay them out.
"""

from __future__ import annotations

import unicodedata
from datetime import UTC, datetime
from pathlib import PurePath

from quantchat.comparing.difference import (
    Agreement,
    Divergence,
    agreement,
    decode_ratio,
    divergence,
    same_tokens,
)
from quantchat.comparing.record import Answer, Comparison, Round
from quantchat.events import Metrics, ModelInfo
from quantchat.requests import Sampling
from quantchat.sizes import size_words

ENDINGS = {
    "stop": "ended",
    "length": "cut off at the longest answer",
    "context": "cut off: the context was full",
    "cancelled": "stopped by the user",
    "failed": "failed",
}
PIECE_CHARACTERS = 32
NAME_CHARACTERS = 64


def duration(seconds: float) -> str:
    """Milliseconds below a second, then seconds."""
    if seconds < 1:
        return f"{seconds * 1e3:.1f} ms" if seconds < 0.1 else f"{seconds * 1e3:.0f} ms"
    return f"{seconds:.2f} s" if seconds < 100 else f"{seconds:.0f} s"


def speed(per_s: float) -> str:
    """Tokens a second."""
    return f"{per_s:.1f}" if per_s < 100 else f"{per_s:.0f}"


def nats(value: float) -> str:
    """A KL divergence, three digits."""
    return f"{value:.1e}" if 0 < value < 0.001 else f"{value:.4f}" if value < 1 else f"{value:.2f}"


def model_name(info: ModelInfo) -> str:
    """The model as the user named it; the file's name where that was a path."""
    name = PurePath(info.model).name if info.model.startswith(("/", ".", "~")) else info.model
    return printable(name.removesuffix(".gguf"), NAME_CHARACTERS) or "model"


def names(comparison: Comparison) -> tuple[str, str]:
    """What tells the sides apart, and the scheme in any case: "int4", "int4, int8 KV"."""
    left, right = comparison.left, comparison.right
    found = []
    for info in (left, right):
        words = [printable(info.scheme, NAME_CHARACTERS)]
        if left.model != right.model:
            words.insert(0, model_name(info))
        if left.kv != right.kv:
            words.append(f"{info.kv} KV")
        if left.device != right.device:
            words.append(f"on {info.device}")
        found.append(", ".join(words))
    return found[0], found[1]


def printable(text: str, limit: int) -> str:
    """One line without control characters, at most so long."""
    line = "".join(
        " " if unicodedata.category(each)[0] in "CZ" else each for each in text[: limit + 1]
    )
    line = line.strip()
    return line if len(line) <= limit else line[: limit - 1] + "…"


def quoted(piece: str) -> str:
    """A token in quotes with what cannot be seen written out."""
    cut = piece if len(piece) <= PIECE_CHARACTERS else piece[: PIECE_CHARACTERS - 1] + "…"
    shown = "".join(each if each.isprintable() else repr(each)[1:-1] for each in cut)
    return f'"{shown}"'


def sampling_words(sampling: Sampling) -> str:
    """How tokens were picked."""
    if sampling.temperature == 0:
        words = ["greedy"]
    else:
        words = [f"temperature {sampling.temperature:g}"]
        if sampling.top_k:
            words.append(f"top-k {sampling.top_k}")
        if sampling.top_p < 1:
            words.append(f"top-p {sampling.top_p:g}")
        if sampling.min_p:
            words.append(f"min-p {sampling.min_p:g}")
    if sampling.repetition_penalty != 1:
        words.append(f"repetition penalty {sampling.repetition_penalty:g}")
    return ", ".join(
        [*words, "seed not kept" if sampling.seed is None else f"seed {sampling.seed}"]
    )


def when(made_s: float) -> str:
    """Date and time, UTC."""
    return datetime.fromtimestamp(made_s, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")


def ending(answer: Answer) -> str:
    """How an answer ended."""
    return ENDINGS[answer.finish_reason]


def figures(metrics: Metrics) -> dict[str, str]:
    """Timings of an answer by name."""
    cached = f", {metrics.cached_tokens:,} of them cached" if metrics.cached_tokens else ""
    return {
        "prompt": f"{metrics.prompt_tokens:,} tokens{cached}",
        "time to first token": duration(metrics.ttft_s),
        "prefill": f"{speed(metrics.prefill_tok_per_s)} tok/s",
        "decode": f"{speed(metrics.decode_tok_per_s)} tok/s",
        "between tokens, p50": duration(metrics.itl_p50_s),
        "between tokens, p95": duration(metrics.itl_p95_s),
        "between tokens, longest": duration(metrics.itl_max_s),
        "whole answer": duration(metrics.e2e_s),
    }


def percent(share: float, digits: int = 0) -> str:
    """A share in percent: 76.6 %."""
    return f"{100 * share:.{digits}f} %"


def change(share: float) -> str:
    """A change in percent, with a minus as wide as the plus: +1.20 %, −0.03 %."""
    return f"{100 * share:+.2f} %".replace("-", "−")


def divergence_words(found: Divergence | None, same: int) -> str:
    """Where free answers part."""
    if found is None:
        return f"the same for all {same} tokens" if same else "nothing was written"
    left = quoted(found.left_piece) if found.left_piece else "its end"
    right = quoted(found.right_piece) if found.right_piece else "its end"
    token = "token" if found.index == 1 else "tokens"
    return f"the same for {found.index} {token}, then {left} at the left and {right} at the right"


def agreement_words(found: Agreement) -> str:
    """What guided mode found."""
    return (
        f"same likeliest token at {percent(found.same_top_share, 1)} of {found.tokens} tokens, "
        f"KL mean {nats(found.kl_mean)}, max {nats(found.kl_max)}, "
        f"probability of the written token {change(found.delta_p_mean)}"
    )


def difference_words(round_: Round) -> list[str]:
    """What differs in a round, a sentence each, without the last dot."""
    words = []
    ratio = decode_ratio(round_)
    if ratio is not None:
        words.append(f"the right decodes {ratio:.2f} times as fast")
    if round_.right is not None:
        words.append(divergence_words(divergence(round_.left, round_.right), same_tokens(round_)))
    agreed = agreement(round_.scores)
    if agreed is not None:
        words.append(agreement_words(agreed))
    return words


def weight_words(comparison: Comparison) -> str:
    """What the right saves."""
    left, right = comparison.left.weight_bytes, comparison.right.weight_bytes
    if not left or not right or left == right:
        return f"weights of both: {size_words(left)}"
    less, more = sorted((left, right))
    side = "right" if right == less else "left"
    return (
        f"the {side}'s weights are {more / less:.2f} times smaller: {size_words(more - less)} less"
    )


def choice_words(round_: Round, sides: tuple[str, str]) -> str:
    """A blind round's vote; empty without one."""
    if round_.choice is None:
        return ""
    if round_.choice == "tie":
        return "neither"
    return f"the {round_.choice}, {sides[0] if round_.choice == 'left' else sides[1]}"
