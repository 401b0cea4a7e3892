"""`quantchat models`: what is on disk and what can be fetched, for people or as JSON."""

from __future__ import annotations

import dataclasses
import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from quantchat.cli.answer_options import changed_settings
from quantchat.errors import QuantchatError
from quantchat.sizes import size_words

if TYPE_CHECKING:
    from quantchat.tui.control.fits import Fits


@click.command()
@click.option("--fit", is_flag=True, help="Say what each would be on this machine.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(fit: bool, as_json: bool) -> None:
    """List models on disk and in the catalog."""
    from quantchat.hub.catalog import CATALOG
    from quantchat.hub.local import list_local

    waiting = _waiting()
    local = list_local()
    have = {model.name for model in local}
    verdicts = _verdicts([*have, *CATALOG]) if fit else {}
    if as_json:
        click.echo(
            json.dumps(
                {
                    "on_disk": [
                        {
                            "name": model.name,
                            "container": model.container,
                            "size_bytes": model.size_bytes,
                            "origin": model.origin,
                            "path": str(model.path),
                            **_fit_record(verdicts, model.name),
                        }
                        for model in local
                    ],
                    "unfinished": waiting,
                    "catalog": [
                        {
                            "alias": entry.alias,
                            "title": entry.title,
                            "repo": entry.repo,
                            "file": entry.file,
                            "parameters": entry.parameters,
                            "size_bytes": entry.size_bytes,
                            "license": entry.license,
                            "gated": entry.gated,
                            "context_tokens": entry.context_tokens,
                            "note": entry.note,
                            "on_disk": entry.alias in have,
                            **_fit_record(verdicts, entry.alias),
                        }
                        for entry in CATALOG.values()
                    ],
                }
            )
        )
        return
    click.echo("On disk")
    if local:
        _table(
            [
                (
                    *(model.name, model.container, size_words(model.size_bytes)),
                    *_fit_words(verdicts, model.name),
                    str(model.path),
                )
                for model in local
            ]
        )
    else:
        click.echo("  nothing yet; `quantchat pull starter` fetches a small model")
    if waiting:
        click.echo("\nUnfinished; `quantchat pull` goes on, `quantchat rm NAME` gives one up")
        _table([_waiting_row(job) for job in waiting])
    click.echo("\nTo fetch with `quantchat pull NAME`")
    _table(
        [
            (
                *(entry.alias, entry.title, size_words(entry.size_bytes)),
                *_fit_words(verdicts, entry.alias),
                *(entry.license, entry.note),
            )
            for entry in CATALOG.values()
            if entry.alias not in have
        ]
    )
    click.echo("\nAny owner/name or owner/name:file.gguf of the hub works too, or a path.")


def _verdicts(names: Iterable[str]) -> dict[str, Fits | QuantchatError]:
    """What fits of each, or why nothing is known of it; the catalog needs no network."""
    from quantchat.tui.control.plan_fits import PlanFits

    settings = changed_settings({})
    book = PlanFits(lambda: settings)
    found: dict[str, Fits | QuantchatError] = {}
    for name in dict.fromkeys(names):
        try:
            found[name] = book.fits(name, None, threading.Event())
        except QuantchatError as error:
            found[name] = error
    return found


def _fit_words(verdicts: Mapping[str, Fits | QuantchatError], name: str) -> tuple[str, ...]:
    """Scheme, context and speed, or what is in the way; no column where nothing was asked."""
    found = verdicts.get(name)
    if found is None:
        return ()
    if isinstance(found, Exception):
        return (found.message[:80],)
    if found.refusal:
        return (f"no: {found.refusal[:80]}",)
    rate = found.fits[0].tok_per_s
    speed = "" if rate is None else f", ~{rate:,.0f} tok/s"
    return (f"{found.scheme} fits to {found.longest_context_tokens} tokens{speed}",)


def _fit_record(verdicts: Mapping[str, Fits | QuantchatError], name: str) -> dict[str, Any]:
    """The same as JSON; null where nothing is known."""
    found = verdicts.get(name)
    if found is None:
        return {}
    if isinstance(found, Exception):
        return {"fit": None}
    record = dataclasses.asdict(found)
    for each in record["fits"]:
        each["measured"] = sorted(each["measured"])
    return {"fit": record}


def _waiting() -> list[dict[str, Any]]:
    """Downloads that have not ended, in the order of asking."""
    from quantchat.hub.downloads import wanted
    from quantchat.hub.partial import unfinished

    parts = {part.name: part for part in unfinished()}
    jobs = [(job.name, job.state, job.message) for job in wanted()]
    named = {name for name, _, _ in jobs}
    jobs += [(name, "interrupted", "") for name in parts if name not in named]
    return [
        {
            "name": name,
            "state": state,
            "message": message,
            "done_bytes": parts[name].done_bytes if name in parts else 0,
            "total_bytes": parts[name].total_bytes if name in parts else 0,
        }
        for name, state, message in jobs
    ]


def _waiting_row(job: Mapping[str, Any]) -> tuple[str, ...]:
    done, total = job["done_bytes"], job["total_bytes"]
    came = f"{size_words(done)} of {size_words(total)}" if total else "not begun"
    return (job["name"], job["state"], came, job["message"].partition("\n")[0][:80])


def _table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        click.echo("  " + "  ".join(cells).rstrip())
