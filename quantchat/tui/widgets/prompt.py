"""The place to write: grows with the text, remembers what was sent, folds long pastes.

Does not own what is offered while one writes: `completion` does, through `helper`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Protocol

from rich.style import Style as RichStyle
from rich.text import Text
from textual.binding import Binding, BindingType
from textual.document._document import Location
from textual.events import Click, Key, Paste
from textual.message import Message
from textual.widgets import TextArea

from quantchat.store.records import Attachment
from quantchat.tui.control.attachments import (
    MENTION,
    PASTE,
    is_large,
    paste_label,
    pastes_in,
    pastes_of,
)
from quantchat.tui.keymap import Keyed

HISTORY_ENTRIES = 500
PASTES_KEPT_CHARS = 32 << 20
"""Of folded pastes, the latest are kept for the up key."""
STYLED_CHARS = 4000
"""Longer lines are not looked through for marks."""


class Helper(Protocol):
    """What may take a key before the text does: a list of completions."""

    def take_key(self, key: str) -> bool:
        """Whether the key was for the list."""


class Prompt(Keyed, TextArea):
    """Several lines; Enter sends, Shift+Enter and Ctrl+J break the line, or the other way round."""

    KEYS_TITLE = "The prompt"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("alt+p", "unfold_paste", "Unfold the paste at the cursor, or the last one"),
    ]

    class Submitted(Message):
        """The user sent the text, which may be empty."""

        def __init__(self, prompt: Prompt, text: str) -> None:
            super().__init__()
            self.prompt = prompt
            self.text = text

        @property
        def control(self) -> Prompt:
            """The prompt it came from."""
            return self.prompt

    def __init__(self, *, id: str | None = None, placeholder: str = "") -> None:
        super().__init__(
            id=id,
            placeholder=placeholder,
            soft_wrap=True,
            show_line_numbers=False,
            highlight_cursor_line=False,
            compact=True,
        )
        self.enter_sends = True
        self.folds_pastes = False
        """Whether a long paste becomes a mark; who sends the text must ask for `pastes`."""
        self.helper: Helper | None = None
        self._pastes: dict[str, str] = {}
        self._coloured: tuple[str, str | None] | None = None
        self._history: list[str] = []
        self._at = 0
        self._draft = ""

    def remember(self, texts: Sequence[str]) -> None:
        """Earlier messages, oldest first, for the up key."""
        self._history = list(texts)[-HISTORY_ENTRIES:]
        self._at = len(self._history)

    def take(self) -> str:
        """The text, leaving the prompt empty and the text in the history."""
        text = self.text
        self.clear()
        if text.strip() and (not self._history or self._history[-1] != text):
            self._history.append(text)
        self._at, self._draft = len(self._history), ""
        return text

    def pastes(self) -> tuple[Attachment, ...]:
        """The folded pastes within the text."""
        return pastes_in(self.text, self._pastes)

    def unfolded(self) -> str:
        """The text with every paste in its place."""
        return PASTE.sub(lambda match: self._pastes.get(match[0], match[0]), self.text)

    def fill(self, text: str, attachments: tuple[Attachment, ...] = ()) -> None:
        """Another text, with the pastes folded in it, ready to be edited at its end."""
        for label, paste in pastes_of(text, attachments).items():
            if self._pastes.setdefault(label, paste) != paste:
                text = text.replace(label, self._folded(paste))
        self.load_text(text)
        self.move_cursor(self.document.end)

    def action_unfold_paste(self) -> None:
        """Put the text of a folded paste where its mark stands."""
        found = self._chip_at(self.cursor_location) or self._last_chip()
        if found is not None:
            self._unfold(*found)
        else:
            self.notify("There is no folded paste.")

    def action_delete_left(self) -> None:
        """A folded paste goes as a whole."""
        chip = None
        if not self.selected_text:
            row, column = self.cursor_location
            chip = self._chip_at((row, column - 1)) if column else None
        if chip is None:
            super().action_delete_left()
        else:
            self.delete(chip[0], chip[1])

    def get_line(self, line_index: int) -> Text:
        """A line with pastes and files marked."""
        line = super().get_line(line_index)
        plain = line.plain
        if ("@" in plain or "[" in plain) and len(plain) < STYLED_CHARS:
            style = RichStyle(bold=True, color=self._mark_colour())
            for match in PASTE.finditer(plain):
                if match[0] in self._pastes:
                    line.stylize(style + RichStyle(reverse=True), *match.span())
            for match in MENTION.finditer(plain):
                line.stylize(style, *match.span())
        return line

    def on_click(self, event: Click) -> None:
        """Unfold the paste that was clicked."""
        chip = self._chip_at(self.get_target_document_location(event))
        if chip is not None and not self.selected_text:
            self._unfold(*chip)

    def paste(self, text: str) -> None:
        """Put in what was pasted, folded where it is long."""
        if self.read_only:
            return
        text = text.replace("\r\n", "\n").replace("\r", "\n")
        if self.folds_pastes and is_large(text):
            text = self._folded(text)
        result = self._replace_via_keyboard(text, *self.selection)
        if result is not None:
            self.move_cursor(result.end_location)
        self.focus()

    async def _on_paste(self, event: Paste) -> None:
        event.stop()
        event.prevent_default()
        self.paste(event.text)

    async def _on_key(self, event: Key) -> None:
        if self.helper is not None and self.helper.take_key(event.key):
            event.stop()
            event.prevent_default()
            return
        if event.key in ("enter", "shift+enter", "ctrl+j"):
            event.stop()
            event.prevent_default()
            if (event.key == "enter") == self.enter_sends:
                self.post_message(self.Submitted(self, self.text))
            else:
                self.insert("\n")
                self.scroll_cursor_visible()
            return
        if event.key == "up" and self._on_first_line() and self._recall(-1):
            event.stop()
            event.prevent_default()
            return
        if event.key == "down" and self._on_last_line() and self._recall(1):
            event.stop()
            event.prevent_default()
            return
        if event.key.startswith("alt+"):
            # Textual would type the letter of a binding.
            event.prevent_default()
            return
        chip = self._chip_at(self.cursor_location) if event.is_printable else None
        if chip is not None and self.cursor_location not in chip[:2]:
            self.move_cursor(chip[1])

    def _folded(self, text: str) -> str:
        """The mark of a paste, which is kept."""
        known = next((label for label, each in self._pastes.items() if each == text), None)
        if known is not None:
            return known
        numbers = [int(match[1].split()[1]) for match in map(PASTE.match, self._pastes) if match]
        label = paste_label(max(numbers, default=0) + 1, text)
        self._pastes[label] = text
        while sum(map(len, self._pastes.values())) > PASTES_KEPT_CHARS and len(self._pastes) > 1:
            del self._pastes[next(iter(self._pastes))]
        return label

    def _chip_at(self, at: Location) -> tuple[Location, Location, str] | None:
        """The folded paste whose mark covers a place: where it begins and ends, its text."""
        row, column = at
        for match in PASTE.finditer(self.document.get_line(row)):
            if match.start() <= column <= match.end() and match[0] in self._pastes:
                return (row, match.start()), (row, match.end()), self._pastes[match[0]]
        return None

    def _last_chip(self) -> tuple[Location, Location, str] | None:
        for row in range(self.document.line_count - 1, -1, -1):
            line = self.document.get_line(row)
            known = [match for match in PASTE.finditer(line) if match[0] in self._pastes]
            if known:
                return self._chip_at((row, known[-1].start()))
        return None

    def _unfold(self, start: Location, end: Location, text: str) -> None:
        self.history.checkpoint()
        self.replace(text, start, end)
        self.focus()

    def _mark_colour(self) -> str | None:
        """The theme's, where it is not one of the terminal's own."""
        if self._coloured is None or self._coloured[0] != self.app.theme:
            colour = self.app.theme_variables.get("text-accent", "")
            own = colour[:7] if colour.startswith("#") else None
            self._coloured = (self.app.theme, own)
        return self._coloured[1]

    def _on_first_line(self) -> bool:
        return self.wrapped_document.location_to_offset(self.cursor_location).y == 0

    def _on_last_line(self) -> bool:
        offset = self.wrapped_document.location_to_offset(self.cursor_location)
        return offset.y >= self.wrapped_document.height - 1

    def _recall(self, step: int) -> bool:
        at = self._at + step
        if not 0 <= at <= len(self._history):
            return False
        if self._at == len(self._history):
            self._draft = self.text
        self._at = at
        self.load_text(self._draft if at == len(self._history) else self._history[at])
        self.move_cursor(self.document.end)
        return True
