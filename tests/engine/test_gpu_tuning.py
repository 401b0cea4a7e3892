"""Tuning on a real card: a small model that is taken for one worth it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import factory
import pytest
import torch

from quantchat import paths
from quantchat.engine.session import Session
from quantchat.events import Done, Event, Failed, Loaded, LoadFailed, LoadProgress
from quantchat.requests import ChatRequest, LoadRequest, Message, Sampling

pytestmark = pytest.mark.gpu

SHAPE = {
    "hidden_size": 256,
    "intermediate_size": 512,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 64,
    "max_position_embeddings": 512,
}
BOUND_S = 3.0


@pytest.fixture(autouse=True)
def card(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if torch.cuda.get_device_capability() < (8, 0):
        pytest.skip("no card with linears on tensor cores")
    from quantchat.kernels.linear.tiles import forget_installed

    from quantchat.engine import tuning

    monkeypatch.setenv("QUANTCHAT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(tuning, "WORTH_BYTES", 1)
    monkeypatch.setattr(tuning, "BOUND_S", BOUND_S)
    forget_installed()
    yield
    forget_installed()


def answered(path: Path, *, tune: bool, cancel_at: str = "") -> tuple[str, list[Event]]:
    """The text of a greedy answer, and all events of a session that loads and answers."""
    session, events, text = Session(), list[Event](), ""
    request = LoadRequest(
        model=str(path), scheme="int8", device="cuda", context_tokens=256, tune=tune
    )
    session.load(request)
    deadline_s = time.monotonic() + 120
    try:
        while time.monotonic() < deadline_s:
            for event in session.wait(0.2):
                events.append(event)
                assert not isinstance(event, Failed), event
                if isinstance(event, LoadProgress) and event.phase == cancel_at:
                    session.cancel_load("main")
                if isinstance(event, Loaded):
                    session.chat(
                        ChatRequest(
                            messages=(Message("user", "hello"),),
                            sampling=Sampling(temperature=0),
                            max_tokens=24,
                        )
                    )
                if isinstance(event, Done):
                    text = event.text
                if isinstance(event, Done | LoadFailed):
                    return text, events
    finally:
        session.close()
    raise AssertionError("no answer within two minutes")


def tune_s(events: list[Event]) -> float:
    (loaded,) = (event for event in events if isinstance(event, Loaded))
    return dict(loaded.phases).get("tune", 0.0)


def test_the_first_load_tunes_within_its_bound_and_the_next_one_finds_it(tmp_path: Path) -> None:
    from quantchat.kernels.linear.tiles import forget_installed

    path = factory.write_hf(tmp_path / "m", "llama", **SHAPE)
    plain, events = answered(path, tune=False)
    assert tune_s(events) == 0 and not list(paths.tiles_dir().iterdir())
    tuned, events = answered(path, tune=True)
    assert 0 < tune_s(events) < 3 * BOUND_S
    assert len(list(paths.tiles_dir().iterdir())) == 1
    forget_installed()
    again, events = answered(path, tune=True)
    assert tune_s(events) == 0
    assert plain and tuned and tuned == again


def test_a_load_is_cancelled_while_it_tunes(tmp_path: Path) -> None:
    path = factory.write_hf(tmp_path / "m", "llama", **SHAPE)
    _, events = answered(path, tune=True, cancel_at="tune")
    failed = events[-1]
    assert isinstance(failed, LoadFailed) and failed.cancelled
    assert not list(paths.tiles_dir().iterdir())
