"""Runs the modules named test_interpreted_* in a process whose kernels are interpreted.

Triton reads TRITON_INTERPRET when a kernel is decorated, so one process has either kind.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leaves interpreted modules to the process that test_interpreter.py starts."""
    if collection_path.name.startswith("test_interpreted_") and not INTERPRETED:
        return True
    return None


def pytest_runtest_setup(item: pytest.Item) -> None:
    """An interpreted module that was named by hand says how it is run."""
    if item.path.name.startswith("test_interpreted_") and not INTERPRETED:
        pytest.skip("runs with TRITON_INTERPRET=1 in the environment")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    import torch

    torch.set_num_threads(1)
