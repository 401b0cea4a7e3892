"""The place to write: grows with the text, remembers what was sent."""

from __future__ import annotations

from collections.abc import Sequence

from textual.events import Key
from textual.message import Message
from textual.widgets import TextArea

HISTORY_ENTRIES = 500


class Prompt(TextArea):
    """Several lines; Enter sends, Shift+Enter and Ctrl+J break the line, or the other way round."""

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

    def __init__(self, *, id: str | None = None, placeholder: str = "") -> None:  # noqa: A002
        super().__init__(
            id=id,
            placeholder=placeholder,
            soft_wrap=True,
            show_line_numbers=False,
            highlight_cursor_line=False,
            compact=True,
        )
        self.enter_sends = True
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

    async def _on_key(self, event: Key) -> None:
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
        await super()._on_key(event)

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
