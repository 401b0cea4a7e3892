"""Side by side: one prompt, two schemes of the model, their figures and the difference.

Owns the layout and the two panes. Slots and requests belong to `control.comparison`.
"""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Select

from quantchat.quant.registry import SCHEMES
from quantchat.tui import figures
from quantchat.tui.control.comparison import Comparison, Difference, Side
from quantchat.tui.control.status import load_text
from quantchat.tui.markup.chunks import code_blocks
from quantchat.tui.markup.palette import Palette
from quantchat.tui.screens.base import AppScreen
from quantchat.tui.screens.dialog import Dialog
from quantchat.tui.widgets.bars import Activity, Key, KeyBar
from quantchat.tui.widgets.meters import MeterLine
from quantchat.tui.widgets.painted import Painted
from quantchat.tui.widgets.prompt import Prompt
from quantchat.tui.widgets.transcript import Transcript

KEYS = (
    Key(key="enter", text="ask both", action="screen.send"),
    Key(key="esc", text="stop, leave", action="screen.leave"),
    Key(key="^n", text="anew", action="screen.clear"),
    Key(key="f5", text="left scheme", action="screen.scheme('left')"),
    Key(key="f6", text="right scheme", action="screen.scheme('right')"),
    Key(key="f1", text="help", action="app.help"),
    Key(key="^q", text="quit", action="app.quit"),
)


class PaneHead(Painted):
    """What is loaded in a pane, or what is on its way there."""

    def __init__(self, side: Side) -> None:
        super().__init__(classes="head")
        self._side = side

    def render(self) -> Content:
        """One line."""
        side, palette = self._side, self.palette
        if side.info is None:
            words = side.problem or load_text(side.progress)[0]
            return Content.styled(words, palette.error if side.problem else palette.muted)
        info = side.info
        if side.progress is not None:
            return Content.styled(load_text(side.progress)[0], palette.muted)
        name = figures.model_name(info.model)
        said = f" · kv {info.kv} · {info.device} · {name}"
        line = Content.styled(f"{info.bits_per_weight:.2f} bits/weight", palette.strong)
        return (line + Content.styled(said, palette.muted)).truncate(self.size.width, ellipsis=True)


class DifferenceLine(Painted):
    """Right against left, in two lines."""

    def __init__(self) -> None:
        super().__init__(id="difference")
        self._difference: Difference | None = None
        self._names = ("left", "right")

    def show(self, difference: Difference, names: tuple[str, str]) -> None:
        """New figures."""
        if (difference, names) != (self._difference, self._names):
            self._difference, self._names = difference, names
            self.refresh()

    def render(self) -> Content:
        """Speed and memory, then agreement."""
        if self._difference is None:
            return Content("")
        lines = difference_lines(self._difference, self._names, self.palette)
        return Content("\n").join(line.truncate(self.size.width, ellipsis=True) for line in lines)


