"""What goes out comes back equal; what is foreign or broken leaves nothing behind."""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from quantchat.errors import StoreError
from quantchat.store import transfer
from quantchat.store.archive import Archive, add_archives, read_archive, renumbered
from quantchat.store.as_json import from_json, to_json
from quantchat.store.as_markdown import from_markdown, to_markdown
from quantchat.store.chats import Chats
from quantchat.store.db import Database
from quantchat.store.records import Attachment, Chat
from quantchat.store.transfer import (
    export_file,
    export_folder,
    file_name,
    import_files,
    read_file,
)

HARD = 'Line one\n\n## You\n\n<!-- turn {"role": "user"} -->\n```py\n---\n```\n\ttrailing  \n'


def full_chat(chats: Chats) -> Chat:
    """Versions, a branch, figures, attachments, a failed answer, everything of its own."""
    chat = chats.create(
        model="starter",
        scheme="int4",
        kv="int8",
        system_prompt="Be kind.\nBe > brief -->.",
        title="Why: is --- the *sky* blue?",
        tags=("physics", "school"),
        sampling={"temperature": 0.2, "seed": 7},
    )
    chats.pin(chat.id, True)
    files = [Attachment("a.py", "print('``` ````')\n"), Attachment("empty", "")]
    user = chats.add_turn(chat.id, None, "user", HARD, attachments=files)
    first = chats.add_turn(chat.id, user.id, "assistant", "one", scheme="fp16", metrics={})
    chats.add_turn(chat.id, first.id, "user", "a branch")
    second = chats.add_turn(chat.id, user.id, "assistant", state="streaming", model="m", kv="int8")
    figures = {"completion_tokens": 1234, "decode_tok_per_s": 38.25, "ttft_s": 0.157}
    chats.finish_turn(second.id, "failed", "half ö 漢 😀", figures, note="out of *memory*\nthere")
    chats.add_turn(chat.id, second.id, "user", "")
    return chats.get(chat.id)


def shape(archive: Archive) -> Archive:
    return renumbered(archive)


def test_json_gives_back_an_equal_tree(chats: Chats, tmp_path: Path) -> None:
    chat = full_chat(chats)
    path = export_file(chats, chat.id, tmp_path / "sky.json")
    (again,) = import_files(chats, [path])
    assert again.id != chat.id
    assert shape(read_archive(chats, again.id)) == shape(read_archive(chats, chat.id))
    assert [found.id for found in chats.list(search="branch")] == [chat.id, again.id][::-1]


def test_markdown_gives_back_the_shown_path_to_the_letter(chats: Chats, tmp_path: Path) -> None:
    chat = full_chat(chats)
    path = export_file(chats, chat.id, tmp_path / "sky.md")
    (again,) = import_files(chats, [path])
    for key in ("title", "tags", "model", "scheme", "kv", "system_prompt", "sampling", "pinned"):
        assert getattr(again, key) == getattr(chat, key), key
    assert (again.created_s, again.updated_s) == (chat.created_s, chat.updated_s)
    before, after = chats.path(chat.id), chats.path(again.id)
    for key in ("role", "content", "state", "model", "scheme", "kv", "metrics", "note"):
        assert [getattr(turn, key) for turn in after] == [getattr(turn, key) for turn in before]
    assert [turn.attachments for turn in after] == [turn.attachments for turn in before]
    assert [turn.created_s for turn in after] == [turn.created_s for turn in before]


def test_markdown_reads_well(chats: Chats) -> None:
    chat = chats.create(title="Sky", tags=("physics",), model="starter", system_prompt="Be kind.")
    user = chats.add_turn(chat.id, None, "user", "Why?", attachments=[Attachment("n.py", "x = 1")])
    figures = {"completion_tokens": 12, "decode_tok_per_s": 38.25, "ttft_s": 0.157}
    chats.add_turn(
        *(chat.id, user.id, "assistant", "Because."),
        model="starter",
        scheme="int4",
        kv="int8",
        metrics=figures,
    )
    text = to_markdown(read_archive(chats, chat.id))
    front, _, body = text[4:].partition("\n---\n")
    assert 'title: "Sky"' in front and 'tags: ["physics"]' in front
    assert 'system_prompt: "Be kind."' in front and 'made: "20' in front
    said = [line for line in body.split("\n") if line and not line.startswith("<!--")]
    assert said == [
        *("# Sky", "## You", "Why?", "```py", "x = 1", "```"),
        *("## Answer · starter · int4 · kv int8", "Because."),
        "*12 tokens · 38.2 tok/s · TTFT 157 ms*",
    ]


