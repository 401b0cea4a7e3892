"""What every screen of the app has: the app itself, typed."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, TypeVar, cast

from textual.app import SystemCommand
from textual.await_complete import AwaitComplete
from textual.screen import ModalScreen, Screen

from quantchat.tui.closed import forget_closed
from quantchat.tui.keymap import Keyed
from quantchat.tui.toasts import take_down_news

if TYPE_CHECKING:
    from quantchat.tui.app import QuantchatApp

Result = TypeVar("Result")


def is_open(screen: Screen[Any]) -> bool:
    """Whether it was not closed yet; keys that were on their way then still reach it."""
    return screen in screen.app.screen_stack


class AppScreen(Keyed, Screen[None]):
    """A screen that fills the terminal."""

    def commands(self) -> Iterable[SystemCommand]:
        """The screen's own entries of the command palette."""
        return ()

    @property
    def desk(self) -> QuantchatApp:
        """The app."""
        return cast("QuantchatApp", self.app)

    def dismiss(self, result: None = None) -> AwaitComplete:
        """Once: a key that came with the one that closed it closes no other screen."""
        return super().dismiss(result) if is_open(self) else AwaitComplete()

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

    def dismiss(self, result: Result | None = None) -> AwaitComplete:
        """Once: a key that came with the one that closed it closes no other screen."""
        return super().dismiss(result) if is_open(self) else AwaitComplete()

    def on_unmount(self) -> None:
        forget_closed(self.desk)
