"""A comparison as a picture: both panes, tokens coloured where models differ, figures below.

Owns the drawing; text stays text. Bounded: long answers and many rounds are cut, and it says so.
Colours stand beside marks (underlines), so that the picture reads without them.
"""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

from quantchat.comparing import words
from quantchat.comparing.difference import KL_STEPS, divergence, scored_pieces
from quantchat.comparing.record import Answer, Comparison, Round
from quantchat.comparing.text_rows import TextRow, wrapped
from quantchat.events import ModelInfo, TokenScore
from quantchat.sizes import size_words

CELL, LINE, FONT_SIZE = 7.8, 19, 13
"""Pixels: a cell is 0.6 of the font's size in every monospace font that is asked for."""
PANE_CELLS = 66
MARGIN, GAP = 24, 20
WIDTH = round(2 * (PANE_CELLS + 2) * CELL + GAP + 2 * MARGIN)
ROWS_MAX = 40
ROUNDS_MAX = 6
PROMPT_ROWS_MAX = 6
FONTS = "ui-monospace, 'SF Mono', Menlo, Consolas, 'DejaVu Sans Mono', monospace"
BACK, PANE, INK, MUTED, ACCENT, WARNING = (
    "#14171f",
    "#1b1f2a",
    "#c8cdd8",
    "#8b93a7",
    "#7aa2f7",
    "#e0af68",
)
PLAIN, SAME, PARTING, AFTER = 0, 1, 2, 3
HEAT = 10
"""Tags from here on: the step of a KL."""
HEAT_COLOURS = ("", "#24364a", "#5c4a2e", "#7a4a2c", "#8f3440")
"""Colours below the first step of a KL, and from each step on."""
MARKS = {PARTING: WARNING, HEAT + 3: WARNING, HEAT + 4: "#f7768e"}
"""Tag -> colour of the line under it."""


def to_svg(comparison: Comparison) -> str:
    """The picture; the height follows from what is drawn."""
    drawing = _Drawing()
    sides = words.names(comparison)
    drawing.line(f"{sides[0]} and {sides[1]}, side by side", INK, bold=True)
    drawing.line(_subtitle(comparison), MUTED)
    if comparison.took_turns:
        drawing.line("Both did not fit into memory at once: they took turns.", MUTED)
    shown = comparison.rounds[-ROUNDS_MAX:]
    if len(shown) < len(comparison.rounds):
        drawing.line(f"The last {len(shown)} of {len(comparison.rounds)} rounds.", MUTED)
    for round_ in shown:
        _draw_round(drawing, comparison, round_, sides)
    drawing.line(_upper(words.weight_words(comparison)), MUTED)
    versions = ", ".join(f"{name} {value}" for name, value in comparison.versions)
    drawing.line(versions, MUTED)
    return drawing.finished(f"{sides[0]} and {sides[1]} answer the same prompt")


class _Drawing:
    """Elements from the top down."""

    def __init__(self) -> None:
        self.parts: list[str] = []
        self.y = float(MARGIN)

    def line(self, text: str, colour: str, *, bold: bool = False) -> None:
        """A line over the whole width, cut where it would not fit."""
        if text:
            limit = int((WIDTH - 2 * MARGIN) / CELL)
            self.parts.append(
                _text(MARGIN, self.y, words.printable(text, limit), colour, bold=bold)
            )
            self.y += LINE

    def space(self, share: float = 0.6) -> None:
        """Some of a line."""
        self.y += LINE * share

    def finished(self, title: str) -> str:
        """The whole file."""
        height = round(self.y + MARGIN)
        return "\n".join(
            (
                f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" '
                f'width="{WIDTH}" height="{height}" font-family="{FONTS}" font-size="{FONT_SIZE}" '
                f'role="img" xml:space="preserve">',
                f"<title>{_escaped(title)}</title>",
                f'<rect width="{WIDTH}" height="{height}" rx="10" fill="{BACK}"/>',
                *self.parts,
                "</svg>",
                "",
            )
        )


def _draw_round(
    drawing: _Drawing, comparison: Comparison, round_: Round, sides: tuple[str, str]
) -> None:
    drawing.space()
    if round_.messages:
        rows = wrapped([(round_.messages[-1].content, PLAIN)], 2 * PANE_CELLS - 2)
        for at, row in enumerate(rows[:PROMPT_ROWS_MAX]):
            mark = "›" if at == 0 else " "
            cut = "…" if at == PROMPT_ROWS_MAX - 1 and len(rows) > PROMPT_ROWS_MAX else ""
            drawing.line(f"{mark}\N{NO-BREAK SPACE}{''.join(run.text for run in row)}{cut}", ACCENT)
    drawing.space(0.3)
    left, right = _pane_rows(round_)
    top = drawing.y
    heights = [
        _draw_pane(drawing, top, at, info, side, answer, rows)
        for at, (info, side, answer, rows) in enumerate(
            (
                (comparison.left, sides[0], round_.left, left),
                (comparison.right, sides[1], round_.right, right),
            )
        )
    ]
    drawing.y = top + max(heights) + LINE
    for sentence in words.difference_words(round_):
        drawing.line(_upper(sentence), INK)
    choice = words.choice_words(round_, sides)
    if choice:
        drawing.line(f"Voted better without knowing which is which: {choice}", WARNING)
    if round_.right is None and round_.scores:
        _draw_legend(drawing)
    drawing.line(_upper(words.sampling_words(round_.sampling)), MUTED)


def _pane_rows(round_: Round) -> tuple[list[TextRow], list[TextRow]]:
    left = round_.left
    if round_.right is None:
        scored = [(piece, HEAT + _heat(score)) for piece, score in scored_pieces(round_)]
        return (
            wrapped(((piece, PLAIN) for piece in left.pieces), PANE_CELLS),
            wrapped(scored, PANE_CELLS),
        )
    parting = divergence(left, round_.right)
    at = None if parting is None else parting.index
    return tuple(  # type: ignore[return-value]
        wrapped(_parted(answer, at), PANE_CELLS) for answer in (left, round_.right)
    )