TEXTS = st.text(alphabet=st.sampled_from("a`#<!- turn>{}\n\r\t\\*é漢\u2028\x85"), max_size=60)


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(contents=st.lists(TEXTS, max_size=4), prompt=TEXTS, attached=TEXTS)
def test_any_text_survives_both_ways(
    chats: Chats, contents: list[str], prompt: str, attached: str
) -> None:
    chat = chats.create(system_prompt=prompt, title="t")
    parent = None
    for content in contents:
        files = [Attachment(f"{content[:5]}.md", attached)]
        turn = chats.add_turn(chat.id, parent, "user", content, attachments=files)
        parent = turn.id
    archive = read_archive(chats, chat.id)
    assert shape(from_json(to_json(archive))) == shape(archive)
    assert shape(from_markdown(to_markdown(archive))) == shape(archive)


def test_markdown_edited_by_hand_and_with_other_line_ends_is_read(chats: Chats) -> None:
    chat = full_chat(chats)
    text = to_markdown(read_archive(chats, chat.id))
    text = text.replace('"Why: is --- the *sky* blue?"', "no quotes here", 1)
    text = text.replace("half ö", "whole ö")
    for each in (text, text.replace("\n", "\r\n"), text.rstrip("\n")):
        archive = from_markdown(each)
        assert archive.chat.title == "no quotes here"
        assert archive.turns[1].content == "whole ö 漢 😀"


def test_a_streaming_answer_is_stopped_where_it_arrives(chats: Chats, tmp_path: Path) -> None:
    chat = chats.create(title="x")
    chats.add_turn(chat.id, None, "assistant", "half", state="streaming")
    for name in ("a.json", "a.md"):
        (again,) = import_files(chats, [export_file(chats, chat.id, tmp_path / name)])
        assert [turn.state for turn in chats.path(again.id)] == ["stopped"]
    assert chats.recover() == 0


def test_a_copied_archive_never_lies_in_the_future(chats: Chats) -> None:
    chat = full_chat(chats)
    table = json.loads(to_json(read_archive(chats, chat.id)))
    table["updated_s"] = table["turns"][0]["created_s"] = 9e10
    (again,) = add_archives(chats, [from_json(json.dumps(table))])
    assert again.updated_s < 9e9 and chats.path(again.id)[0].created_s < 9e9


def put(*keys: str | int, value: Any) -> Callable[[Any], None]:
    def change(table: Any) -> None:
        for key in keys[:-1]:
            table = table[key]
        table[keys[-1]] = value

    return change


