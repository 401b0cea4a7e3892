"""`quantchat chats`: list, search, show, export and import conversations in the shell."""

from __future__ import annotations

import contextlib
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from quantchat.cli.terminal import harmless

if TYPE_CHECKING:
    from quantchat.store.chats import Chats
    from quantchat.store.finding import Found

FORM = click.Choice(["md", "json"])
CHAT_ID = click.IntRange(1, 2**63 - 1)


@click.group(name="chats", help="List, search, export and import conversations.")
def command() -> None:
    """Conversations in the shell."""


@command.command(name="list")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1_000_000))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def list_chats(limit: int, as_json: bool) -> None:
    """The latest conversations, pinned ones first."""
    _list("", limit, as_json)


@command.command()
@click.argument("words", nargs=-1, required=True)
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 1_000_000))
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def search(words: tuple[str, ...], limit: int, as_json: bool) -> None:
    """Conversations with all of the WORDS in title or messages; #word is a tag."""
    _list(" ".join(words), limit, as_json)


@command.command()
@click.argument("chat_id", metavar="ID", type=CHAT_ID)
def show(chat_id: int) -> None:
    """One conversation as Markdown on stdout."""
    from quantchat.store.archive import read_archive
    from quantchat.store.as_markdown import to_markdown

    with _store() as chats:
        click.echo(harmless(to_markdown(read_archive(chats, chat_id)), sys.stdout), nl=False)


@command.command()
@click.argument("ids", metavar="[ID]...", nargs=-1, type=CHAT_ID)
@click.option(
    "--all", "folder", metavar="DIR", type=click.Path(path_type=Path), help="All of them."
)
@click.option("--to", metavar="PATH", type=click.Path(path_type=Path), help="File or folder.")
@click.option("--format", "form", type=FORM, help="md to read (the default), json for everything.")
@click.option("--force", is_flag=True, help="Replace a file that is there.")
def export(
    ids: tuple[int, ...], folder: Path | None, to: Path | None, form: Any, force: bool
) -> None:
    """Write conversations to files: those of the IDs, or all into DIR."""
    from quantchat.errors import UsageError
    from quantchat.store.finding import find
    from quantchat.store.transfer import export_file, export_folder

    if bool(ids) == bool(folder):
        raise UsageError(
            "name conversations by their ids, or all", hint="quantchat chats export --all DIR"
        )
    with _store() as chats:
        if folder is not None:
            page = find(chats.database, limit=1_000_000)
            every = [each.chat.id for each in page.found]
            written = export_folder(chats, every, folder, form or "md")
        elif len(ids) == 1 and to is not None and not to.is_dir():
            path = to if form is None or to.suffix else to.with_suffix(f".{form}")
            written = (export_file(chats, ids[0], path, overwrite=force),)
        else:
            written = export_folder(chats, ids, to or Path(), form or "md")
    for path in written:
        click.echo(str(path))


@command.command(name="import")
@click.argument(
    "files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path)
)
def import_(files: tuple[Path, ...]) -> None:
    """Take in files that quantchat wrote: all of them, or none where one is off."""
    from quantchat.store.transfer import import_files

    with _store() as chats:
        for chat in import_files(chats, files):
            click.echo(f"{chat.id}  {_line(chat.title)}")


def _list(text: str, limit: int, as_json: bool) -> None:
    from quantchat.store.finding import find

    with _store() as chats:
        page = find(chats.database, text, limit=limit)
    if as_json:
        click.echo(
            json.dumps({"total": page.total, "chats": [_object(each) for each in page.found]})
        )
        return
    if not page.found:
        click.echo("nothing found" if text else "no conversations yet")
    for each in page.found:
        chat = each.chat
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(chat.updated_s))
        tags = "".join(f"  #{tag}" for tag in chat.tags)
        pin = "★ " if chat.pinned else ""
        click.echo(f"{chat.id:>6}  {when}  {pin}{_line(chat.title) or 'untitled'}{_line(tags)}")
        if each.snippet:
            click.echo(f"{'':26}{_line(each.snippet)}")
    if page.total > len(page.found):
        click.echo(f"{page.total - len(page.found):,} more; --limit shows them")


def _object(found: Found) -> dict[str, object]:
    chat = found.chat
    return {
        "id": chat.id,
        "title": chat.title,
        "tags": list(chat.tags),
        "pinned": chat.pinned,
        "model": chat.model,
        "scheme": chat.scheme,
        "kv": chat.kv,
        "created_s": chat.created_s,
        "updated_s": chat.updated_s,
        "snippet": found.snippet,
    }


@contextlib.contextmanager
def _store() -> Iterator[Chats]:
    from quantchat import paths
    from quantchat.store.chats import Chats
    from quantchat.store.db import open_database

    database = open_database(paths.database_file())
    try:
        for warning in database.warnings:
            click.echo(f"quantchat: {warning}", err=True)
        yield Chats(database)
    finally:
        database.close()


def _line(text: str) -> str:
    """Without what would move the terminal's cursor."""
    return "".join(each if each.isprintable() else " " for each in text)
