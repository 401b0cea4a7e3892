"""How `quantchat compare` shows a comparison: figures, both answers, and where they part."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from quantchat.comparing import words
from quantchat.comparing.difference import KL_STEPS, divergence, most_divergent, scored_pieces
from quantchat.comparing.markdown import visible
from quantchat.comparing.record import Answer, Comparison, Round
from quantchat.events import Candidate
from quantchat.sizes import size_words

PIPED_COLUMNS = 120
SIDE_BY_SIDE_COLUMNS = 72
"""Below it the answers stand one under the other."""
HEAT = (
    "",
    "on grey23",
    "black on yellow3",
    "black on dark_orange",
    "bold white on red3",
)
"""Style of a token by the step of its KL."""
DIVERGENT_ROWS = 8
CANDIDATES = 3


def show(comparison: Comparison, console: Console | None = None) -> None:
    """Print the comparison on stdout."""
    console = console or Console(width=None if sys.stdout.isatty() else PIPED_COLUMNS)
    for part in parts(comparison, console.width):
        console.print(part, highlight=False)


def parts(comparison: Comparison, columns: int) -> list[RenderableType]:
    """What is printed, from the top down."""
    sides = words.names(comparison)
    found: list[RenderableType] = []
    for round_ in comparison.rounds:
        found += [_figures(comparison, round_, sides), _answers(round_, sides, columns)]
        if round_.scores:
            found += [_legend(), _divergent(round_, sides)]
        told = [*words.difference_words(round_), words.weight_words(comparison)]
        told.append(words.sampling_words(round_.sampling))
        if comparison.took_turns:
            told.append("both did not fit into memory at once: they took turns")
        found += [Text(f"{line[:1].upper()}{line[1:]}.") for line in told]
    return found


def _figures(comparison: Comparison, round_: Round, sides: tuple[str, str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    table.add_column("")
    for side in sides:
        table.add_column(Text(side))
    both = (comparison.left, comparison.right)
    for name, cells in (
        ("model", [words.model_name(info) for info in both]),
        (
            "weights",
            [f"{info.bits_per_weight:.2f} bits, {size_words(info.weight_bytes)}" for info in both],
        ),
        ("KV cache", [info.kv for info in both]),
        ("device", [words.printable(info.device_name, 60) for info in both]),
    ):
        # What both share is said once.
        _row(table, name, cells[:1] if cells[0] == cells[1] else cells)
    left, right = (_timings(answer) for answer in (round_.left, round_.right))
    for name, value in left.items():
        _row(table, name, [value, right.get(name, "")])
    return table


def _row(table: Table, name: str, cells: Sequence[str]) -> None:
    table.add_row(Text(name, style="dim"), *(Text(cell) for cell in cells))


def _timings(answer: Answer | None) -> dict[str, str]:
    if answer is None:
        return {}
    found = {"answer": f"{len(answer.token_ids):,} tokens, {words.ending(answer)}"}
    return found | ({} if answer.metrics is None else words.figures(answer.metrics))


def _answers(round_: Round, sides: tuple[str, str], columns: int) -> RenderableType:
    if round_.right is None:
        scored = Text()
        for piece, score in scored_pieces(round_):
            scored.append(visible(piece), HEAT[_step(None if score is None else score.kl)])
        title = f"{sides[0]} wrote, coloured by how far {sides[1]} is from it"
        return Panel(scored, title=Text(title), title_align="left")
    parting = divergence(round_.left, round_.right)
    at = None if parting is None else parting.index
    panels = [
        Panel(_parted(answer, at), title=Text(side), title_align="left")
        for side, answer in zip(sides, (round_.left, round_.right), strict=True)
    ]
    if columns < SIDE_BY_SIDE_COLUMNS:
        return Group(*panels)
    grid = Table.grid(expand=True)
    grid.add_column(ratio=1)
    grid.add_column(ratio=1)
    grid.add_row(*panels)
    return grid


def _parted(answer: Answer, at: int | None) -> Text:
    text = Text()
    for index, piece in enumerate(answer.pieces):
        same = at is None or index < at
        text.append(visible(piece), "" if same else "bold reverse" if index == at else "dim")
    if at == len(answer.pieces):
        text.append("■", "bold reverse")
    return text


def _legend() -> Text:
    text = Text("KL in nats: ", "dim")
    bounds = [f"below {KL_STEPS[0]:g}", *(f"from {step:g}" for step in KL_STEPS)]
    for style, bound in zip(HEAT, bounds, strict=True):
        text.append(f" {bound} ", style)
        text.append(" ")
    return text


def _divergent(round_: Round, sides: tuple[str, str]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 3, 0, 0))
    for name in ("token", "KL", f"likeliest of {sides[0]}", f"likeliest of {sides[1]}"):
        table.add_column(Text(name))
    for at, score in most_divergent(round_.scores, DIVERGENT_ROWS):
        table.add_row(
            Text(f"{at + 1}: {words.quoted(score.text)}"),
            Text("" if score.kl is None else words.nats(score.kl)),
            Text(_candidates(score.base_top)),
            Text(_candidates(score.top)),
        )
    return table


def _candidates(top: Sequence[Candidate]) -> str:
    lines = (f"{words.percent(each.p):>5}  {words.quoted(each.text)}" for each in top[:CANDIDATES])
    return "\n".join(lines)


def _step(kl: float | None) -> int:
    return 0 if kl is None else sum(kl >= step for step in KL_STEPS)
