"""The dial over the schemes that can run here: what each would cost, before it is loaded.

Owns the bar above the prompt and its keys. Rows are read and models loaded by others.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import Key as KeyEvent
from textual.message import Message
from textual.style import Style

from quantchat.events import ModelInfo
from quantchat.settings.schema import spec_of
from quantchat.tui import figures
from quantchat.tui.control.offered import Problem, Take
from quantchat.tui.control.schemes import SchemeRow
from quantchat.tui.control.switching import signed_size
from quantchat.tui.keymap import bounds_of, keys_of, short_key
from quantchat.tui.markup.palette import Palette
from quantchat.tui.widgets.bars import Key
from quantchat.tui.widgets.painted import Painted
from quantchat.tui.widgets.turn import click

FIGURE_LINES = 2
"""Most lines that the figures take."""


class Dial(Painted, can_focus=True):
    """Closed until `open`; says what was taken, or that it was closed."""

    KEYS_TITLE = "Dial"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("left,alt+up", "turn(-1)", "The scheme before", id="back"),
        Binding("right,alt+down", "turn(1)", "The next scheme", id="forward"),
        Binding("home", "to(0)", "The first scheme", id="first"),
        Binding("end", "to(-1)", "The last scheme", id="last"),
        Binding("enter", "load", "Load it", id="load"),
        Binding("r", "again", "Load it and answer the last question again", id="again"),
        Binding("k", "kv", "Other KV precision", id="kv"),
        Binding("escape", "close", "Close, and change nothing", id="close"),
    ]

    class Taken(Message):
        """Load this; with `again`, answer the last question with it."""

        def __init__(self, scheme: str, kv: str, again: bool) -> None:
            super().__init__()
            self.scheme = scheme
            self.kv = kv
            self.again = again

    class Closed(Message):
        """Nothing is to change; `typed` was meant for the prompt."""

        def __init__(self, typed: str = "") -> None:
            super().__init__()
            self.typed = typed

    class Changed(Message):
        """The key line says something else."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self.display = False
        self._read: Callable[[str, Take], None] | None = None
        self._kv = "auto"
        self._info: ModelInfo | None = None
        self._rows: list[SchemeRow] = []
        self._at = 0
        self._steps = 0
        """Turned before there were rows."""
        self._now: SchemeRow | None = None
        """What answers now, as it was planned when the dial was opened."""
        self._problem: Problem = None

    @property
    def chosen(self) -> SchemeRow | None:
        """The scheme under the pointer."""
        return self._rows[self._at] if self._rows else None

    def open(
        self, read: Callable[[str, Take], None], *, kv: str, scheme: str, info: ModelInfo | None
    ) -> None:
        """Show the schemes under a KV precision, with the one of the settings chosen."""
        self._read, self._kv, self._info = read, kv, info
        self._rows, self._now, self._problem, self._steps = [], None, None, 0
        self.display = True
        self.focus()
        read(kv, lambda rows, problem: self._take(rows, problem, scheme))

    def follow(self, info: ModelInfo | None) -> None:
        """Another model answers now."""
        if self.display and info is not None and info is not self._info:
            self._info = info
            self._now = next(
                (row for row in self._rows if (row.name, row.kv) == (info.scheme, info.kv)), None
            )
            self.refresh(layout=True)

    def close(self) -> None:
        """Hide."""
        self.display = False
        self._rows, self._read = [], None

    def action_turn(self, step: int) -> None:
        """To a scheme beside the chosen one, round at the ends."""
        if not self._rows:
            self._steps += step
            return
        self._at = (self._at + step) % len(self._rows)
        self.refresh(layout=True)

    def action_to(self, row: int) -> None:
        """The first scheme, or the last for -1."""
        if self._rows:
            self._at = row % len(self._rows)
            self.refresh(layout=True)

    def action_load(self) -> None:
        """Load what is chosen."""
        self._give(again=False)

    def action_again(self) -> None:
        """Load what is chosen and answer the last question again."""
        self._give(again=True)

    def action_kv(self) -> None:
        """Plan under the next KV precision."""
        choices = spec_of("kv").choices
        self._kv = choices[(choices.index(self._kv) + 1) % len(choices)]
        chosen = self.chosen
        if self._read is not None:
            name = "" if chosen is None else chosen.name
            self._read(self._kv, lambda rows, problem: self._take(rows, problem, name))
        self.post_message(self.Changed())

    def action_close(self) -> None:
        """Change nothing."""
        self.post_message(self.Closed())

    def on_key(self, event: KeyEvent) -> None:
        """Writing goes on in the prompt."""
        bound = {key for each in bounds_of(type(self)) for key in keys_of(self.app, each)}
        if event.is_printable and event.character and event.key not in bound:
            event.stop()
            self.post_message(self.Closed(event.character))

    def keys(self) -> list[Key]:
        """The keys of the bottom line, while the dial is open."""
        texts = {
            "dial.load": "load",
            "dial.again": "load, answer again",
            "dial.kv": f"KV {self._kv}",
            "dial.close": "close",
        }
        of_id = {bound.id: bound for bound in bounds_of(type(self))}
        named = {name: short_key(keys_of(self.app, of_id[name])[0]) for name in of_id}
        turn = Key(key=f"{named['dial.back']}{named['dial.forward']}", text="choose")
        return [
            turn,
            *(
                Key(key=named[name], text=text, action=f"screen.dial_do('{of_id[name].action}')")
                for name, text in texts.items()
            ),
        ]

    def render(self) -> Content:
        """The schemes in a line, then the figures of the chosen one."""
        palette, width = self.palette, self.size.width
        if self._problem is not None:
            message, hint = self._problem
            words = f" {message}" + (f" ({hint})" if hint else "")
            return Content.styled(words, palette.error).truncate(width, ellipsis=True)
        chosen = self.chosen
        if chosen is None:
            return Content.styled(" planning the schemes …", palette.muted)
        strip = strip_line(self._rows, self._at, self._scheme_now(), width, palette)
        lines = figure_lines(chosen, self._now, width - 2, palette)
        return Content("\n").join([strip, *lines])

    def _scheme_now(self) -> str:
        return "" if self._info is None else self._info.scheme

    def _give(self, *, again: bool) -> None:
        chosen = self.chosen
        if chosen is not None:
            self.post_message(self.Taken(chosen.name, self._kv, again))

    def _take(self, rows: list[SchemeRow], problem: Problem, scheme: str) -> None:
        if not self.display:
            return
        self._problem = problem
        self._rows = [row for row in rows if row.allowed]
        if not self._rows and problem is None:
            self._problem = ("no scheme can run here", "the table of schemes says why")
        names = [row.name for row in self._rows]
        self._at = names.index(scheme) if scheme in names else 0
        name, before = self._scheme_now(), self._now
        now = next((row for row in self._rows if row.name == name), None)
        # Of another KV precision only what is chosen is told, not what answers now.
        if before is None or (now is not None and now.kv == before.kv):
            self._now = now
        if self._rows:
            self._at = (self._at + self._steps) % len(self._rows)
            self._steps = 0
        self.refresh(layout=True)


