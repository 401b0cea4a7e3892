"""The field of the model picker."""

from __future__ import annotations

from textual.events import Paste
from textual.message import Message
from textual.widgets import Input


class ModelInput(Input):
    """Says when something was pasted."""

    class Pasted(Message):
        """What stands in the field was pasted."""

    def on_paste(self, event: Paste) -> None:
        # Textual calls the handler of Input, too; the message comes after it.
        self.post_message(self.Pasted())
