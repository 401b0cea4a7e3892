"""Letters mean the same in every command."""

from __future__ import annotations

import importlib
from collections.abc import Iterator

import click
import pytest

from quantchat.cli.main import COMMANDS, group
from quantchat.errors import UsageError

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


@pytest.mark.parametrize(
    "words",
    [
        ["bench", "agree", "--check", "--scheme", ","],
        ["bench", "agree", "--check", "--kv", ","],
        ["bench", "decode", "--scheme", ","],
        ["bench", "decode", "--peers", ","],
        ["bench", "decode", "--rows", ","],
        ["eval", "--schemes", ","],
    ],
    ids=" ".join,
)
def test_a_list_of_nothing_is_no_measurement_that_passed(words: list[str]) -> None:
    with pytest.raises(UsageError, match="names nothing"):
        group.main(words, standalone_mode=False)
