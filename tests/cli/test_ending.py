"""The app on a real terminal: ended from outside, and of no size."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from quantchat.cli.terminal_size import give_size
from quantchat.store.chats import Chats
from quantchat.store.db import open_database

if sys.platform == "win32":
    pytest.skip("needs terminals of POSIX", allow_module_level=True)

import pty
import termios

APP = """
import sys
sys.path.insert(0, {support!r})
from pathlib import Path
from app_support import make_app
from fakes import FakeEngine, Script
from quantchat.cli.ending import end_when_told

app = make_app(Path({folder!r}), FakeEngine([Script("word and word", endless=True)]))
end_when_told(app)
app.run()
sys.exit(app.return_code)
"""
TIMEOUT_S = 60.0
ENTERS, LEAVES = b"\x1b[?1049h", b"\x1b[?1049l"


def test_a_told_app_puts_its_terminal_right_and_keeps_its_answer(tmp_path: Path) -> None:
    ours, theirs = pty.openpty()
    termios.tcsetwinsize(theirs, (24, 80))
    support = Path(__file__).resolve().parent.parent / "support"
    script = APP.format(support=str(support), folder=str(tmp_path))
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env={**os.environ, "TERM": "xterm-256color"},
        start_new_session=True,
    )
    os.close(theirs)
    chats = Chats(open_database(tmp_path / "conversations.db"))
    drawn, asked, told = b"", False, False
    until_s = time.monotonic() + TIMEOUT_S
    try:
        while process.poll() is None:
            assert time.monotonic() < until_s, drawn[-2000:]
            if select.select([ours], [], [], 0.05)[0]:
                try:
                    drawn += os.read(ours, 1 << 16)
                except OSError:
                    break
            if not asked and b"Write a message" in drawn:
                asked = os.write(ours, b"go on\r") > 0
            listed = chats.list()
            if not told and listed and "word and" in chats.path(listed[0].id)[-1].content:
                told = True
                process.send_signal(signal.SIGTERM)
        assert process.wait(TIMEOUT_S) == 128 + signal.SIGTERM
    finally:
        process.kill()
        process.wait()
        os.close(ours)
    assert drawn.count(ENTERS) == 1 and drawn.rindex(LEAVES) > drawn.index(ENTERS)
    answer = chats.path(chats.list()[0].id)[-1]
    assert answer.state == "stopped" and answer.note == "quantchat was closed while it streamed"


@pytest.mark.parametrize(("known", "given"), [((0, 0), (24, 80)), ((33, 99), (33, 99))])
def test_a_terminal_without_a_size_gets_one(known: tuple[int, int], given: tuple[int, int]) -> None:
    ours, theirs = pty.openpty()
    try:
        termios.tcsetwinsize(theirs, known)
        give_size(theirs)
        assert termios.tcgetwinsize(ours) == given
    finally:
        os.close(ours)
        os.close(theirs)
    give_size(theirs)
