"""`quantchat chats`: what the shell sees of the conversations."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from quantchat import paths
from quantchat.cli.chats import command
from quantchat.errors import StoreError, UsageError
from quantchat.store.chats import Chats
from quantchat.store.db import open_database


@pytest.fixture
def ids() -> list[int]:
    database = open_database(paths.database_file())
    chats = Chats(database)
    found = []
    for title, tags in (("Sky", ("work",)), ("Sea \x1b[2J", ())):
        chat = chats.create(title=title, tags=tags)
        chats.add_turn(chat.id, None, "user", f"Why is the {title[:3]} blue?")
        found.append(chat.id)
    database.close()
    return found


def run(*words: object) -> Result:
    return CliRunner().invoke(command, [str(word) for word in words], catch_exceptions=False)


def test_list_and_search(ids: list[int]) -> None:
    lines = run("list").output.splitlines()
    assert [line.split()[0] for line in lines] == [str(ids[1]), str(ids[0])]
    assert lines[1].endswith("Sky  #work") and "\x1b" not in "".join(lines)
    assert "1 more" in run("list", "--limit", 1).output
    found = run("search", "#work", "blue").output
    assert "Sky" in found and "Why is the Sky blue?" in found and "Sea" not in found
    assert run("search", "zebra").output == "nothing found\n"
    table = json.loads(run("search", "sky", "--json").output)
    assert table["total"] == 1 and table["chats"][0]["id"] == ids[0]
    assert table["chats"][0]["tags"] == ["work"]


def test_an_empty_store_says_so() -> None:
    assert run("list").output == "no conversations yet\n"


def test_show_export_and_import(ids: list[int], tmp_path: Path) -> None:
    assert "## You\n\nWhy is the Sky blue?" in run("show", ids[0]).output
    path = tmp_path / "sky.json"
    assert run("export", ids[0], "--to", path).output == f"{path}\n"
    with pytest.raises(StoreError, match="exists already"):
        run("export", ids[0], "--to", path)
    assert run("export", ids[0], "--to", path, "--force").output == f"{path}\n"
    folder = tmp_path / "all"
    written = run("export", "--all", folder, "--format", "json").output.splitlines()
    assert sorted(written) == sorted(map(str, folder.iterdir())) and len(written) == 2
    assert run("export", *ids, "--to", folder).output.count(".md") == 2
    assert "Sky" in run("import", path, *folder.glob("*.md")).output
    assert run("list").output.count("\n") == 5
    bad = tmp_path / "bad.json"
    bad.write_text("{}")
    with pytest.raises(StoreError, match=r"bad\.json: not a conversation"):
        run("import", path, bad)
    assert run("list").output.count("\n") == 5


def test_export_wants_ids_or_all(ids: list[int], tmp_path: Path) -> None:
    for words in (("export",), ("export", ids[0], "--all", tmp_path)):
        with pytest.raises(UsageError):
            run(*words)
    assert run("show", 10**30).exit_code == run("export", 10**30).exit_code == 2
    with pytest.raises(StoreError, match="gone"):
        run("show", 999)
