"""The field of the model picker."""

from __future__ import annotations

from collections.abc import Callable

from textual.events import Paste
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.widgets import Input


class ModelInput(Input):
    """Says when something was pasted; calls `changed` within the change, for the same frame."""

    class Pasted(Message):
        """What stands in the field was pasted."""

    virtual_size = reactive(Size(0, 0))
    """What is scrolled sideways; Textual's own lays the whole screen out at every letter."""

    def __init__(
        self,
        changed: Callable[[], None],
        *,
        placeholder: str,
        max_length: int,
        id: str,
    ) -> None:
        super().__init__(placeholder=placeholder, max_length=max_length, id=id)
        self._changed = changed

    def watch_value(self) -> None:
        """A message would come after the frame that shows the letter, the list one frame later."""
        self._changed()

    def on_paste(self, event: Paste) -> None:
        # Textual calls the handler of Input, too; the message comes after it.
        self.post_message(self.Pasted())