BROKEN: dict[str, tuple[Callable[[Any], None], str]] = {
    "foreign": (put("format", value="chat"), "not a conversation"),
    "newer": (put("version", value=2), "newer quantchat"),
    "version": (put("version", value="1"), "version: '1'"),
    "turns": (put("turns", value={}), "turns"),
    "turn": (put("turns", 1, value=3), r"turns\[1\] is not a table"),
    "role": (put("turns", 1, "role", value="bot"), r"turns\[1\]\.role: 'bot'"),
    "content": (put("turns", 0, "content", value=None), r"turns\[0\]\.content"),
    "state": (put("turns", 0, "state", value="x"), "state"),
    "parent after": (put("turns", 1, "parent", value=4), r"turns\[1\]\.parent"),
    "parent word": (put("turns", 1, "parent", value="1"), "parent"),
    "id": (put("turns", 1, "id", value=9), r"turns\[1\]\.id"),
    "two active": (put("turns", 1, "active", value=True), "active"),
    "two versions": (put("turns", 1, "version", value=1), "same version"),
    "metrics": (put("turns", 1, "metrics", value={"x": "fast"}), r"metrics\.x"),
    "infinite": (put("turns", 1, "metrics", value={"x": float("inf")}), r"metrics\.x"),
    "attachments": (put("turns", 0, "attachments", value=[{"name": 1}]), r"attachments\[0\]"),
    "tags": (put("tags", value=[1]), "tags"),
    "title": (put("title", value="x" * 5000), "5,000 characters"),
    "time": (put("created_s", value=-1), "created_s"),
    "flag": (put("pinned", value=1), "pinned"),
    "sampling": (put("sampling", value=[]), "sampling"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_json_says_what_and_where_and_nothing_is_imported(
    chats: Chats, tmp_path: Path, name: str
) -> None:
    chat = full_chat(chats)
    good = export_file(chats, chat.id, tmp_path / "good.json")
    change, message = BROKEN[name]
    table = json.loads(good.read_text())
    change(table)
    bad = tmp_path / "bad.json"
    bad.write_text(json.dumps(table))
    with pytest.raises(StoreError, match=message) as caught:
        import_files(chats, [good, bad])
    assert caught.value.message.startswith("bad.json: ")
    assert [found.id for found in chats.list()] == [chat.id]


@pytest.mark.parametrize(
    "data",
    [
        *(b"", b"{", b"[]", b"[" * 200_000, b"\xff\xfe\x00", b"# Just a text\n", b"---\n---\n"),
        *(b"---\nquantchat: 1\n---\n", b"---\nquantchat: 1\nmark: (\n---\n", b"---\nquantchat"),
        b'---\nquantchat: 1\nmark: "turn"\n---\n<!-- turn {"role": "bot"} -->\n## X\n\nx\n',
        b'---\nquantchat: 1\nmark: "turn"\n---\n<!-- turn {broken} -->\n## X\n\nx\n',
        b'---\nquantchat: 1\nmark: "turn"\n---\n<!-- turn-file {"name": "x"} -->\n```\n```\n',
        b'---\nquantchat: 9\nmark: "turn"\n---\n',
    ],
    ids=range(14),
)
def test_foreign_files_are_refused_by_name(chats: Chats, tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "file.md"
    path.write_bytes(data)
    with pytest.raises(StoreError, match=r"^file\.md: "):
        import_files(chats, [path])
    assert chats.list() == ()


def test_any_damage_is_a_plain_error_or_a_whole_conversation(chats: Chats, tmp_path: Path) -> None:
    chat = full_chat(chats)
    chance = random.Random(5)
    for name in ("a.json", "a.md"):
        data = export_file(chats, chat.id, tmp_path / name).read_bytes()
        for _ in range(150):
            broken = bytearray(data)
            for _ in range(chance.randrange(1, 4)):
                at = chance.randrange(len(broken))
                del broken[at : at + chance.choice((0, 1, 40))]
                broken[at:at] = chance.choice((b"", b"-->", b"\n", b"{", b"9" * 30, b"\x00"))
            path = tmp_path / "broken"
            path.write_bytes(bytes(broken))
            try:
                archive = read_file(path)
            except StoreError:
                continue
            (again,) = add_archives(chats, [archive])
            assert len(read_archive(chats, again.id).turns) == len(archive.turns)


def test_large_files_are_not_read(
    chats: Chats, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "FILE_LIMIT_BYTES", 100)
    path = tmp_path / "large.json"
    path.write_bytes(b" " * 101)
    with pytest.raises(StoreError, match="larger"):
        read_file(path)
    with pytest.raises(StoreError, match="cannot be read"):
        read_file(tmp_path / "none.md")
    with pytest.raises(StoreError, match="cannot be read"):
        read_file(tmp_path)


def test_a_write_that_fails_half_way_leaves_nothing(
    chats: Chats, database: Database, tmp_path: Path
) -> None:
    chat = full_chat(chats)
    archive = read_archive(chats, chat.id)
    with database.write() as connection:
        connection.execute(
            "CREATE TRIGGER stop BEFORE INSERT ON turns WHEN new.role = 'assistant'"
            " BEGIN SELECT RAISE(ABORT, 'disk full'); END"
        )
    with pytest.raises(StoreError, match="disk full"):
        add_archives(chats, [archive])
    assert [found.id for found in chats.list()] == [chat.id]
    with database.read() as connection:
        connection.execute("INSERT INTO turns_text (turns_text) VALUES ('integrity-check')")


@pytest.mark.skipif(sys.platform == "win32", reason="limits are a matter of POSIX")
def test_a_full_disk_keeps_the_file_that_was_to_be_overwritten(
    chats: Chats, tmp_path: Path
) -> None:
    import resource

    path = tmp_path / "kept.md"
    chat = chats.create(title="long " * 100)
    path.write_text("as it was")
    path.chmod(0o640)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
    try:
        with pytest.raises(StoreError, match="cannot be written"):
            export_file(chats, chat.id, path, overwrite=True)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_text() == "as it was" and list(tmp_path.glob(".kept*")) == []
    export_file(chats, chat.id, path, overwrite=True)
    assert path.stat().st_mode & 0o777 == 0o640


def test_files_are_named_by_title_and_never_overwritten_unasked(
    chats: Chats, tmp_path: Path
) -> None:
    one = chats.create(title="Über: Farben / und ..\\ mehr!")
    two = chats.create()
    assert file_name(one, "md") == "über-farben-und-mehr.md"
    assert file_name(two, "json") == f"conversation-{two.id}.json"
    folder = tmp_path / "out" / "deep"
    written = export_folder(chats, [one.id, one.id, two.id], folder, "md")
    assert [path.name for path in written] == [
        *("über-farben-und-mehr.md", "über-farben-und-mehr-2.md"),
        f"conversation-{two.id}.md",
    ]
    with pytest.raises(StoreError, match="exists already"):
        export_file(chats, two.id, written[0])
    export_file(chats, two.id, written[0], overwrite=True)
    assert read_file(written[0]).chat.title == ""
    with pytest.raises(StoreError, match="ending"):
        export_file(chats, two.id, tmp_path / "x.txt")
    with pytest.raises(StoreError, match="cannot be written"):
        export_file(chats, two.id, tmp_path / "none" / "x.md")
    with pytest.raises(StoreError, match="gone"):
        export_file(chats, 999, tmp_path / "y.md")


def test_reading_out_is_one_view_of_the_tree(chats: Chats, database: Database) -> None:
    chat = full_chat(chats)
    archive = read_archive(chats, chat.id)
    assert [turn.content for turn in archive.path] == [turn.content for turn in chats.path(chat.id)]
    with (
        pytest.raises(StoreError, match="readonly"),
        database.search() as connection,
    ):
        connection.execute("DELETE FROM chats")
