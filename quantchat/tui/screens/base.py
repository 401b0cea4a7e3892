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


class Closing(Keyed):
    """Closes once, and itself: Textual's `dismiss` takes away whatever screen is uppermost."""

    _closes: tuple[Any] | None = None
    """The result with which it closes as soon as it can."""

    @property
    def desk(self) -> QuantchatApp:
        """The app."""
        return cast("QuantchatApp", cast("Screen[Any]", self).app)

    def commands(self) -> Iterable[SystemCommand]:
        """The screen's own entries of the command palette."""
        return ()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Nothing before its widgets are there: keys with priority do not wait for them."""
        screen = cast("Screen[Any]", self)
        return Screen.check_action(screen, action, parameters) if screen.is_mounted else False

    def dismiss(self, result: Any = None) -> AwaitComplete:
        """Close with a result, the first one said; before its widgets are there, or under another
        screen, as soon as that is over.
        """
        screen = cast("Screen[Any]", self)
        if not is_open(screen):
            return AwaitComplete()
        if self._closes is None:
            self._closes = (result,)
        if screen.is_mounted and screen.is_active:
            return Screen.dismiss(screen, *self._closes)
        if not screen.is_mounted:
            screen.call_later(self._close)
        return AwaitComplete()

    def _close(self) -> None:
        """Nothing is returned: what a callback returns is awaited, which a screen may not do here."""
        self.dismiss()

    def on_screen_resume(self) -> None:
        if self._closes is not None:
            cast("Screen[Any]", self).call_later(self._close)

    def on_unmount(self) -> None:
        forget_closed(self.desk)


class AppScreen(Closing, Screen[None]):
    """A screen that fills the terminal."""

    def dismiss(self, result: None = None) -> AwaitComplete:
        """See Closing.dismiss."""
        return super().dismiss(result)


class AppDialog(Closing, ModalScreen[Result]):
    """A screen above another one; what was said before it does not stand before it."""

    def on_mount(self) -> None:
        take_down_news(self.desk)

    def dismiss(self, result: Result | None = None) -> AwaitComplete:
        """See Closing.dismiss."""
        return super().dismiss(result)
