"""Work of a screen off the event loop: what comes of it is drawn, what fails becomes a dialog."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

from quantchat.errors import Cancelled, QuantchatError
from quantchat.tui.screens.base import AppDialog
from quantchat.tui.screens.dialog import Dialog

log = logging.getLogger(__name__)

Result = TypeVar("Result")
Made = TypeVar("Made")


class WorkingDialog(AppDialog[Result]):
    """A dialog that reads and writes files or the store."""

    def work(
        self,
        do: Callable[[], Made],
        then: Callable[[Made], object],
        failed: Callable[[QuantchatError], object] | None = None,
    ) -> None:
        """Run `do` in a thread, then `then` with its result, unless the screen is gone by then."""

        def run() -> None:
            try:
                made = do()
            except Cancelled:
                return
            except QuantchatError as error:
                log.warning("not done: %s", error)
                self.app.call_from_thread(after, failed or self.tell, error)
                return
            self.app.call_from_thread(after, then, made)

        def after(then: Callable[[Made], object], made: Made) -> None:
            if self.is_attached:
                then(made)

        self.run_worker(run, thread=True, exit_on_error=False)

    def tell(self, error: QuantchatError) -> None:
        """Say what failed."""
        self.app.push_screen(Dialog("That did not work", error.message, error.hint))
