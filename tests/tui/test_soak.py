"""A little of `make soak`: every move is taken, nothing goes wrong, nothing is left behind."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).resolve().parent.parent / "soak" / "soak.py"
SECONDS = 20


@pytest.mark.timeout(1000)
def test_twenty_seconds_of_use_leave_nothing_behind() -> None:
    done = subprocess.run(
        [sys.executable, SOAK, "--minutes", str(SECONDS / 60), "--seed", "1"],
        capture_output=True,
        text=True,
        timeout=900,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ask " in done.stdout and done.stdout.strip().endswith("flat")
