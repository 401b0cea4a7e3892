"""Letters mean the same in every command."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import click

from quantchat.cli.main import COMMANDS

LETTERS = {"--model": "-m", "--models": "-m", "--scheme": "-s", "--schemes": "-s"}


def _commands() -> Iterator[click.Command]:
    for module, _ in COMMANDS.values():
        command: click.Command = importlib.import_module(module).command
        yield from command.commands.values() if isinstance(command, click.Group) else (command,)


def test_models_and_schemes_have_their_letters() -> None:
    seen = 0
    for command in _commands():
        opts = {opt for each in command.params for opt in each.opts}
        for long, letter in LETTERS.items():
            if long in opts:
                assert letter in opts, f"{command.name} {long} without {letter}"
                seen += 1
    assert seen > 12
