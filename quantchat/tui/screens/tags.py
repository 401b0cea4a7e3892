"""Tags of one conversation or of several: those in use are switched, new ones are typed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widgets import Button, Input, OptionList, Static
from textual.widgets.option_list import Option

from quantchat.store.records import Chat
from quantchat.store.tags import clean, tags_from
from quantchat.tui.printable import printable
from quantchat.tui.screens.base import AppDialog

KNOWN_MAX = 200


@dataclass(frozen=True, slots=True)
class TagChange:
    """What every conversation gets and loses."""

    add: tuple[str, ...]
    remove: tuple[str, ...]


class TagsDialog(AppDialog[TagChange | None]):
    """None for Escape."""

    KEYS_TITLE = "Tags"
    CSS_PATH = "files.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Leave the tags as they are"),
        Binding("down", "to_list", "To the tags in use", show=False),
        Binding("space", "switch", "Switch a tag", show=False),
    ]

    def __init__(self, chats: Sequence[Chat], known: Mapping[str, int]) -> None:
        super().__init__()
        self._chats = tuple(chats)
        own = clean(tag for chat in chats for tag in chat.tags)
        self._names = list(dict.fromkeys([*own, *list(known)[:KNOWN_MAX]]))
        self._counts = known
        self._wanted: dict[str, bool] = {}

    def compose(self) -> ComposeResult:
        count = len(self._chats)
        what = printable(self._chats[0].title) if count == 1 else f"{count:,} conversations"
        with Vertical(id="box"):
            yield Static(f"Tags of {what or 'the conversation'}", id="title", markup=False)
            yield Input(placeholder="New tags, with blanks between them", id="path")
            yield OptionList(id="choices")
            yield Static("space or a click switches a tag; enter above keeps all", id="said")
            with Horizontal(id="ways"):
                yield Button("Keep", id="keep", variant="primary", compact=True)
                yield Button("Cancel", id="cancel", compact=True)

    def on_mount(self) -> None:
        self.query_one("#choices").display = bool(self._names)
        self._fill()
        self.query_one("#path").focus()

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._keep()

    def on_button_pressed(self, event: Button.Pressed) -> None:
        event.stop()
        if event.button.id == "keep":
            self._keep()
        else:
            self.dismiss(None)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        name = self._names[event.option_index]
        self._wanted[name] = not self._on(name)
        event.option_list.replace_option_prompt_at_index(event.option_index, self._line(name))

    def action_leave(self) -> None:
        """Close without a change."""
        self.dismiss(None)

    def action_to_list(self) -> None:
        """From the field to the tags in use."""
        self.query_one("#choices").focus()

    def action_switch(self) -> None:
        """The tag under the cursor, on or off."""
        self.query_one("#choices", OptionList).action_select()

    def _keep(self) -> None:
        typed = tags_from(self.query_one("#path", Input).value)
        switched = self._wanted.items()
        add = [*(name for name, on in switched if on), *typed]
        self.dismiss(TagChange(clean(add), tuple(name for name, on in switched if not on)))

    def _on(self, name: str) -> bool:
        return self._wanted.get(name, self._having(name) == len(self._chats))

    def _having(self, name: str) -> int:
        folded = name.casefold()
        return sum(folded in {tag.casefold() for tag in chat.tags} for chat in self._chats)

    def _fill(self) -> None:
        choices = self.query_one("#choices", OptionList)
        choices.add_options([Option(self._line(name)) for name in self._names])
        choices.highlighted = 0 if self._names else None

    def _line(self, name: str) -> Content:
        having = self._having(name)
        some = name not in self._wanted and 0 < having < len(self._chats)
        mark = "–" if some else "✓" if self._on(name) else " "
        count = self._counts.get(name, 0)
        return Content.assemble(
            f"[{mark}] #{printable(name)}", Content.styled(f"  {count:,}" if count else "", "dim")
        )
