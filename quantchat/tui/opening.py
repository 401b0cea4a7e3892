"""The actions that open a screen; each is imported when it is opened first."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import App
from textual.screen import Screen

from quantchat.errors import QuantchatError
from quantchat.store.records import Chat
from quantchat.tui.control.conversation import Conversation
from quantchat.tui.keymap import Keyed
from quantchat.tui.screens.chat import ChatScreen


class Opening(Keyed, App[None]):
    """What of the app leads to other screens."""

    conversation: Conversation

    def action_conversations(self) -> None:
        """The list of conversations."""
        from quantchat.tui.screens.conversations import ConversationsScreen

        self._open(ConversationsScreen)

    def action_options(self) -> None:
        """What belongs to the open conversation alone."""
        from quantchat.tui.screens.options import OptionsScreen

        self._open(OptionsScreen)

    def action_export(self) -> None:
        """The open conversation to a file."""
        from quantchat.tui.screens.export import ExportDialog

        chat = self.conversation.chat
        if chat is None:
            self.notify("There is nothing to export yet.")
        else:
            self.push_screen(ExportDialog([chat]))

    def action_import_files(self) -> None:
        """A conversation out of a file, which is opened."""
        from quantchat.tui.screens.importing import ImportDialog

        def imported(chats: Sequence[Chat] | None) -> None:
            try:
                if chats:
                    self.conversation.open(chats[0].id)
            except QuantchatError as error:
                self.notify(str(error), severity="error")

        self.push_screen(ImportDialog(), imported)

    def action_models(self) -> None:
        """The model picker."""
        from quantchat.tui.screens.models import ModelsScreen

        self._open(ModelsScreen)

    def action_settings(self) -> None:
        """The settings."""
        from quantchat.tui.screens.settings import SettingsScreen

        self._open(SettingsScreen)

    def action_themes(self) -> None:
        """The picker of themes."""
        from quantchat.tui.screens.themes import ThemesScreen

        if not isinstance(self.screen, ThemesScreen):
            self.push_screen(ThemesScreen())

    def action_schemes(self) -> None:
        """The chooser of schemes."""
        from quantchat.tui.screens.schemes import SchemesScreen

        self._open(SchemesScreen)

    def action_help(self) -> None:
        """Every key; closes the help where it is open."""
        from quantchat.tui.screens.help import HelpScreen

        if isinstance(self.screen, HelpScreen):
            self.screen.action_leave()
        else:
            self.push_screen(HelpScreen())

    def action_log(self) -> None:
        """The end of the log."""
        from quantchat.tui.screens.log import LogScreen

        if not isinstance(self.screen, LogScreen):
            self.push_screen(LogScreen())

    def to_chat(self) -> None:
        """Close what stands above the conversation."""
        while not isinstance(self.screen, ChatScreen):
            self.pop_screen()

    def _open(self, kind: type[Screen[None]]) -> None:
        if isinstance(self.screen, ChatScreen):
            self.push_screen(kind())
