"""Every key, and what the meters mean."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.content import Content
from textual.widgets import Static

from quantchat.tui.markup.answer import text_lines
from quantchat.tui.markup.palette import palette_from
from quantchat.tui.screens.base import AppDialog

HELP_TEXT = """\
# Keys

| Key | |
|---|---|
| Enter | send; fetch a model that is not on disk |
| Shift+Enter, Ctrl+J | new line (the settings swap them with Enter) |
| Up, Down | earlier messages, at the edges of the prompt |
| Escape | stop the answer, cancel a load or a download |
| Ctrl+R | answer again; the old answer is kept |
| Alt+Left, Alt+Right | flip between versions of the last answer |
| Ctrl+G | continue a stopped answer |
| F3, F4 | copy the last answer, its last code block |
| Ctrl+N | new conversation |
| Ctrl+L | conversations: open, search, rename, delete |
| Ctrl+O | models: load, fetch, delete |
| F5 | schemes: what each costs in memory, speed and quality here |
| Ctrl+S, F2 | settings |
| Ctrl+T | two schemes side by side |
| Ctrl+B | show or hide the meters |
| F6 | latency, speed and context of the whole conversation, plotted by answer |
| F7 | choose a meter; Enter or ? explains it, as a click does |
| PageUp, PageDown | scroll; Ctrl+Home and Ctrl+End go to the ends |
| Ctrl+P | command palette: every action by name |
| Ctrl+Q | quit |

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


class HelpScreen(AppDialog[None]):
    """Scrolls; any of F1, Escape, q closes it."""

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
        width = max(30, min(84, self.size.width - 12))
        palette = palette_from(self.app.theme_variables)
        self.query_one("#text", Static).update(
            Content("\n").join(text_lines(HELP_TEXT, width, palette))
        )
