"""The app's actions that open a screen, imported when it is opened first, or act on the open chat."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence

from textual.app import App
from textual.screen import Screen

from quantchat.errors import QuantchatError
from quantchat.store.records import Chat
from quantchat.tui.control.conversation import Conversation
from quantchat.tui.control.this_chat import ThisChat
from quantchat.tui.keymap import Keyed
from quantchat.tui.screens.chat import ChatScreen

log = logging.getLogger(__name__)


class Opening(Keyed, App[None]):
    """What of the app leads to other screens and other conversations."""

    conversation: Conversation
    this_chat: ThisChat

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

    def action_pin_chat(self) -> None:
        """Keep the open conversation at the top of the list, or not."""
        self.guarded(self.this_chat.pin)

    def action_delete_chat(self) -> None:
        """Delete the open conversation."""
        self.guarded(self.this_chat.delete)

    def action_undelete(self) -> None:
        """Bring back what was deleted last."""
        self.guarded(self.this_chat.bring_back)

    def guarded(self, action: Callable[[], bool | None]) -> bool | None:
        """Run an action; a failure of the store becomes a dialog."""
        from quantchat.tui.screens.dialog import Dialog

        try:
            return action()
        except QuantchatError as error:
            log.exception("action failed")
            self.push_screen(Dialog("That did not work", error.message, error.hint))
            return None

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
        elif not isinstance(self.screen, kind):
            self.notify("It opens from the conversation: Escape leads there.")
