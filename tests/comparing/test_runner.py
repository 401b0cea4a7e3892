"""A comparison over the scripted engine: order, turns, scores, and what ends it."""

from __future__ import annotations

import dataclasses
from typing import Any, Literal

import pytest
from fake_facts import memory_use, metrics_of, model_info
from fakes import FakeEngine, Script

from quantchat.comparing.json_export import from_json, to_json
from quantchat.comparing.record import Comparison
from quantchat.comparing.runner import Runner, Wish, Writing
from quantchat.comparing.turns import TURNS_WORDS, beside, must_take_turns
from quantchat.errors import EngineError, QuantchatError
from quantchat.events import Done, Event, LoadFailed
from quantchat.requests import LoadRequest, Message, Sampling

INFO = model_info(LoadRequest(model="starter", scheme="fp16"), 2048)


@dataclasses.dataclass
class SmallEngine(FakeEngine):
    """Has room for one model at a time."""

    def drain(self) -> list[Event]:
        """A load beside another model fails for memory."""
        beside_another = {
            load.load_id: load.request
            for load in self._pending
            if any(slot != load.request.slot for slot in self.infos)
        }
        self._pending = [load for load in self._pending if load.load_id not in beside_another]
        self.push(
            LoadFailed(
                slot=request.slot,
                load_id=load_id,
                message="int4 needs 9.0 GiB and 2.0 GiB are free",
                hint="free memory",
                lacks_memory=True,
                time_s=0.0,
            )
            for load_id, request in beside_another.items()
        )
        return super().drain()


def wish(mode: Literal["free", "guided"] = "free", **changes: Any) -> Wish:
    made = Wish(
        left=LoadRequest(slot="left", model="starter", scheme="fp16"),
        right=LoadRequest(slot="right", model="starter", scheme="int4"),
        messages=(Message("system", "Be brief."), Message("user", "Why?")),
        sampling=Sampling(),
        max_tokens=64,
        mode=mode,
    )
    return dataclasses.replace(made, **changes)


def run(engine: FakeEngine, asked: Wish) -> tuple[Comparison, list[str], list[str]]:
    """The record, what was drawn and what was said."""
    drawn: list[str] = []
    said: list[str] = []

    def draw(label: str, done: int, total: int) -> None:
        assert 0 <= done <= total
        drawn.append(label)

    found = Runner(engine, asked, draw=draw, say=said.append).run()
    return found, list(dict.fromkeys(drawn)), said


def test_both_answer_with_one_seed_and_what_they_wrote_is_kept() -> None:
    engine = FakeEngine([Script("The sky is blue."), Script("The sky is red.", finish="length")])
    found, drawn, said = run(engine, wish())
    assert (found.left.scheme, found.right.scheme) == ("fp16", "int4")
    (round_,) = found.rounds
    assert round_.right is not None
    assert (round_.left.text, round_.right.text) == ("The sky is blue.", "The sky is red.")
    assert "".join(round_.right.pieces) == round_.right.text
    assert len(round_.right.token_ids) == len(round_.right.pieces) == 4
    assert round_.right.finish_reason == "length" and round_.right.metrics is not None
    first, second = engine.chats
    assert first.sampling.seed is not None and first.sampling == second.sampling == round_.sampling
    assert first.messages == second.messages == round_.messages == wish().messages
    assert (first.slot, second.slot, first.max_tokens) == ("left", "right", 64)
    assert not found.took_turns and not said and not engine.unloaded
    assert drawn[0].startswith("left, fp16: ") and drawn[-1] == "right, int4: writing"
    assert dict(found.versions)["quantchat"]
    assert from_json(to_json(found)) == found


def test_a_seed_that_is_given_is_kept() -> None:
    found, _, _ = run(FakeEngine(), wish(sampling=Sampling(seed=5)))
    assert found.rounds[0].sampling.seed == 5


def test_guided_the_right_scores_what_the_left_wrote() -> None:
    engine = FakeEngine([Script("The sky is blue today.")])
    found, _, _ = run(engine, wish("guided"))
    (round_,) = found.rounds
    assert round_.right is None and len(engine.chats) == 1
    assert [score.token_id for score in round_.scores] == list(round_.left.token_ids)
    assert all(score.kl is not None for score in round_.scores)
    (asked,) = engine.scores.requests
    assert (asked.slot, asked.base, asked.kept, asked.exact) == ("right", "left", 0, True)
    assert asked.messages == wish().messages and asked.answer_ids == round_.left.token_ids


