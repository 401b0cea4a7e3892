"""Frames as one animated SVG: text stays text, every distinct row is drawn once and used again.

Owns the file's form: a strip of frames side by side that CSS moves in steps. Where nothing moves (a
picture viewer, reduced motion), the poster frame stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from html import escape

from frames import Look, Row, Screen

CELL, LINE, FONT_SIZE = 8.4, 18, 14
"""Pixels; monospace fonts are 0.6 of their size wide."""
MARGIN, TITLE, CAPTION = 12, 30, 30
FONTS = "ui-monospace,'SF Mono',Menlo,Consolas,'DejaVu Sans Mono','Liberation Mono',monospace"
DOTS = ("#f7768e", "#e0af68", "#9ece6a")
LAST_S = 2.5
"""How long the last frame stands before it begins again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What was seen from a time on."""

    at_s: float
    screen: Screen
    caption: str
    poster: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The terminal that is drawn around the frames."""

    columns: int
    rows: int
    title: str
    ink: str
    muted: str
    accent: str
    ground: str


def to_svg(frames: list[Frame], window: Window) -> str:
    """The film; times are those of the frames."""
    assert frames
    book = _Book(window)
    strip = [
        f'<g transform="translate({at * _width(window)})">{book.frame(frame)}</g>'
        for at, frame in enumerate(frames)
    ]
    width, height = _width(window), _height(window)
    poster = next((at for at, frame in enumerate(frames) if frame.poster), len(frames) - 1)
    length_s = frames[-1].at_s + LAST_S
    return "\n".join(
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" '
            f'width="{width}" height="{height}" role="img">',
            f"<title>{escape(window.title)}</title>",
            f"<style>{_style(frames, window, poster, length_s)}{book.style()}</style>",
            *_chrome(window),
            f"<defs>{''.join(book.rows)}</defs>",
            f'<svg x="{MARGIN}" y="{TITLE}" width="{width - 2 * MARGIN}" '
            f'height="{height - TITLE}"><g id="film">',
            *strip,
            "</g></svg>",
            "</svg>",
            "",
        )
    )


class _Book:
    """Rows and looks that were drawn, each under its own name."""

    def __init__(self, window: Window) -> None:
        self.rows: list[str] = []
        self._window = window
        self._names: dict[Row | str, str] = {}
        self._looks: dict[tuple[str, bool, bool, bool, bool], str] = {}

    def frame(self, frame: Frame) -> str:
        """A frame as uses of rows, from the top down."""
        parts = []
        for at, row in enumerate(frame.screen):
            name = self._row(row)
            if name:
                parts.append(f'<use href="#{name}" y="{at * LINE}"/>')
        if frame.caption:
            parts.append(
                f'<use href="#{self._caption(frame.caption)}" y="{self._window.rows * LINE}"/>'
            )
        return "".join(parts)

    def style(self) -> str:
        """Classes of the looks."""
        rules = []
        for (ink, bold, italic, underline, strike), name in self._looks.items():
            rule = f"fill:{ink}"
            rule += ";font-weight:bold" if bold else ""
            rule += ";font-style:italic" if italic else ""
            lines = " ".join(
                word for word, on in (("underline", underline), ("line-through", strike)) if on
            )
            rule += f";text-decoration:{lines}" if lines else ""
            rules.append(f".{name}{{{rule}}}")
        return "".join(rules)

    def _row(self, row: Row) -> str:
        """The name of a row; empty for one that shows nothing."""
        if row not in self._names:
            drawn = self._grounds(row) + self._texts(row)
            self._names[row] = f"r{len(self._names)}" if drawn else ""
            if drawn:
                self.rows.append(f'<g id="{self._names[row]}">{drawn}</g>')
        return self._names[row]

    def _caption(self, caption: str) -> str:
        if caption not in self._names:
            name = self._names[caption] = f"r{len(self._names)}"
            self.rows.append(
                f'<text id="{name}" class="k" x="4" y="{CAPTION - 8}">{_kept(caption)}</text>'
            )
        return self._names[caption]

    def _grounds(self, row: Row) -> str:
        parts = []
        joined: list[tuple[int, int, str]] = []
        for run in row:
            if joined and joined[-1][2] == run.look.ground:
                begin, cells, ground = joined.pop()
                joined.append((begin, cells + run.cells, ground))
            else:
                joined.append((run.cell, run.cells, run.look.ground))
        for begin, cells, ground in joined:
            if ground != self._window.ground:
                # A hair more than the line: no seams between rows.
                parts.append(
                    f'<rect x="{_px(begin)}" width="{_px(cells)}" '
                    f'height="{LINE + 0.3}" fill="{ground}"/>'
                )
        return "".join(parts)

    def _texts(self, row: Row) -> str:
        spans = []
        for run in row:
            text = run.text.rstrip()
            lead = len(text) - len(text.lstrip())
            text = text[lead:]
            if not text:
                continue
            cells = run.cells - lead - (len(run.text) - len(run.text.rstrip()))
            length = f' textLength="{_px(cells)}"' if cells > 1 else ""
            spans.append(
                f'<tspan x="{_px(run.cell + lead)}"{length} class="{self._look(run.look)}">'
                f"{_kept(text)}</tspan>"
            )
        return f'<text y="{LINE - 4.5}">{"".join(spans)}</text>' if spans else ""

    def _look(self, look: Look) -> str:
        key = (look.ink, look.bold, look.italic, look.underline, look.strike)
        return self._looks.setdefault(key, f"c{len(self._looks)}")


def _style(frames: list[Frame], window: Window, poster: int, length_s: float) -> str:
    width = _width(window)
    steps = "".join(
        f"{100 * frame.at_s / length_s:.3f}%{{transform:translateX({-at * width}px)}}"
        for at, frame in enumerate(frames)
    )
    last = f"100%{{transform:translateX({-(len(frames) - 1) * width}px)}}"
    return (
        f"text{{font-family:{FONTS};font-size:{FONT_SIZE}px;white-space:pre}}"
        f".k{{fill:{window.accent};font-weight:bold}}.t{{fill:{window.muted}}}"
        f"#film{{transform:translateX({-poster * width}px);"
        f"animation:film {length_s:.2f}s steps(1,end) infinite}}"
        f"@keyframes film{{{steps}{last}}}"
        "@media (prefers-reduced-motion:reduce){#film{animation:none}}"
    )


def _chrome(window: Window) -> list[str]:
    width, height = _width(window), _height(window)
    dots = [
        f'<circle cx="{MARGIN + 8 + at * 18}" cy="{TITLE / 2}" r="5.5" fill="{colour}"/>'
        for at, colour in enumerate(DOTS)
    ]
    return [
        f'<rect width="{width}" height="{height}" rx="10" fill="{window.ground}"/>',
        *dots,
        f'<text class="t" x="{width / 2}" y="{TITLE / 2 + 5}" text-anchor="middle">'
        f"{_kept(window.title)}</text>",
    ]


def _width(window: Window) -> int:
    return round(window.columns * CELL) + 2 * MARGIN


def _height(window: Window) -> int:
    return window.rows * LINE + TITLE + CAPTION


def _px(cells: int) -> str:
    return f"{cells * CELL:.1f}".removesuffix(".0")


def _kept(text: str) -> str:
    """Text with its blanks, and without what XML cannot hold."""
    kept = "".join(each if each >= " " else "\N{REPLACEMENT CHARACTER}" for each in text)
    return escape(kept.replace(" ", "\N{NO-BREAK SPACE}"), quote=False)
