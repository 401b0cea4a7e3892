"""A comparison as Markdown: a card that says what ran, on what, and what came out.

Owns the layout. All texts of models and users stand in code, so that nothing in them is markup.
"""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Iterable, Sequence
from pathlib import Path

from quantchat.comparing import words
from quantchat.comparing.difference import divergence, most_divergent
from quantchat.comparing.record import Answer, Comparison, Round
from quantchat.events import Candidate, ModelInfo, TokenScore
from quantchat.sizes import size_words

MARK_OPEN, MARK_CLOSE = "⟪", "⟫"
"""Around the first token that differs."""
DIVERGENT_ROWS = 12
CANDIDATES = 5
HISTORY_CHARACTERS = 2000
"""Of each earlier message."""
SOURCE = "quantchat"


def to_markdown(comparison: Comparison) -> str:
    """The whole card."""
    sides = words.names(comparison)
    lines = [f"# {sides[0]} and {sides[1]}, side by side", ""]
    lines += [f"Made {words.when(comparison.made_s)} with {SOURCE}.", ""]
    lines += _card(comparison)
    lines += ["", f"{_sentence(words.weight_words(comparison))}"]
    if comparison.took_turns:
        lines += ["", "Both did not fit into memory at once: they took turns."]
    votes = _votes(comparison, sides)
    if votes:
        lines += ["", votes]
    for at, round_ in enumerate(comparison.rounds, 1):
        lines += ["", f"## {at}. {round_.mode.capitalize()}", ""]
        lines += _round(comparison, round_, sides)
    return "\n".join(lines).rstrip() + "\n"


def _card(comparison: Comparison) -> list[str]:
    left, right = comparison.left, comparison.right
    rows = [
        ("model", words.model_name(left), words.model_name(right)),
        ("hash", code(left.identity), code(right.identity)),
        ("path", code(_path(left)), code(_path(right))),
        ("scheme", _scheme(left), _scheme(right)),
        ("KV cache", left.kv, right.kv),
        ("bits per weight", f"{left.bits_per_weight:.2f}", f"{right.bits_per_weight:.2f}"),
        ("weights", _bytes(left.weight_bytes), _bytes(right.weight_bytes)),
        ("parameters", f"{left.parameters:,}", f"{right.parameters:,}"),
        ("context", f"{left.context_tokens:,} tokens", f"{right.context_tokens:,} tokens"),
        ("device", _device(left), _device(right)),
        ("load", words.duration(left.load_s), words.duration(right.load_s)),
    ]
    versions = ", ".join(f"{_plain(name)} {_plain(value)}" for name, value in comparison.versions)
    table = _table(("", "left", "right"), rows)
    return [*table, "", f"Versions: {versions}."] if versions else table


def _round(comparison: Comparison, round_: Round, sides: tuple[str, str]) -> list[str]:
    *history, asked = round_.messages or (None,)
    lines: list[str] = []
    for message in history:
        if message is not None:
            lines += [f"{message.role.capitalize()}:", ""]
            lines += [*fenced(_cut(message.content, HISTORY_CHARACTERS)), ""]
    if asked is not None:
        lines += [f"{asked.role.capitalize()}:", "", *fenced(asked.content), ""]
    told = f"Sampling: {words.sampling_words(round_.sampling)}."
    if round_.prefix_ids:
        told += f" Both answers go on from {len(round_.prefix_ids)} given tokens."
    lines += [told, ""]
    if round_.right is None:
        lines += _table(("", f"left, {sides[0]}"), [row[:2] for row in _timings(round_)])
    else:
        lines += _table(("", f"left, {sides[0]}", f"right, {sides[1]}"), _timings(round_))
    lines += [
        "",
        *(f"- {_sentence(each)}" for each in map(_escaped, words.difference_words(round_))),
    ]
    choice = words.choice_words(round_, sides)
    if choice:
        lines.append(f"- Voted better without knowing which is which: {choice}.")
    lines += _answers(round_, sides)
    lines += _divergent(round_, sides)
    repeat = _command(comparison, round_)
    if repeat:
        lines += ["", "To repeat it:", "", *fenced(repeat, "sh")]
    return lines


def _timings(round_: Round) -> list[tuple[str, str, str]]:
    left, right = (_figures(answer) for answer in (round_.left, round_.right))
    return [(name, left[name], right.get(name, "")) for name in left]


def _figures(answer: Answer | None) -> dict[str, str]:
    if answer is None:
        return {}
    found = {"end": words.ending(answer), "tokens": f"{len(answer.token_ids):,}"}
    return found | ({} if answer.metrics is None else words.figures(answer.metrics))


def _answers(round_: Round, sides: tuple[str, str]) -> list[str]:
    if round_.right is None:
        written = f"Written at the left ({sides[0]}), scored at the right ({sides[1]}):"
        return ["", written, "", *fenced(round_.left.text)]
    parting = divergence(round_.left, round_.right)
    lines = []
    if parting is not None:
        lines += ["", f"{MARK_OPEN}…{MARK_CLOSE} marks the first token that differs."]
    for name, side, answer in (
        ("Left", sides[0], round_.left),
        ("Right", sides[1], round_.right),
    ):
        text = answer.text if parting is None else marked(answer, parting.index)
        lines += ["", f"{name} ({side}):", "", *fenced(text)]
    return lines