def strip_line(
    rows: Sequence[SchemeRow], at: int, now: str, width: int, palette: Palette
) -> Content:
    """The names from left to right with the chosen one in brackets; ● marks what answers now."""
    words = [f"{'●' if row.name == now else ''}{row.name}" for row in rows]
    cells = [len(word) + 3 for word in words]
    first, last, room = at, at, width - 4 - cells[at]
    while True:
        if last + 1 < len(rows) and cells[last + 1] <= room and (last - at) <= (at - first):
            last += 1
            room -= cells[last]
        elif first > 0 and cells[first - 1] <= room:
            first -= 1
            room -= cells[first]
        elif last + 1 < len(rows) and cells[last + 1] <= room:
            last += 1
            room -= cells[last]
        else:
            break
    parts = [click(" ‹ " if first else "   ", "turn(-1)", palette.marker)]
    for place in range(first, last + 1):
        if place == at:
            chosen = palette.primary + Style(bold=True, reverse=True)
            parts.append(click(f"[{words[place]}]", "load", chosen) + Content(" "))
        else:
            style = palette.strong if rows[place].name == now else palette.muted
            parts.append(click(f" {words[place]} ", f"to({place})", style) + Content(" "))
    if last + 1 < len(rows):
        parts.append(click("›", "turn(1)", palette.marker))
    return Content.assemble(*parts).truncate(width)


def figure_lines(
    row: SchemeRow, now: SchemeRow | None, width: int, palette: Palette
) -> list[Content]:
    """What the scheme would be here, and what that is beside the one that answers now."""
    other = now is not None and (row.takes or row.name) != now.name
    takes = f"{row.takes}: " if row.takes else ""
    weights = f"{takes}{figures.size(row.weight_bytes)} weights"
    if now is not None and other and row.weight_bytes != now.weight_bytes:
        weights += f" ({signed_size(row.weight_bytes - now.weight_bytes)})"
    parts = [Content.styled(weights, palette.strong)]
    if row.tok_per_s:
        speed = f"~{figures.speed(row.tok_per_s)} tok/s"
        if now is not None and now.tok_per_s and other:
            speed += f" (×{row.tok_per_s / now.tok_per_s:.2f})"
        parts.append(Content.styled(speed, palette.strong))
    quality = row.quality
    if quality is None:
        parts.append(Content.styled("quality not measured", palette.muted))
    else:
        words = f"KL {figures.divergence(quality.kl_mean)}, top-1 {quality.same_top * 100:.1f} %"
        if other and now is not None and now.quality is not None:
            words += f" (now {figures.divergence(now.quality.kl_mean)})"
        parts.append(Content.styled(words, palette.strong))
    cache = f"KV {row.kv} {figures.size(row.kv_bytes)} for {figures.count(row.context_tokens)}"
    if now is not None and row.kv_bytes != now.kv_bytes:
        cache += f" ({signed_size(row.kv_bytes - now.kv_bytes)})"
    parts.append(Content.styled(cache, palette.muted))
    if now is not None and not other:
        parts.append(Content.styled("answers now", palette.success))
    elif row.packed:
        parts.append(Content.styled("on disk, ready", palette.success))
    elif row.calibrates:
        parts.append(Content.styled("calibrates first", palette.warning))
    return _filled(parts, width)


def _filled(parts: Sequence[Content], width: int) -> list[Content]:
    """Parts with dots between, over as many lines as are allowed; the last ones may be left out."""
    lines: list[Content] = []
    for part in parts:
        last = lines[-1] if lines else None
        if last is not None and last.cell_length + part.cell_length + 3 <= width + 1:
            lines[-1] = Content.assemble(last, " · ", part)
        elif len(lines) < FIGURE_LINES:
            lines.append(Content(" ") + part)
    return [line.truncate(width + 1, ellipsis=True) for line in lines]
