"""`quantchat models`: what is on disk and what can be fetched, for people or as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import click


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def command(as_json: bool) -> None:
    """List models on disk and in the catalog."""
    from quantchat.hub.catalog import CATALOG
    from quantchat.hub.local import list_local

    waiting = _waiting()
    local = list_local()
    have = {model.name for model in local}
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
                (model.name, model.container, size(model.size_bytes), str(model.path))
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
            (entry.alias, entry.title, size(entry.size_bytes), entry.license, entry.note)
            for entry in CATALOG.values()
            if entry.alias not in have
        ]
    )
    click.echo("\nAny owner/name or owner/name:file.gguf of the hub works too, or a path.")


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
    came = f"{size(done)} of {size(total)}" if total else "not begun"
    return (job["name"], job["state"], came, job["message"].partition("\n")[0][:80])


def size(size_bytes: int) -> str:
    """Bytes in decimal units, as hubs show them."""
    if size_bytes >= 1_000_000_000:
        return f"{size_bytes / 1e9:.1f} GB"
    return f"{size_bytes / 1e6:.0f} MB"


def _table(rows: Sequence[tuple[str, ...]]) -> None:
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    for row in rows:
        cells = [cell.ljust(width) for cell, width in zip(row, widths, strict=True)]
        click.echo("  " + "  ".join(cells).rstrip())
