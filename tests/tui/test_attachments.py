"""Files and pastes that go along with a message: how they are named, read, refused and found."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from quantchat.store.records import Attachment
from quantchat.tui.control import attachments, file_finder
from quantchat.tui.control.attachments import (
    AttachmentError,
    gather,
    is_large,
    mention_of,
    mentions,
    paste_label,
    pastes_in,
    pastes_of,
)
from quantchat.tui.control.file_finder import FileFinder, rank
from quantchat.tui.control.said import block_of, said


def test_paths_are_named_by_an_at_sign() -> None:
    text = 'see @a.md, (@src/b.py) and @"my file.txt" not me@mail.org or x/@y'
    assert [name.rstrip(attachments.TRAILING) for name in mentions(text)] == [
        "a.md",
        "src/b.py",
        "my file.txt",
    ]
    assert mention_of("a.md") == "@a.md" and mention_of("my file.txt") == '@"my file.txt"'


def test_files_are_read_once_and_in_order(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_bytes("\ufeffüber\r\nzwei".encode())
    (tmp_path / "my file.txt").write_text("spaced")
    got = gather('@"my file.txt" then @a.md, and @a.md. @types/node @nobody', tmp_path, {})
    assert got.attachments == (
        Attachment("my file.txt", "spaced"),
        Attachment("a.md", "über\nzwei"),
    )
    assert got.unknown == ("types/node",)


def test_a_file_of_an_edited_message_stays_as_it_was(tmp_path: Path) -> None:
    (tmp_path / "a.md").write_text("new")
    old = Attachment("a.md", "old")
    assert gather("look at @a.md.", tmp_path, {"a.md": old}).attachments == (old,)


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("binary.dat", "not text"),
        ("latin.txt", "not UTF-8 text: byte 1"),
        ("big.txt", "more than 1.00 MiB"),
        ("sub/", "is a folder"),
        ("pipe", "not a plain file"),
        ("closed.txt", "denied"),
    ],
)
def test_what_cannot_go_along_is_refused_with_its_reason(
    tmp_path: Path, name: str, words: str
) -> None:
    (tmp_path / "binary.dat").write_bytes(b"\0\1")
    (tmp_path / "latin.txt").write_bytes(b"b\xe4r")
    (tmp_path / "big.txt").write_bytes(b"a" * (attachments.FILE_BYTES + 1))
    (tmp_path / "sub").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "closed.txt").write_text("x")
    (tmp_path / "closed.txt").chmod(0)
    if name == "closed.txt" and os.access(tmp_path / name, os.R_OK):
        pytest.skip("this user reads everything")
    with pytest.raises(AttachmentError, match=words):
        gather(f"see @{name}", tmp_path, {})


def test_the_files_of_a_message_are_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        (tmp_path / f"{number}.txt").write_text("x" * 100)
    text = " ".join(f"@{number}.txt" for number in range(4))
    monkeypatch.setattr(attachments, "FILES", 3)
    with pytest.raises(AttachmentError, match="more than 3 files"):
        gather(text, tmp_path, {})
    monkeypatch.setattr(attachments, "FILES", 4)
    monkeypatch.setattr(attachments, "ALL_BYTES", 300)
    with pytest.raises(AttachmentError, match="together"):
        gather(text, tmp_path, {})


def test_pastes_are_named_by_their_length() -> None:
    lines = "\n".join("abc" for _ in range(240))
    assert is_large(lines) and is_large("x" * 1001) and not is_large("x\n" * 11)
    label = paste_label(2, lines)
    assert label == "[paste 2 · 240 lines]"
    assert paste_label(3, "x" * 1240) == "[paste 3 · 1,240 characters]"
    known = {label: lines}
    text = f"a {label} b [paste 9 · 3 lines]"
    assert pastes_in(text, known) == (Attachment("paste 2", lines),)
    assert pastes_of(text, (Attachment("paste 2", lines), Attachment("a.md", "x"))) == known


def test_the_model_sees_files_in_fences_that_they_cannot_close() -> None:
    file = Attachment("a.md", "text\n````\ncode\n````\n")
    assert block_of(file) == "a.md:\n`````\ntext\n````\ncode\n````\n`````"
    assert said("Why?", (Attachment("b", "x"), file)).endswith("`````\n\nWhy?")
    assert said("Why?", ()) == "Why?"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    for name in (
        "notes.md",
        "docs/note_two.md",
        "docs/deep/code.py",
        ".git/HEAD",
        ".env",
        "a b.txt",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text")
    (tmp_path / "photo.png").write_bytes(b"\x89PNG")
    (tmp_path / "data").write_bytes(b"\0\0")
    return tmp_path


def test_files_are_found_by_their_letters(tree: Path) -> None:
    finder = FileFinder()

    def found(fragment: str) -> list[str]:
        return [each.path for each in finder.find(fragment, tree)]

    assert found("note") == ["notes.md", "docs/note_two.md"]
    assert found("dcp") == ["docs/deep/code.py"]
    assert found("")[:2] == ["a b.txt", "docs/"]
    assert found(".env") == [".env"] and ".env" not in found("env")
    assert not any("photo" in path or path == "data" for path in found(""))
    assert found("docs/no") == ["docs/note_two.md"]
    assert found(f"{tree}/docs/co") == [f"{tree}/docs/deep/code.py"]
    assert found("nowhere/x") == [] and found("~nobody-here/x") == []


def test_a_walk_is_bounded(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_finder, "WALK_ENTRIES", 2)
    assert 2 <= len(file_finder.walk(tree, hidden=False)) <= 6
    monkeypatch.setattr(file_finder, "WALK_S", 0.0)
    assert file_finder.walk(tree, hidden=False) == []


def test_beginnings_come_before_middles() -> None:
    paths = ["x/reading.py", "ad.py", "src/ad_hoc.py", "a/b/d.py"]
    ranked = sorted(paths, key=lambda path: rank("ad", path) or (9, 9, path))
    assert ranked == ["ad.py", "src/ad_hoc.py", "x/reading.py", "a/b/d.py"]
    assert rank("zz", "ad.py") is None
