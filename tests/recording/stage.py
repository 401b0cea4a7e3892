"""The real app with the real starter model, in a home of its own, in front of a camera."""

from __future__ import annotations

import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

from camera import Camera, Colours
from film import Window
from textual.theme import Theme

from quantchat import paths
from quantchat.engine.session import Session
from quantchat.errors import UsageError
from quantchat.settings.model import Settings
from quantchat.store.chats import Chats
from quantchat.store.db import open_database
from quantchat.tui.app import QuantchatApp
from quantchat.tui.control.hub_library import HubLibrary

MODEL = "starter"
THEME = "ink"
COLUMNS, ROWS = 120, 36


def move_in(home: Path) -> None:
    """Make an empty home that has the starter model alone; raises UsageError without the model."""
    model = paths.models_dir() / MODEL
    if not model.is_dir():
        raise UsageError("the starter model is not on disk", hint="quantchat pull starter")
    os.environ["QUANTCHAT_HOME"] = str(home)
    (paths.models_dir() / MODEL).symlink_to(model, target_is_directory=True)


@contextlib.asynccontextmanager
async def filmed(settings: Settings) -> AsyncIterator[Camera]:
    """The app, running, until the block ends."""
    database = open_database(paths.database_file())
    app = QuantchatApp(
        Session(),
        settings,
        Chats(database),
        HubLibrary(),
        settings_path=paths.settings_file(),
        new_engine=Session,
    )
    try:
        async with app.run_test(size=(COLUMNS, ROWS), notifications=True) as pilot:
            camera = Camera(app, pilot, _colours(app.current_theme))
            async with camera.running():
                yield camera
    finally:
        database.close()


def window_of(app: QuantchatApp) -> Window:
    """The terminal around the film, in the app's colours."""
    theme = app.current_theme
    colours = _colours(theme)
    return Window(
        columns=COLUMNS,
        rows=ROWS,
        title="quantchat: waits are cut short, answers run as they came",
        ink=colours.ink,
        muted=theme.variables.get("footer-description-foreground", colours.ink),
        accent=theme.primary,
        ground=colours.ground,
    )


def _colours(theme: Theme) -> Colours:
    assert theme.foreground is not None and theme.background is not None
    return Colours(ink=theme.foreground, ground=theme.background)
