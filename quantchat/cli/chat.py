"""`quantchat chat`: opens the app. Nothing heavy is imported before its first frame."""

from __future__ import annotations

import logging
import logging.handlers
import os
import sys

import click

from quantchat.cli.choices import SCHEME_HELP
from quantchat.cli.ending import end_when_told
from quantchat.cli.frames import set_rate
from quantchat.cli.terminal_size import give_size


@click.command(name="chat", help="Open the app.")
@click.option("--model", "-m", help="Alias, repository id, folder or file; kept in the settings.")
@click.option("--scheme", "-s", help=f"{SCHEME_HELP[:-1]}; kept in the settings.")
@click.option("--theme", help="Colours of the app; kept in the settings.")
def command(model: str | None = None, scheme: str | None = None, theme: str | None = None) -> None:
    """Open the app."""
    set_rate()
    from quantchat import paths
    from quantchat.engine.session import Session
    from quantchat.errors import UsageError
    from quantchat.quant.registry import scheme_named
    from quantchat.settings.file import load_settings
    from quantchat.store.chats import Chats
    from quantchat.store.db import open_database
    from quantchat.tui.app import QuantchatApp
    from quantchat.tui.control.heap import set_apart
    from quantchat.tui.control.hub_library import HubLibrary
    from quantchat.tui.control.hub_transfers import HubTransfers

    if not sys.stdin.isatty() or not sys.stdout.isatty():
        raise UsageError(
            "the app needs a terminal", hint="`quantchat ask` answers one prompt on stdout"
        )
    give_size(sys.stdout.fileno())
    _log_to(str(paths.log_file()))
    settings, warnings = load_settings(paths.settings_file())
    if model is not None:
        settings = settings.with_value("model", model)
    if scheme is not None:
        if scheme != "auto":
            scheme_named(scheme)
        settings = settings.with_value("scheme", scheme)
    if theme is not None:
        settings = settings.with_value("theme", theme)
    database = open_database(paths.database_file())
    app = QuantchatApp(
        Session(),
        settings,
        Chats(database),
        HubLibrary(),
        transfers=HubTransfers(),
        settings_path=paths.settings_file(),
        new_engine=Session,
        warnings=[*warnings, *database.warnings],
        stays=set_apart,
    )
    end_when_told(app)
    try:
        app.run()
    finally:
        database.close()
    if app.return_code:
        sys.exit(app.return_code)


def _log_to(path: str) -> None:
    """Everything to the log file; libraries must not write into the app's screen."""
    handler = logging.handlers.RotatingFileHandler(path, maxBytes=2**20, backupCount=2)
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.INFO, handlers=[handler], force=True)
    logging.captureWarnings(True)
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
