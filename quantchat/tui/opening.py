"""The actions that open a screen; each is imported when it is opened first."""

from __future__ import annotations

from textual.app import App
from textual.screen import Screen

from quantchat.tui.keymap import Keyed
from quantchat.tui.screens.chat import ChatScreen


class Opening(Keyed, App[None]):
    """What of the app leads to other screens."""

    def action_conversations(self) -> None:
        """The list of conversations."""
        from quantchat.tui.screens.conversations import ConversationsScreen

        self._open(ConversationsScreen)

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
        """Every key."""
        from quantchat.tui.screens.help import HelpScreen

        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen())

    def action_log(self) -> None:
        """The end of the log."""
        from quantchat.tui.screens.log import LogScreen

        if not isinstance(self.screen, LogScreen):
            self.push_screen(LogScreen())

    def _open(self, kind: type[Screen[None]]) -> None:
        if isinstance(self.screen, ChatScreen):
            self.push_screen(kind())
