"""`make` says in one line what is missing, and does nothing twice."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MAKE = shutil.which("make")
pytestmark = pytest.mark.skipif(MAKE is None or os.name != "posix", reason="needs make and sh")

PYTHON = """#!/bin/sh
case "$2" in *{missing}*) exit 1 ;; esac
exec {python} "$@"
"""


@pytest.fixture
def tools(tmp_path: Path) -> Path:
    """A folder for PATH with the shell's tools and no Python."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name in ("sh", "cat", "cksum", "rm", "touch", "tr"):
        found = shutil.which(name)
        assert found is not None, name
        (folder / name).symlink_to(found)
    return folder


def make(tools: Path, environment: Path, *words: str) -> subprocess.CompletedProcess[str]:
    assert MAKE is not None
    return subprocess.run(
        [MAKE, *words, f"VENV={environment}", "PYTHON="],
        cwd=ROOT,
        env={"PATH": str(tools)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
    )


def first_line(done: subprocess.CompletedProcess[str]) -> str:
    assert done.returncode != 0
    return done.stderr.splitlines()[0]


def add_python(tools: Path, missing: str) -> None:
    program = tools / "python3"
    program.write_text(PYTHON.format(missing=missing, python=Path(sys.executable).resolve()))
    program.chmod(0o755)


def test_no_python_at_all(tools: Path, tmp_path: Path) -> None:
    assert "needs Python 3.11 or newer" in first_line(make(tools, tmp_path / "venv", "setup"))


def test_python_too_old(tools: Path, tmp_path: Path) -> None:
    add_python(tools, missing="version_info")
    assert "needs Python 3.11 or newer" in first_line(make(tools, tmp_path / "venv", "setup"))


def test_python_without_venv_names_the_package(tools: Path, tmp_path: Path) -> None:
    add_python(tools, missing="ensurepip")
    line = first_line(make(tools, tmp_path / "venv", "setup-test"))
    assert "python3-venv" in line
    assert not (tmp_path / "venv").exists()


def test_what_is_ready_is_not_made_again(tools: Path, tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    assert "pip install" in make(tools, environment, "-n", "setup").stdout
    environment.mkdir()
    (environment / ".made").touch()
    plan = make(tools, environment, "-n", "setup-test").stdout
    assert "-m venv" not in plan and "pip install" in plan
    (ready,) = {word for word in plan.split() if "/.ready-test-" in word}
    Path(ready).touch()
    assert "pip install" not in make(tools, environment, "-n", "setup-test").stdout


def test_the_gate_runs_the_suite() -> None:
    gate = ROOT / ".ci" / "run"
    assert os.access(gate, os.X_OK)
    last = gate.read_text().splitlines()[-1]
    assert last.startswith("exec make") and " test" in last