class CompareScreen(AppScreen):
    """Two panes above one prompt."""

    CSS_PATH = "compare.tcss"
    HORIZONTAL_BREAKPOINTS = [(0, "-narrow"), (100, "-wide")]  # noqa: RUF012
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Stop or leave"),
        Binding("ctrl+n", "clear", "Begin anew"),
        Binding("ctrl+t", "leave", "Leave", priority=True),
        Binding("f5", "scheme('left')", "Scheme at the left", priority=True),
        Binding("f6", "scheme('right')", "Scheme at the right", priority=True),
        Binding("pageup", "page(-1)", "Scroll up", priority=True),
        Binding("pagedown", "page(1)", "Scroll down", priority=True),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._stale = True
        """Something changed since the figures were drawn."""
        self.left = Transcript(id="left")
        self.right = Transcript(id="right")
        settings = self.desk.preferences.settings
        self.comparison = Comparison(
            self.desk.engine,
            (self.left, self.right),
            lambda: self.desk.preferences.settings,
            schemes=(settings.compare_left_scheme, settings.compare_right_scheme),
            system_prompt=settings.system_prompt,
            changed=self._mark_changed,
            failed=self._failed,
        )

    def compose(self) -> ComposeResult:
        with Horizontal(id="panes"):
            for side, transcript in zip(
                self.comparison.sides, (self.left, self.right), strict=True
            ):
                with Vertical(classes="pane", id=f"pane-{side.slot}"):
                    with Horizontal(classes="bar"):
                        yield Select(
                            [(name, name) for name in SCHEMES],
                            value=side.scheme,
                            allow_blank=False,
                            compact=True,
                            id=f"scheme-{side.slot}",
                        )
                        yield PaneHead(side)
                    yield Activity(id=f"activity-{side.slot}")
                    yield transcript
                    yield MeterLine(id=f"meters-{side.slot}")
        yield DifferenceLine()
        yield Prompt(id="prompt", placeholder="One prompt for both")
        yield KeyBar(KEYS, id="keys")

    def on_mount(self) -> None:
        self.desk.comparison = self.comparison
        self.prompt.enter_sends = self.desk.preferences.settings.enter_sends
        self.prompt.focus()
        for side in self.comparison.sides:
            self.query_one(f"#activity-{side.slot}").display = False
        self.comparison.open()
        self.set_interval(0.12, self._tick)

    def on_unmount(self) -> None:
        self.desk.comparison = None
        self.comparison.close()

    @property
    def prompt(self) -> Prompt:
        """Where the user writes."""
        return self.query_one("#prompt", Prompt)

    def _mark_changed(self) -> None:
        self._stale = True

    def _tick(self) -> None:
        if self._stale:
            self._stale = False
            self.refresh_state()

    def refresh_state(self) -> None:
        """Draw figures, heads and the difference."""
        for side in self.comparison.sides:
            self.query_one(f"#meters-{side.slot}", MeterLine).show(side.metrics, side.memory)
            self.query_one(f"#pane-{side.slot} PaneHead").refresh()
            text, share = load_text(side.progress) if side.progress else ("", None)
            activity = self.query_one(f"#activity-{side.slot}", Activity)
            if text or activity.display:
                activity.show(text, share)
        left, right = self.comparison.sides
        self.query_one(DifferenceLine).show(
            self.comparison.difference(), (left.scheme, right.scheme)
        )

    def on_select_changed(self, event: Select.Changed) -> None:
        event.stop()
        slot = (event.select.id or "").removeprefix("scheme-")
        side = next(side for side in self.comparison.sides if side.slot == slot)
        scheme = str(event.value)
        # Select reports its first value on mount; only a change counts.
        if scheme == side.scheme:
            return
        if self.comparison.answering:
            self.notify("Escape stops the answers first.", severity="warning")
            self.query_one(f"#scheme-{slot}", Select).value = side.scheme
            return
        self.desk.preferences.change(**{f"compare_{slot}_scheme": scheme})
        self.comparison.load(side, scheme)
        self.prompt.focus()

    def on_prompt_submitted(self, event: Prompt.Submitted) -> None:
        event.stop()
        self.action_send()

    def action_send(self) -> None:
        """Ask both; waits for the loads."""
        text = self.prompt.text.strip()
        if not text:
            return
        if self.comparison.send(text):
            self.prompt.take()
            if self.comparison.waiting:
                self.notify("Both answer as soon as both are loaded.")
        else:
            self.notify("Escape stops the answers first.", severity="warning")

    def action_leave(self) -> None:
        """Stop both answers; with none running, go back to the chat."""
        if not self.comparison.stop():
            self.dismiss(None)

    def action_clear(self) -> None:
        """Begin anew with both models loaded."""
        self.comparison.clear()

    def action_copy_turn(self, key: int) -> None:
        """An answer to the clipboard, as Markdown."""
        self.desk.copy_text(self._text_of(key), "answer")

    def action_copy_code(self, key: int, index: int) -> None:
        """A code block of an answer to the clipboard."""
        blocks = code_blocks(self._text_of(key))
        if index < len(blocks):
            self.desk.copy_text(blocks[index], "code")

    def _text_of(self, key: int) -> str:
        turns = [*self.left.turns, *self.right.turns]
        return next((turn.text for turn in turns if turn.key == key), "")

    def action_scheme(self, slot: str) -> None:
        """Open the choice of a pane's scheme."""
        select = self.query_one(f"#scheme-{slot}", Select)
        select.focus()
        select.action_show_overlay()

    def action_page(self, step: int) -> None:
        """Scroll both panes."""
        for transcript in (self.left, self.right):
            transcript.scroll_relative(y=step * max(1, transcript.size.height - 2), animate=False)

    def _failed(self, message: str, hint: str) -> None:
        self.app.push_screen(Dialog("Side by side", message, hint))


def difference_lines(
    difference: Difference, names: tuple[str, str], palette: Palette
) -> list[Content]:
    """Speed and memory in the first line, agreement in the second."""
    left, right = names
    first: list[Content] = [Content.styled(f" {right} against {left}", palette.accent)]
    if difference.speed_ratio is not None:
        first.append(_figure("decode", f"{difference.speed_ratio:.2f}×", palette))
    if difference.weight_ratio is not None and difference.saved_bytes is not None:
        saved = difference.saved_bytes
        word = "saved" if saved >= 0 else "more"
        value = f"÷{difference.weight_ratio:.2f}, {figures.size(abs(saved))} {word}"
        first.append(_figure("weights", value, palette))
    if difference.peak_bytes:
        first.append(_figure("peak of both", figures.size(difference.peak_bytes), palette))
    lines = [Content("   ").join(first)]
    if difference.divergence is not None:
        words = f"{difference.left_word!r} / {difference.right_word!r}"
        text = f" same for {difference.same_tokens} tokens, then {words}"
        lines.append(Content.styled(text, palette.warning))
    elif difference.same_tokens:
        text = f" the same so far: {difference.same_tokens} tokens"
        lines.append(Content.styled(text, palette.success))
    else:
        lines.append(Content(""))
    return lines


def _figure(name: str, value: str, palette: Palette) -> Content:
    return Content.styled(f"{name} ", palette.muted) + Content.styled(value, palette.strong)
