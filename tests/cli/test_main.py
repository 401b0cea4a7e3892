"""What `quantchat` says and returns where the system refuses, or nothing is connected."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from quantchat import paths
from quantchat.cli.compare import command as compare
from quantchat.cli.main import main
from quantchat.errors import UsageError


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[..., object]:
    monkeypatch.setenv("QUANTCHAT_HOME", str(tmp_path / "home"))

    def code_of(*words: str) -> object:
        monkeypatch.setattr(sys, "argv", ["quantchat", *words])
        with pytest.raises(SystemExit) as stopped:
            main()
        return stopped.value.code

    return code_of


class Full(io.StringIO):
    """A file on a full disk."""

    def write(self, text: str) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_a_home_that_cannot_be_is_one_line_and_a_hint(
    run: Callable[..., object],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("QUANTCHAT_HOME", str(tmp_path / "file"))
    assert run("models") == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 2 and "Not a directory" in said[0] and "QUANTCHAT_HOME" in said[1]


def test_a_full_disk_behind_stdout_is_said(
    run: Callable[..., object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdout", Full())
    assert run("models") == 1
    assert "No space left on device" in capsys.readouterr().err


def test_the_app_without_streams_says_that_it_needs_a_terminal(
    run: Callable[..., object], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "stdin", None)
    monkeypatch.setattr(sys, "stdout", None)
    assert run("chat") == 2
    assert "needs a terminal" in capsys.readouterr().err


def test_what_an_encoding_lacks_does_not_end_a_command(
    run: Callable[..., object], monkeypatch: pytest.MonkeyPatch
) -> None:
    written = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(written, encoding="latin-1"))
    assert run("chats", "search", "−2") == 0
    assert b"nothing found" in written.getvalue()
    sys.stdout.write("−")
    sys.stdout.flush()
    assert written.getvalue().endswith(b"?")


def test_a_home_of_nobody_stays_as_it_is_written() -> None:
    assert paths.expanded("~nobody-of-that-name/x") == Path("~nobody-of-that-name/x")
    assert paths.expanded("~/x") == Path.home() / "x"


def test_all_precisions_are_no_side() -> None:
    with pytest.raises(UsageError, match="unknown KV precision 'all'") as refused:
        CliRunner().invoke(compare, ["-p", "hi", "--kv", "all"], catch_exceptions=False)
    assert "auto, 16bit" in refused.value.hint


@pytest.mark.parametrize("words", [("models", "--fit"), ("eval", "--task", "none.jsonl")])
def test_settings_that_are_not_used_are_told(
    run: Callable[..., object], capsys: pytest.CaptureFixture[str], words: tuple[str, ...]
) -> None:
    paths.settings_file().write_text('temperature = "hot"\n')
    run(*words)
    assert "temperature: 'hot' is not allowed" in capsys.readouterr().err
