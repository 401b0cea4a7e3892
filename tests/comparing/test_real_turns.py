"""Turns with a real engine: the right scores against what was kept, and finds the same as beside."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Iterator
from pathlib import Path

import factory
import pytest

from quantchat.comparing.record import Comparison
from quantchat.comparing.runner import Runner, Wish
from quantchat.engine.session import Session
from quantchat.events import Event, LoadFailed
from quantchat.requests import LoadRequest, Message, Sampling, Slot


class CrampedSession(Session):
    """A real engine that has room for one model."""

    def __init__(self) -> None:
        super().__init__()
        self._taken: set[Slot] = set()
        self._refused: list[Event] = []

    def load(self, request: LoadRequest) -> int:
        """Refuse what would stand beside another."""
        if not self._taken - {request.slot}:
            self._taken.add(request.slot)
            return super().load(request)
        self._refused.append(
            LoadFailed(
                slot=request.slot,
                load_id=-1,
                message="2.0 GiB are free",
                hint="",
                lacks_memory=True,
                time_s=time.perf_counter(),
            )
        )
        return -1

    def unload(self, slot: Slot) -> None:
        """Room again."""
        self._taken.discard(slot)
        super().unload(slot)

    def wait(self, timeout_s: float) -> list[Event]:
        """The refusals, then what really happens."""
        refused, self._refused = self._refused, []
        return refused or super().wait(timeout_s)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return factory.write_hf(tmp_path_factory.mktemp("tiny"), "llama", max_position_embeddings=256)


@pytest.fixture
def sessions() -> Iterator[tuple[Session, Session]]:
    both = Session(), CrampedSession()
    yield both
    for session in both:
        session.close()


def run(session: Session, wish: Wish) -> Comparison:
    return Runner(session, wish, draw=lambda *_: None, say=lambda _: None).run()


def test_turns_find_what_both_together_find(tiny: Path, sessions: tuple[Session, Session]) -> None:
    load = LoadRequest(model=str(tiny), scheme="fp16", device="cpu", context_tokens=256)
    wish = Wish(
        left=load,
        right=dataclasses.replace(load, scheme="int4"),
        messages=(Message("user", "Name three colours."),),
        sampling=Sampling(temperature=1.2, seed=3),
        max_tokens=24,
        mode="guided",
    )
    together, in_turns = (run(session, wish) for session in sessions)
    assert not together.took_turns and in_turns.took_turns
    (first,), (second,) = together.rounds, in_turns.rounds
    assert first.left.token_ids == second.left.token_ids and len(first.left.token_ids) > 4
    assert len(first.scores) == len(second.scores) == len(first.left.token_ids)
    for one, other in zip(first.scores, second.scores, strict=True):
        assert one.kl is not None and one.kl > 0
        assert one.kl == pytest.approx(other.kl, abs=1e-6)
        assert one.p == pytest.approx(other.p, abs=1e-6)
        assert one.base_p == pytest.approx(other.base_p, abs=1e-6)
        assert (one.same_top, one.top[0].token_id) == (other.same_top, other.top[0].token_id)
