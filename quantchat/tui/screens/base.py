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


def has_widgets(screen: Screen[Any]) -> bool:
    """Whether there is something to draw in: not before it is mounted, nor once it is closed."""
    return screen.is_mounted and is_open(screen)


def _close(screen: AppScreen | AppDialog[Any], result: object) -> None:
    screen.dismiss(result)  # type: ignore[arg-type]


class AppScreen(Keyed, Screen[None]):
    """A screen that fills the terminal."""

    def commands(self) -> Iterable[SystemCommand]:
        """The screen's own entries of the command palette."""
        return ()

    @property
    def desk(self) -> QuantchatApp:
        """The app."""
        return cast("QuantchatApp", self.app)

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Nothing before its widgets are there: keys with priority do not wait for them."""
        return super().check_action(action, parameters) if self.is_mounted else False

    def dismiss(self, result: None = None) -> AwaitComplete:
        """Once: a key that came with the one that closed it closes no other screen."""
        if is_open(self) and not self.is_mounted:
            # Its widgets come first: they would miss the screen that they are put on.
            self.call_later(_close, self, result)
            return AwaitComplete()
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

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Nothing before its widgets are there: keys with priority do not wait for them."""
        return super().check_action(action, parameters) if self.is_mounted else False

    def dismiss(self, result: Result | None = None) -> AwaitComplete:
        """Once: a key that came with the one that closed it closes no other screen."""
        if is_open(self) and not self.is_mounted:
            # Its widgets come first: they would miss the screen that they are put on.
            self.call_later(_close, self, result)
            return AwaitComplete()
        return super().dismiss(result) if is_open(self) else AwaitComplete()

    def on_unmount(self) -> None:
        forget_closed(self.desk)