def _parted(answer: Answer, at: int | None) -> Iterable[tuple[str, int]]:
    for index, piece in enumerate(answer.pieces):
        if at is None or index < at:
            yield piece, SAME
        else:
            yield piece, PARTING if index == at else AFTER


def _heat(score: TokenScore | None) -> int:
    if score is None or score.kl is None:
        return 0
    return sum(score.kl >= step for step in KL_STEPS)


def _draw_pane(
    drawing: _Drawing,
    top: float,
    at: int,
    info: ModelInfo,
    side: str,
    answer: Answer | None,
    rows: list[TextRow],
) -> float:
    """A pane's height."""
    width = (PANE_CELLS + 2) * CELL
    left = MARGIN + at * (width + GAP)
    shown = rows[:ROWS_MAX]
    more = len(rows) - len(shown)
    height = (len(shown) + (more > 0) + 3.4) * LINE
    put = drawing.parts.append
    put(_rect(left, top, width, height, PANE, radius=6))
    x, y = left + CELL, top + LINE * 0.35
    put(_text(x, y, words.printable(side, PANE_CELLS), INK, bold=True))
    head = f"{info.bits_per_weight:.2f} bits/weight, {size_words(info.weight_bytes)}"
    put(_text(left + width - CELL, y, head, MUTED, end=True))
    y += LINE * 1.3
    for row in shown:
        _draw_row(drawing, x, y, row)
        y += LINE
    if more:
        put(_text(x, y, f"… {more} more lines", MUTED))
        y += LINE
    put(_text(x, y + LINE * 0.4, _foot(answer), MUTED))
    return height


def _draw_row(drawing: _Drawing, x: float, y: float, row: TextRow) -> None:
    for run in row:
        at, width = x + run.cell * CELL, run.cells * CELL
        if run.tag >= HEAT and HEAT_COLOURS[run.tag - HEAT]:
            drawing.parts.append(_rect(at, y + 1, width, LINE - 1, HEAT_COLOURS[run.tag - HEAT]))
        if run.tag in MARKS:
            drawing.parts.append(_rect(at, y + LINE - 2, width, 2, MARKS[run.tag]))
        if run.text.strip():
            colour = WARNING if run.tag == PARTING else MUTED if run.tag == AFTER else INK
            drawing.parts.append(_text(at, y, run.text, colour, width=width))


def _draw_legend(drawing: _Drawing) -> None:
    x, y = float(MARGIN), drawing.y
    drawing.parts.append(_text(x, y, "KL in nats:", MUTED))
    x += 12 * CELL
    bounds = [f"below {KL_STEPS[0]:g}", *(f"from {step:g}" for step in KL_STEPS)]
    for step, label in enumerate(bounds):
        width = (len(label) + 2) * CELL
        if HEAT_COLOURS[step]:
            drawing.parts.append(_rect(x, y + 1, width, LINE - 1, HEAT_COLOURS[step]))
        if HEAT + step in MARKS:
            drawing.parts.append(_rect(x, y + LINE - 2, width, 2, MARKS[HEAT + step]))
        drawing.parts.append(_text(x + CELL, y, label, INK))
        x += width + CELL
    drawing.y += LINE


def _foot(answer: Answer | None) -> str:
    if answer is None:
        return "the left's tokens, coloured by KL"
    found = f"{len(answer.token_ids):,} tokens"
    if answer.metrics is None:
        return f"{found}, {words.ending(answer)}"
    metrics = answer.metrics
    return (
        f"{found}, {words.speed(metrics.decode_tok_per_s)} tok/s, "
        f"first after {words.duration(metrics.ttft_s)}, "
        f"gap p95 {words.duration(metrics.itl_p95_s)}"
    )


def _subtitle(comparison: Comparison) -> str:
    left, right = comparison.left, comparison.right
    models = words.model_name(left)
    if left.model != right.model:
        models += f" and {words.model_name(right)}"
    devices = dict.fromkeys((left.device_name, right.device_name))
    return f"{models} on {', '.join(devices)}, {words.when(comparison.made_s)}"


def _upper(text: str) -> str:
    return text[:1].upper() + text[1:]


def _rect(x: float, y: float, width: float, height: float, fill: str, *, radius: int = 0) -> str:
    corner = f' rx="{radius}"' if radius else ""
    return (
        f'<rect x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="{height:.1f}"'
        f'{corner} fill="{fill}"/>'
    )


def _text(
    x: float,
    y: float,
    text: str,
    fill: str,
    *,
    bold: bool = False,
    end: bool = False,
    width: float = 0.0,
) -> str:
    weight = ' font-weight="bold"' if bold else ""
    anchor = ' text-anchor="end"' if end else ""
    # The length holds rows together where another font stands in.
    length = f' textLength="{width:.1f}"' if width else ""
    kept = text.replace(" ", "\N{NO-BREAK SPACE}")
    return (
        f'<text x="{x:.1f}" y="{y + LINE * 0.75:.1f}" fill="{fill}"{weight}{anchor}{length}>'
        f"{_escaped(kept)}</text>"
    )


def _escaped(text: str) -> str:
    """Text that XML takes: what it cannot hold becomes a mark."""
    return escape(
        "".join(each if _holdable(each) else "\N{REPLACEMENT CHARACTER}" for each in text)
    )


def _holdable(character: str) -> bool:
    code = ord(character)
    return code >= 0x20 and not 0xD800 <= code <= 0xDFFF and code & 0xFFFE != 0xFFFE