def marked(answer: Answer, at: int) -> str:
    """The answer with its token `at`, or its end there, between marks."""
    before = "".join(answer.pieces[:at])
    piece = answer.pieces[at] if at < len(answer.pieces) else ""
    if not answer.text.startswith(before + piece):
        return answer.text
    rest = answer.text[len(before) + len(piece) :]
    return f"{before}{MARK_OPEN}{piece}{MARK_CLOSE}{rest}"


def _divergent(round_: Round, sides: tuple[str, str]) -> list[str]:
    found = most_divergent(round_.scores, DIVERGENT_ROWS)
    if not found:
        return []
    rows = [_score_row(at, score) for at, score in found]
    head = ("token", "KL", f"p {sides[0]}", f"p {sides[1]}", f"top {sides[0]}", f"top {sides[1]}")
    return [
        "",
        f"The {len(rows)} most divergent of {len(round_.scores)} tokens:",
        "",
        *_table(head, rows),
    ]


def _score_row(at: int, score: TokenScore) -> tuple[str, ...]:
    return (
        f"{at + 1}: {code(words.quoted(score.text))}",
        "" if score.kl is None else words.nats(score.kl),
        "" if score.base_p is None else words.percent(score.base_p, 1),
        words.percent(score.p, 1),
        _candidates(score.base_top),
        _candidates(score.top),
    )


def _candidates(top: Sequence[Candidate]) -> str:
    return "<br>".join(
        f"{code(words.quoted(each.text))} {words.percent(each.p, 1)}" for each in top[:CANDIDATES]
    )


def _votes(comparison: Comparison, sides: tuple[str, str]) -> str:
    votes = [round_.choice for round_ in comparison.rounds if round_.choice is not None]
    if not votes:
        return ""
    left, right = votes.count("left"), votes.count("right")
    return f"Blind votes: {left} for {sides[0]}, {right} for {sides[1]}, {votes.count('tie')} for neither."


def _command(comparison: Comparison, round_: Round) -> str:
    """The command line that asks the same again; empty where one cannot say it."""
    roles = [message.role for message in round_.messages]
    if round_.prefix_ids or roles not in (["user"], ["system", "user"]):
        return ""
    left, right, sampling = comparison.left, comparison.right, round_.sampling
    if left.device != right.device or any("," in each for each in (left.model, right.model)):
        return ""
    parts = ["quantchat", "compare", "--schemes", f"{left.scheme},{right.scheme}"]
    parts += ["--model", left.model if left.model == right.model else f"{left.model},{right.model}"]
    parts += ["--kv", left.kv if left.kv == right.kv else f"{left.kv},{right.kv}"]
    parts += ["--device", left.device, "--mode", "guided" if round_.mode == "guided" else "free"]
    # Nine digits tell every float32, which is what tokens are drawn by.
    parts += ["--temperature", f"{sampling.temperature:.9g}", "--top-k", str(sampling.top_k)]
    parts += ["--top-p", f"{sampling.top_p:.9g}", "--min-p", f"{sampling.min_p:.9g}"]
    parts += ["--repetition-penalty", f"{sampling.repetition_penalty:.9g}"]
    cut = [each for each in (round_.left, round_.right) if each and each.finish_reason == "length"]
    parts += ["--max-tokens", str(len(cut[0].token_ids)) if cut else "0"]
    if sampling.seed is not None:
        parts += ["--seed", str(sampling.seed)]
    # An empty one keeps the settings' out.
    parts += ["--system", round_.messages[0].content if roles[0] == "system" else ""]
    return shlex.join([*parts, "-p", round_.messages[-1].content])


def fenced(text: str, language: str = "text") -> list[str]:
    """A code block that no text can end."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return [f"{fence}{language}", *visible(text).split("\n"), fence]


def code(text: str) -> str:
    """Code within a line or a table's cell."""
    line = visible(text).replace("\n", " ").replace("|", "\\|")
    if not line.strip():
        return ""
    fence = "`" * (max((len(run) for run in re.findall(r"`+", line)), default=0) + 1)
    gap = " " if line.startswith("`") or line.endswith("`") else ""
    return f"{fence}{gap}{line}{gap}{fence}"


def visible(text: str) -> str:
    """The text with control characters other than line ends and tabs written out."""
    plain = text.replace("\r\n", "\n").replace("\r", "\n")
    return "".join(
        each
        if each in "\n\t" or (each >= " " and not "\x7f" <= each <= "\x9f")
        else repr(each)[1:-1]
        for each in plain
    )


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    return [*lines, *(f"| {' | '.join(row)} |" for row in rows)]


def _scheme(info: ModelInfo) -> str:
    detail = _plain(info.scheme_detail)
    return f"{info.scheme}: {detail}" if detail and detail != info.scheme else info.scheme


def _path(info: ModelInfo) -> str:
    """Below the home folder without its name: exports are shown to others."""
    home = str(Path.home())
    below = info.path.startswith(home + os.sep) and len(home) > 1
    return f"~{info.path[len(home) :]}" if below else info.path


def _bytes(count: int) -> str:
    return f"{size_words(count)} ({count:,} bytes)"


def _device(info: ModelInfo) -> str:
    return f"{info.device}: {_plain(info.device_name)}"


def _plain(text: str) -> str:
    return _escaped(words.printable(text, 200))


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|#~])", r"\\\1", text)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."


def _cut(text: str, limit: int) -> str:
    return (
        text if len(text) <= limit else f"{text[:limit]}… ({len(text) - limit:,} more characters)"
    )
