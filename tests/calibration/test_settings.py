"""The key changes with whatever results hang on, and with nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from quantchat.calibration.settings import CalibrationSettings
from quantchat.errors import UsageError


def test_keys_differ_where_results_do(tmp_path: Path) -> None:
    one, other = tmp_path / "one.txt", tmp_path / "other.txt"
    one.write_text("a text")
    other.write_text("another")
    keys = [
        settings.key()
        for settings in (
            CalibrationSettings(),
            CalibrationSettings(sequences=8),
            CalibrationSettings(tokens=128),
            CalibrationSettings(seed=1),
            CalibrationSettings(file=one),
            CalibrationSettings(file=other),
        )
    ]
    assert len(set(keys)) == len(keys)
    copy = tmp_path / "copy.txt"
    copy.write_text("a text")
    assert CalibrationSettings(file=copy, memory_bytes=1).key() == keys[4]
    assert CalibrationSettings(memory_bytes=1).key() == keys[0]


@pytest.mark.parametrize("sizes", [{"sequences": 0}, {"tokens": 1}, {"sequences": 10**9}])
def test_sizes_are_bounded(sizes: dict[str, int]) -> None:
    with pytest.raises(UsageError):
        CalibrationSettings(**sizes)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nothing\.txt cannot be read"):
        CalibrationSettings(file=tmp_path / "nothing.txt").key()
