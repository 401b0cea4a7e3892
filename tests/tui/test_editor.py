"""The user's editor and clipboard, outside of the app."""

from __future__ import annotations

import os
import signal
from contextlib import nullcontext
from pathlib import Path

import pytest
from app_support import make_app, notes, ready

from quantchat.tui import clipboard
from quantchat.tui.control import editor


async def test_the_editor_writes_the_prompt(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    script = tmp_path / "edit"
    script.write_text('#!/bin/sh\nprintf "\\nfrom the editor\\n" >> "$1"\necho "$1" > "$0.path"\n')
    script.chmod(0o755)
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", str(script))
    app = make_app(tmp_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        monkeypatch.setattr(app, "suspend", nullcontext)
        await pilot.press("a", "alt+e")
        assert app.chat_screen.prompt.text == "a\nfrom the editor"
        assert not Path((tmp_path / "edit.path").read_text().strip()).exists()
        script.write_text("#!/bin/sh\nexit 3\n")
        await pilot.press("alt+e")
        assert "ended with status 3" in notes(app)
        assert app.chat_screen.prompt.text == "a\nfrom the editor"
        script.write_text('#!/bin/sh\nprintf "\\344" > "$1"\n')
        await pilot.press("alt+e")
        assert "not UTF-8" in notes(app)


def test_ctrl_c_is_the_editors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = tmp_path / "edit"
    script.write_text("#!/bin/sh\nkill -INT $PPID\nkill -INT $$\nsleep 60\n")
    script.chmod(0o755)
    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(editor.EditorError, match="ended with status -2"):
        editor.edit_text("kept", [str(script)])
    assert signal.getsignal(signal.SIGINT) is before

    def full(**_: str) -> None:
        raise FileNotFoundError(2, "No usable temporary directory found")

    monkeypatch.setattr("tempfile.mkstemp", full)
    with pytest.raises(editor.EditorError, match="no file for the editor: No usable"):
        editor.edit_text("kept", ["true"])


def test_tmux_is_given_what_is_copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    got = tmp_path / "got"
    tmux = tmp_path / "tmux"
    tmux.write_text(f'#!/bin/sh\necho "$@" > {got}.words\ncat > {got}\n')
    tmux.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(clipboard, "local_tool", lambda: None)
    monkeypatch.delenv("TMUX", raising=False)
    assert clipboard.copy("one", lambda _: None) == "the terminal (OSC 52)"
    assert not got.exists()
    monkeypatch.setenv("TMUX", "/tmp/nowhere,1,0")
    assert clipboard.copy("zwölf", lambda _: None) == "the terminal (OSC 52) and tmux"
    assert got.read_text() == "zwölf"
    assert Path(f"{got}.words").read_text() == "load-buffer -w -\n"


def test_the_editor_is_the_users(monkeypatch: pytest.MonkeyPatch) -> None:
    assert editor.editor_command({"VISUAL": "sh -c", "EDITOR": "none"}) == ["sh", "-c"]
    with pytest.raises(editor.EditorError, match="nowhere"):
        editor.editor_command({"EDITOR": "nowhere-to-be-found"})
    with pytest.raises(editor.EditorError, match="cannot be read"):
        editor.editor_command({"EDITOR": "'"})
    monkeypatch.setattr(editor, "USUAL", ())
    with pytest.raises(editor.EditorError, match="no editor"):
        editor.editor_command({})
