"""The suite's own ground: isolation that works, poison that shows."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from quantchat import paths

ROOT = Path(__file__).resolve().parent.parent


def test_the_home_is_a_temporary_one(tmp_path: Path, isolated_home: Path) -> None:
    assert paths.data_dir() == isolated_home / "data"
    assert tmp_path in paths.database_file().parents


def test_the_repository_root_is_not_on_the_path() -> None:
    assert ROOT not in {Path(entry or ".").resolve() for entry in sys.path}


def test_the_network_is_off() -> None:
    assert os.environ["HF_HUB_OFFLINE"] == "1"
    assert os.environ["TEXTUAL_ANIMATIONS"] == "none"


@pytest.mark.starter
def test_the_starter_is_the_promised_file(starter_path: Path) -> None:
    assert starter_path.read_bytes()[:4] == b"GGUF"
    assert starter_path.stat().st_size > 50_000_000
    assert "QUANTCHAT_HOME" in os.environ, "looking for it leaves the isolation as it was"