def test_an_empty_answer_has_no_scores() -> None:
    found, _, _ = run(FakeEngine([Script([])]), wish("guided"))
    assert found.rounds[0].scores == () and found.rounds[0].left.text == ""


def test_text_that_no_token_carried_belongs_to_the_last_one() -> None:
    writing = Writing(pieces=["a", " b"], ids=[1, 2])
    done = Done(
        request_id=1,
        slot="left",
        finish_reason="length",
        text="a b\ufffd",
        metrics=metrics_of(2, INFO),
        memory=memory_use(INFO),
        time_s=0.0,
    )
    assert writing.ended(done).pieces == ("a", " b\ufffd")
    cut = writing.ended(dataclasses.replace(done, text="a"))
    assert cut.text == "a" and len(cut.pieces) == len(cut.token_ids) == 2


def test_where_one_fits_they_take_turns() -> None:
    engine = SmallEngine([Script("The sky is blue."), Script("The sky is red.")])
    found, _, said = run(engine, wish())
    assert found.took_turns and said == [TURNS_WORDS]
    assert engine.unloaded == ["left"]
    assert [load.slot for load in engine.loads] == ["left", "right", "right"]
    assert found.rounds[0].right is not None and found.rounds[0].right.text == "The sky is red."
    assert found.left.scheme == "fp16"


def test_taking_turns_the_right_scores_against_what_was_kept() -> None:
    engine = SmallEngine([Script("The sky is blue.")])
    found, _, _ = run(engine, wish("guided"))
    first, second = engine.scores.requests
    assert (first.slot, first.base, first.kept, first.exact) == ("left", "", 0, True)
    assert (second.slot, second.base, second.exact) == ("right", "", True) and second.kept > 0
    assert found.took_turns and all(score.kl is not None for score in found.rounds[0].scores)


def test_the_second_model_goes_where_the_first_one_is() -> None:
    engine = FakeEngine()
    run(engine, wish())
    assert [load.device for load in engine.loads] == ["auto", "cpu"]
    named = dataclasses.replace(wish().right, device="cuda")
    assert beside(named, engine.infos["left"]) == named


@pytest.mark.parametrize(
    ("lacks", "loaded", "cancelled", "turns"),
    [
        (True, True, False, True),
        (True, False, False, False),
        (False, True, False, False),
        (True, True, True, False),
    ],
)
def test_turns_are_taken_for_memory_alone(
    lacks: bool, loaded: bool, cancelled: bool, turns: bool
) -> None:
    failed = LoadFailed(
        slot="right",
        load_id=1,
        message="",
        hint="",
        lacks_memory=lacks,
        cancelled=cancelled,
        time_s=0.0,
    )
    assert must_take_turns(failed, other_loaded=loaded) == turns


@pytest.mark.parametrize("scheme", ["fp16", "int4"])
def test_a_load_that_fails_ends_it_with_its_side(scheme: str) -> None:
    engine = FakeEngine(load_failures={scheme: ("the file is cut off", "pull it again")})
    with pytest.raises(QuantchatError) as caught:
        run(engine, wish())
    side = "left" if scheme == "fp16" else "right"
    assert caught.value.message == f"{side}, {scheme}: the file is cut off"
    assert caught.value.hint == "pull it again"


def test_an_answer_that_fails_ends_it() -> None:
    with pytest.raises(QuantchatError, match="right, int4: not enough memory"):
        run(FakeEngine([Script("fine"), Script("a b c", fail_after=1)]), wish())


def test_scores_that_fail_end_it() -> None:
    engine = FakeEngine()
    engine.scores.failure = ("the vocabularies differ", "compare two of a family")
    with pytest.raises(QuantchatError, match="right, int4: the vocabularies differ"):
        run(engine, wish("guided"))


def test_a_dead_engine_ends_it() -> None:
    engine = FakeEngine(hold_answers=True)
    engine.die("the engine thread ended")
    with pytest.raises(EngineError, match="thread ended"):
        run(engine, wish())
