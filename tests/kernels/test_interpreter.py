"""Starts the interpreted kernel tests in processes of their own, several modules in each."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("triton")

HERE = Path(__file__).resolve().parent
MODULES = sorted(path.name for path in HERE.glob("test_interpreted_*.py"))
PROCESSES = 3
"""Each takes seconds to import what all need."""
PATIENCE_S = 1500


@pytest.mark.slow
@pytest.mark.timeout(PATIENCE_S + 60)  # one minute on an idle core
@pytest.mark.skipif(os.environ.get("TRITON_INTERPRET") == "1", reason="is that process")
@pytest.mark.parametrize("turn", range(PROCESSES))
def test_interpreted(turn: int) -> None:
    modules = MODULES[turn::PROCESSES]
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    options = ("-q", "-p", "no:cacheprovider", "-p", "no:hypothesispytest")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", *options, *(str(HERE / name) for name in modules)],
        cwd=HERE.parent.parent,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-2000:]
    assert " passed" in run.stdout
