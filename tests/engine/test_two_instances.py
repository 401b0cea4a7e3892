"""Two engines on one cache at once: both load, both answer, nothing torn, nothing left behind."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import factory
import pytest
import torch
from engine_log import LONG, Log

from quantchat import paths
from quantchat.calibration import text
from quantchat.engine.session import Session
from quantchat.evals import kept
from quantchat.events import Loaded, LoadFailed
from quantchat.hardware import bandwidth
from quantchat.requests import LoadRequest


def leftovers(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.name.startswith(".")]


@pytest.mark.parametrize("scheme", ["int4", "awq"])
def test_both_make_the_same_packed_weights(tmp_path: Path, scheme: str) -> None:
    model = factory.write_hf(tmp_path / "tiny", "llama", max_position_embeddings=256)
    calibration = tmp_path / "text.txt"
    calibration.write_text("the sky is blue because air scatters short waves of light " * 60)
    wish = LoadRequest(
        model=str(model), scheme=scheme, context_tokens=128, calibration_file=str(calibration)
    )
    logs = [Log(Session()) for _ in range(2)]
    try:
        for log in logs:
            log.session.load(wish)
        for log in logs:
            event = log.until(lambda e: isinstance(e, Loaded | LoadFailed))
            assert isinstance(event, Loaded), event
        answers = [log.ask("hello", sampling=LONG).text for log in logs]
        assert answers[0] == answers[1]
        again = logs[0].load(
            slot="left",
            model=str(model),
            scheme=scheme,
            context_tokens=144,
            calibration_file=str(calibration),
        )
        assert any("from the cache" in reason for reason in again.info.reasons)
        assert logs[0].ask("hello", sampling=LONG, slot="left").text == answers[0]
    finally:
        for log in logs:
            log.session.close()
    for folder in (paths.packed_dir(), paths.calibration_dir()):
        assert not leftovers(folder)


def test_small_files_are_never_seen_half_written() -> None:
    """Writers and readers of every small cache at once."""
    ids = torch.arange(4096).reshape(8, 512) % 300
    file = paths.calibration_dir() / "ids.json"
    hidden = (torch.ones(64, 32),)
    problems: list[str] = []

    def write(number: int) -> None:
        for turn in range(12):
            bandwidth.keep(f"device {number} {turn}", 1e9 + number)
            text._keep(file, ids)
            kept.keep_states("key", hidden)

    def read(over: threading.Event) -> None:
        seen = 0
        while not over.is_set() or not seen:
            table = paths.cache_dir() / "bandwidth.json"
            if not (table.exists() and file.exists()):
                continue
            seen += 1
            try:
                json.loads(table.read_text())
            except ValueError as error:
                problems.append(f"bandwidth: {error}")
            if text._kept_ids(file, (8, 512), 300) is None:
                problems.append("ids")

    over = threading.Event()
    writers = [threading.Thread(target=write, args=(n,)) for n in range(3)]
    reader = threading.Thread(target=read, args=(over,))
    for thread in (*writers, reader):
        thread.start()
    for thread in writers:
        thread.join()
    over.set()
    reader.join()
    assert not problems
    for folder in (paths.cache_dir(), paths.calibration_dir(), paths.references_dir()):
        assert not leftovers(folder)
