"""Options of the commands that let models answer, over the settings; the prompt and its messages."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quantchat.cli.choices import CALIBRATION_HELP
from quantchat.errors import UsageError

if TYPE_CHECKING:
    from quantchat.requests import Message
    from quantchat.settings.model import Settings

_OPTIONS: tuple[tuple[str, tuple[str, ...], dict[str, Any]], ...] = (
    ("device", ("--device",), {"help": "auto, cpu or cuda."}),
    (
        "context_tokens",
        ("--context",),
        {"type": click.IntRange(min=0), "help": "Context in tokens; 0 takes what fits."},
    ),
    (
        "system_prompt",
        ("--system",),
        {"help": "System prompt; an empty one leaves the settings' out."},
    ),
    (
        "max_tokens",
        ("--max-tokens",),
        {"type": click.IntRange(min=0), "help": "Longest answer; 0 has no limit."},
    ),
    (
        "temperature",
        ("--temperature", "-t"),
        {"type": click.FloatRange(min=0), "help": "0 is greedy."},
    ),
    ("top_k", ("--top-k",), {"type": click.IntRange(min=0)}),
    ("top_p", ("--top-p",), {"type": click.FloatRange(min=0, max=1)}),
    ("min_p", ("--min-p",), {"type": click.FloatRange(min=0, max=1)}),
    (
        "repetition_penalty",
        ("--repetition-penalty",),
        {"type": click.FloatRange(min=0, min_open=True)},
    ),
    (
        "seed",
        ("--seed",),
        {"type": click.IntRange(min=0), "help": "The same seed gives the same text."},
    ),
)
"""Settings that an option stands for, its names, and what click is told of it."""


def answer_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options to a command, which is given one `changes` of the settings for them."""

    @wraps(command)
    def changed(*args: Any, calibration: Path | None, **values: Any) -> None:
        if calibration is not None and not calibration.is_file():
            raise UsageError(f"{calibration} is no file", hint="name a UTF-8 text file")
        changes = {key: values.pop(key) for key, _, _ in _OPTIONS}
        if calibration is not None:
            changes["calibration_file"] = str(calibration.absolute())
        command(*args, changes=changes, **values)

    found = changed
    for key, names, told in reversed(_OPTIONS):
        found = click.option(*names, key, **told)(found)
    return click.option("--calibration", type=click.Path(path_type=Path), help=CALIBRATION_HELP)(
        found
    )


def changed_settings(changes: dict[str, Any]) -> Settings:
    """The user's settings with the changes that are not None; warnings go to stderr."""
    from quantchat import paths
    from quantchat.settings.file import load_settings

    settings, warnings = load_settings(paths.settings_file())
    for warning in warnings:
        click.echo(f"quantchat: {warning}", err=True)
    for key, value in changes.items():
        if value is not None:
            settings = settings.with_value(key, value)
    return settings


def messages_for(settings: Settings, prompt: str | None, *, hint: str) -> tuple[Message, ...]:
    """The system prompt, and the prompt with what is piped in behind it; raises UsageError."""
    from quantchat.requests import Message

    piped = "" if sys.stdin.isatty() else sys.stdin.read().strip()
    text = "\n\n".join(part for part in (prompt, piped) if part)
    if not text:
        raise UsageError("there is no prompt", hint=hint)
    asked = Message("user", text)
    return (
        (Message("system", settings.system_prompt), asked) if settings.system_prompt else (asked,)
    )
