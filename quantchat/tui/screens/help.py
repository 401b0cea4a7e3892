"""Every key as it is now, and what the meters mean.

The keys are drawn from the bindings of all screens: what is not bound is not listed, and a key that
the user changed stands as the user's.
"""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from quantchat.tui.keymap import (
    Bound,
    Keyed,
    bounds_of,
    keyed_classes,
    keys_of,
    long_key,
    scope_of,
)
from quantchat.tui.markup.answer import text_lines
from quantchat.tui.markup.palette import palette_from
from quantchat.tui.screens.base import AppDialog, has_widgets

WIDEST_CELLS = 112
WIDE_CELLS = 96
"""From here on the names of the bindings stand beside them."""
METERS_TEXT = """\
# Meters

- **TTFT** is the time from sending to the first token: queue, template, prefill, first sample.
- **ITL** is the gap between two tokens: p50 is the middle one, 19 of 20 are below p95. The bars
  are the latest gaps.
- **prefill** counts prompt tokens computed per second; what was reused from the cache is not
  counted. **decode** counts tokens after the first per second.
- **reads** is how fast decode steps read weights and KV, and its share of what the device can.
  **energy** is the whole card's, where the driver counts it.
- **Context** is what the model sees now, of the most it can see, and what is left.
- **Memory** is all of the device, by who holds it: weights, KV in use and reserved, workspace, the
  rest of this program, others, free.

F7 and Enter, or a click, tell of each meter how it is measured and what it leaves out. A click on
the line of figures below an answer shows all meters of that answer.
"""
WRITING_TEXT = """\
# Writing

- `@path` sends a text file along; a list offers files while you write. `@~/` and `@/` look
  elsewhere, a dot in front finds hidden ones. `@"with blanks.txt"` works, too.
- A long paste is folded into a mark and sent in full; Alt+P or a click unfolds it.
- `/` at the start lists commands; `//` sends a slash.
- Editing a message keeps the old one as a version: what followed it is a branch, and ‹ › go back.
- A model's reasoning is folded into a line, and is not sent back to it with the next question.
"""
MODELS_TEXT = """\
# Models

- Typing filters what is listed and searches the hub. `owner/name`, the address of a repository or
  of a file in it, or a path (`/`, `./`, `~`) goes there directly; Tab completes.
- ◆ answers now, ● is on disk, ○ must be fetched, ↓ is on its way, ‖ is stopped, ✗ failed, ★ suits
  this machine best.
- **here** is the verdict for this machine, ✓ fits, ~ is tight, ✗ too large, and the longest context
  that fits. F6 shows weights, KV, workspace, the peak of the load and tok/s by context. What was
  measured here after a load has a *; all else is estimated.
- A click chooses, a click on the chosen one takes it. Downloads go on when the list is closed, and
  at the next start.
"""
OWN_KEYS_TEXT = """\
# Your own keys

Each line above has a name, such as `chat.regenerate`, beside it or, in a narrow window, below this.
The settings file gives it another key:

    [keys]
    "chat.regenerate" = "alt+r"
    "app.models" = ["f10", "alt+m"]

A name that nothing has, a key that is taken, and one that edits what is written are said at the
start and left out. *Read the keys again* in the command palette takes a changed file.
"""


class HelpScreen(AppDialog[None]):
    """Scrolls; what works on the screen below stands first."""

    KEYS_TITLE = "This help"
    CSS_PATH = "help.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,f1", "leave", "Close"),
    ]

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="box"):
            yield Static(id="text")

    def on_mount(self) -> None:
        self.query_one("#box").focus()
        self.call_after_refresh(self._draw)

    def on_resize(self) -> None:
        self._draw()

    def action_leave(self) -> None:
        """Close."""
        self.dismiss(None)

    def _draw(self) -> None:
        if not has_widgets(self):
            return
        width = max(30, min(WIDEST_CELLS, self.size.width * 96 // 100 - 8))
        palette = palette_from(self.app.theme_variables)
        wide = width >= WIDE_CELLS
        parts = [self.keys_text(names=wide), WRITING_TEXT, MODELS_TEXT, METERS_TEXT, OWN_KEYS_TEXT]
        if not wide:
            parts.append(self.names_text())
        lines = text_lines("\n".join(parts), width, palette)
        self.query_one("#text", Static).update(Content("\n").join(lines))

    def keys_text(self, *, names: bool) -> str:
        """Tables of keys as Markdown: of the screen below, of the app, then of all others."""
        stack = self.app.screen_stack
        below = type(stack[stack.index(self) - 1]) if self in stack[1:] else type(stack[0])
        classes = keyed_classes(type(self.app))
        first = [each for each in classes if each is below]
        ordered = [*first, *(each for each in classes if each is not below)]
        return "\n".join(self._table(cls, names=names) for cls in ordered)

    def names_text(self) -> str:
        """The name of every binding with its keys, for windows without room for it above."""
        lines = ["| name | Key |", "|---|---|"]
        for cls in keyed_classes(type(self.app)):
            for bound in bounds_of(cls):
                keys = ", ".join(map(long_key, keys_of(self.app, bound)))
                lines.append(f"| `{bound.id}` | {_cell(keys)} |")
        return "\n".join([*dict.fromkeys(lines), ""])

    def _table(self, cls: type, *, names: bool) -> str:
        rows = [] if scope_of(cls) != "chat" else self._prompt_rows()
        rows += [
            (", ".join(map(long_key, keys_of(self.app, b))), _said(b), b.id) for b in bounds_of(cls)
        ]
        lines = [f"# {title_of(cls)}", ""]
        lines += ["| Key | | name |", "|---|---|---|"] if names else ["| Key | |", "|---|---|"]
        for keys, said, name in rows:
            cells = [keys, said, f"`{name}`" if name else ""] if names else [keys, said]
            lines.append("| " + " | ".join(_cell(each) for each in cells) + " |")
        return "\n".join([*lines, ""])

    def _prompt_rows(self) -> list[tuple[str, str, str]]:
        """Keys of the prompt that are not bindings: they belong to the text that is written."""
        enter, newline = "Enter", "Shift+Enter, Ctrl+J"
        if not self.desk.preferences.settings.enter_sends:
            enter, newline = newline, enter
        return [
            (enter, "send; fetch a model that is not on disk", ""),
            (newline, "new line (the settings swap them)", ""),
            ("Up, Down", "earlier messages, at the edges of the prompt", ""),
        ]


def title_of(cls: type) -> str:
    """The heading of a class's keys."""
    title = str(cls.__dict__.get("KEYS_TITLE", "")) if issubclass(cls, Keyed) else ""
    return title or scope_of(cls).replace("_", " ").capitalize()


def _said(bound: Bound) -> str:
    return bound.description[:1].lower() + bound.description[1:]


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
