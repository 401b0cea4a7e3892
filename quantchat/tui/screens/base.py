"""What every screen of the app has: the app itself, typed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeVar, cast

from textual.app import SystemCommand
from textual.screen import ModalScreen, Screen

from quantchat.tui.closed import forget_closed
from quantchat.tui.keymap import Keyed
from quantchat.tui.toasts import take_down_news

if TYPE_CHECKING:
    from quantchat.tui.app import QuantchatApp

Result = TypeVar("Result")


class AppScreen(Keyed, Screen[None]):
    """A screen that fills the terminal."""

    def commands(self) -> Iterable[SystemCommand]:
        """The screen's own entries of the command palette."""
        return ()

    @property
    def desk(self) -> QuantchatApp:
        """The app."""
        return cast("QuantchatApp", self.app)

    def on_unmount(self) -> None:
        forget_closed(self.desk)


class AppDialog(Keyed, ModalScreen[Result]):
    """A screen above another one; what was said before it does not stand before it."""

    def commands(self) -> Iterable[SystemCommand]:
        """The screen's own entries of the command palette."""
        return ()

    @property
    def desk(self) -> QuantchatApp:
        """The app."""
        return cast("QuantchatApp", self.app)

    def on_mount(self) -> None:
        take_down_news(self.desk)

    def on_unmount(self) -> None:
        forget_closed(self.desk)
