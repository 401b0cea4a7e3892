"""What evaluations keep on disk stays within its bounds and is never taken unchecked."""

from __future__ import annotations

import os

import pytest
import torch

from quantchat import paths
from quantchat.evals import kept
from quantchat.evals.text import Passages, Window

WINDOWS = (Window((1, 2, 3, 4), 1), Window((5, 6, 7), 2))
PASSAGES = Passages(origin="t", method="chats", windows=WINDOWS)
STATES = (torch.randn(3, 8), torch.randn(1, 8))


def test_what_is_kept_comes_back_exactly() -> None:
    assert kept.states("a", PASSAGES, hidden=8) is None and kept.chats("a", vocab=10) is None
    kept.keep_states("a", STATES)
    kept.keep_chats("a", WINDOWS)
    found = kept.states("a", PASSAGES, hidden=8)
    assert found is not None and all(map(torch.equal, found, STATES))
    assert kept.chats("a", vocab=8) == WINDOWS
    for dtype in (torch.bfloat16, torch.float16):
        kept.keep_states("b", tuple(state.to(dtype) for state in STATES))
        narrow = kept.states("b", PASSAGES, hidden=8)
        assert narrow is not None and narrow[0].dtype == dtype


def test_states_of_another_shape_or_type_are_dropped() -> None:
    for states in (STATES[:1], (STATES[1], STATES[0]), tuple(s.double() for s in STATES)):
        kept.keep_states("a", states)
        assert kept.states("a", PASSAGES, hidden=8) is None
        assert not list(paths.references_dir().iterdir())


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"windows": []}',
        '{"windows": 3}',
        '{"windows": [3]}',
        '{"windows": [{"ids": [1, 2]}]}',
        '{"windows": [{"ids": [1], "first_target": 1}]}',
        '{"windows": [{"ids": [1, 2], "first_target": 0}]}',
        '{"windows": [{"ids": [1, 2], "first_target": 2}]}',
        '{"windows": [{"ids": [1, true], "first_target": 1}]}',
        '{"windows": [{"ids": [1, -1], "first_target": 1}]}',
        '{"windows": [{"ids": [1, 10], "first_target": 1}]}',
        "[" * 100_000,
    ],
)
def test_chats_that_are_none_are_dropped(text: str) -> None:
    path = paths.references_dir() / "a.json"
    path.write_text(text)
    assert kept.chats("a", vocab=10) is None
    assert not path.exists()


def test_the_oldest_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "KEEP_FILES", 3)
    for age, name in enumerate("dcba"):
        kept.keep_states(name, STATES)
        os.utime(paths.references_dir() / f"{name}.safetensors", (1000 + age, 1000 + age))
    kept.states("c", PASSAGES, hidden=8)
    kept.keep_states("e", STATES)
    names = {path.stem for path in paths.references_dir().iterdir()}
    assert names == {"a", "c", "e"}
    size = (paths.references_dir() / "e.safetensors").stat().st_size
    monkeypatch.setattr(kept, "KEEP_BYTES", 2 * size)
    kept.keep_states("f", STATES)
    assert len(list(paths.references_dir().iterdir())) == 2
    monkeypatch.setattr(kept, "KEEP_BYTES", 10)
    kept.keep_states("g", STATES)
    assert not (paths.references_dir() / "g.safetensors").exists()


def test_a_full_disk_keeps_nothing_and_stops_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "LEAVE_FREE_BYTES", 1 << 62)
    kept.keep_states("a", STATES)
    assert not list(paths.references_dir().iterdir())

    def refuse(*args: object, **words: object) -> None:
        raise PermissionError(13, "no")

    monkeypatch.setattr(kept.tempfile, "mkstemp", refuse)
    monkeypatch.setattr(kept, "LEAVE_FREE_BYTES", 0)
    kept.keep_states("a", STATES)
    kept.keep_chats("a", WINDOWS)
    assert kept.chats("a", vocab=10) is None
