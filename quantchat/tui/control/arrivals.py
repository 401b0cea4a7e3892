"""What becomes of downloads, told once and to whom it concerns.

Owns the words of the notes. The slot hears first: what it waits for is loaded, or said in its place.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from quantchat.tui import figures
from quantchat.tui.control.transfers import News

if TYPE_CHECKING:
    from quantchat.tui.app import QuantchatApp

log = logging.getLogger(__name__)

READ_S = 12.0
"""For a note with something to do in it."""


class Arrivals:
    """Passes the news of downloads on to the slot and to the user."""

    def __init__(self, app: QuantchatApp) -> None:
        self._app = app

    def poll(self) -> None:
        """Look for news; called a few times a second."""
        app = self._app
        news = app.transfers.news()
        for each in news:
            self._take(each)
        app.loads.poll()
        if news:
            app.state_changed()

    def waits(self, name: str) -> None:
        """A missing model was chosen while another one answers: that one stays the choice."""
        app = self._app
        answering = app.loads.answering
        if answering is not None:
            app.trouble.take_back(answering)
            app.notify(
                f"{figures.model_name(name)} is loaded as soon as it came; "
                f"{figures.model_name(answering.model)} answers until then."
            )

    def _take(self, news: News) -> None:
        app, name = self._app, figures.model_name(news.name)
        awaited = app.loads.awaited == news.name
        if app.loads.hear(news):
            return
        if news.what == "came":
            if awaited:
                app.choose_model(news.name, app.loads.awaited_scheme)
                app.notify(f"{name} is on disk.")
            else:
                app.notify(f"{name} is on disk; {app.key_name('app.models')} loads it.")
        elif news.what == "failed":
            log.warning("%s was not downloaded: %s", news.name, news.message)
            hint = "It is tried again by itself." if news.again else news.hint
            app.notify(
                f"{news.message}\n{hint}".strip(),
                title=f"{name} was not downloaded",
                severity="error",
                timeout=READ_S,
            )
        elif news.what == "stopped":
            app.notify(f"{name}: stopped; what came is kept.")
        elif news.what == "dropped":
            app.notify(f"{name} is not fetched any more. {news.message}".rstrip())
        else:
            app.notify(
                f"{news.message} {news.hint}".rstrip(),
                severity="information" if news.what == "goes_on" else "warning",
                timeout=8,
            )
