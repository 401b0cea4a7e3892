"""`quantchat compare`: one prompt, two (model, scheme, KV) choices, and what differs.

Owns the command's words. What runs and in which order is `comparing.runner`'s; what it looks like
`compare_view`'s.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import click

from quantchat.cli.answer_options import answer_options, changed_settings, messages_for
from quantchat.cli.choices import KV_HELP, SCHEME_HELP
from quantchat.cli.eval_words import drawn
from quantchat.cli.lists import words
from quantchat.errors import UsageError
from quantchat.kv_formats import KV_FORMATS

if TYPE_CHECKING:
    from quantchat.comparing.export import Kind
    from quantchat.comparing.record import Comparison
    from quantchat.comparing.runner import Wish
    from quantchat.requests import LoadRequest, Message
    from quantchat.settings.model import Settings

KINDS: dict[str, Kind] = {"md": "markdown", "markdown": "markdown", "json": "json", "svg": "svg"}


@click.command("compare")
@click.option("--prompt", "-p", help="What both are asked; text on stdin is put behind it.")
@click.option(
    "--schemes",
    "-s",
    help=f"Left and right, separated by a comma: {SCHEME_HELP}  [default: the settings', fp16,int4]",
)
@click.option(
    "--model",
    "--models",
    "-m",
    "models",
    help="Alias, repository, folder or file; two with a comma.  [default: the settings']",
)
@click.option("--kv", help=f"One for both, or two with a comma: {KV_HELP}")
@click.option(
    "--mode",
    type=click.Choice(["free", "guided"]),
    default="free",
    show_default=True,
    help="Each writes its own answer; or the left writes and the right scores the same tokens.",
)
@answer_options
@click.option("--export", help="Files to write, by commas: md, json, svg.  [default: all]")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder of the files.  [default: this one]",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of a table.")
def command(
    prompt: str | None,
    schemes: str | None,
    models: str | None,
    kv: str | None,
    mode: Literal["free", "guided"],
    export: str | None,
    out: Path | None,
    as_json: bool,
    changes: dict[str, Any],
) -> None:
    """Ask two models, or one in two schemes, the same; show both answers and what differs.

    Both get the same seed. They answer one after the other, so that neither slows the other; where
    both do not fit into memory they take turns. --json prints what --export json writes.
    """
    settings = changed_settings(changes)
    kinds = export_kinds(export, wanted=out is not None)
    if kinds:
        from quantchat.comparing.export import prepare

        prepare(out or Path())
    left, right = load_requests(settings, models, schemes, kv)
    messages = messages_for(settings, prompt, hint='quantchat compare -p "Why is the sky blue?"')
    comparison = _compare(_wish(settings, left, right, messages, mode))
    _tell(comparison, kinds, out or Path(), as_json=as_json)


def load_requests(
    settings: Settings, models: str | None, schemes: str | None, kv: str | None
) -> tuple[LoadRequest, LoadRequest]:
    """Both sides' loads; raises UsageError for names that are off."""
    from quantchat.requests import LoadRequest

    both = [
        LoadRequest(
            slot=slot,
            model=model,
            scheme=_scheme(scheme),
            kv=_kv(precision),
            device=settings.device,
            context_tokens=settings.context_tokens,
            calibration_file=settings.calibration_file,
            tune=settings.tune == "auto",
        )
        for slot, model, scheme, precision in zip(
            ("left", "right"),
            _pair(
                models,
                "--model",
                (
                    settings.compare_left_model or settings.model,
                    settings.compare_right_model or settings.model,
                ),
            ),
            _pair(
                schemes, "--schemes", (settings.compare_left_scheme, settings.compare_right_scheme)
            ),
            _pair(kv, "--kv", (settings.compare_left_kv, settings.compare_right_kv)),
            strict=True,
        )
    ]
    if replace(both[0], slot="right") == both[1]:
        raise UsageError(
            "both sides are the same", hint="name two schemes, models or KV precisions with a comma"
        )
    return both[0], both[1]


def export_kinds(text: str | None, *, wanted: bool) -> tuple[Kind, ...]:
    """What is exported; all where only a folder is named. Raises UsageError for unknown kinds."""
    if text is None:
        return ("markdown", "json", "svg") if wanted else ()
    names = words(text, "--export")
    for name in names:
        if name not in KINDS:
            raise UsageError(f"unknown kind of export {name!r}", hint="some of: md, json, svg")
    return tuple(dict.fromkeys(KINDS[name] for name in names))


def _pair(text: str | None, option: str, known: tuple[str, str]) -> tuple[str, str]:
    """Two names; one stands for both sides."""
    if text is None:
        return known
    found = [part.strip() for part in text.split(",")]
    if len(found) > 2 or not all(found):
        raise UsageError(f"{option}: one or two names are wanted", hint=f"{option} LEFT,RIGHT")
    return found[0], found[-1]


def _scheme(name: str) -> str:
    from quantchat.quant.registry import scheme_named

    return name if name == "auto" else scheme_named(name).name


def _kv(name: str) -> str:
    if name != "auto" and name not in KV_FORMATS:
        raise UsageError(f"unknown KV precision {name!r}", hint=f"one of: {KV_HELP[:-1]}")
    return name


def _wish(
    settings: Settings,
    left: LoadRequest,
    right: LoadRequest,
    messages: tuple[Message, ...],
    mode: Literal["free", "guided"],
) -> Wish:
    from quantchat.comparing.runner import Wish

    return Wish(
        left=left,
        right=right,
        messages=messages,
        sampling=settings.sampling(),
        max_tokens=settings.max_tokens,
        mode=mode,
    )


def _compare(wish: Wish) -> Comparison:
    from quantchat.comparing.runner import Runner
    from quantchat.engine.session import Session

    session = Session()
    try:
        with drawn() as shown:
            return Runner(session, wish, draw=shown.draw, say=shown.say).run()
    finally:
        session.close()


def _tell(comparison: Comparison, kinds: tuple[Kind, ...], folder: Path, *, as_json: bool) -> None:
    from quantchat.comparing.json_export import to_json

    if as_json:
        click.echo(to_json(comparison, indent=None))
    else:
        from quantchat.cli.compare_view import show

        show(comparison)
    if kinds:
        from quantchat.comparing.export import write_export

        for path in write_export(comparison, folder, kinds=kinds):
            click.echo(f"wrote {path}", err=True)
