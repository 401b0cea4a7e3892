"""A device that fails ends answers and loads, never the engine; what was written is kept."""

from __future__ import annotations

import dataclasses
import gc
import weakref
from pathlib import Path

import pytest
from engine_log import GREEDY, LONG, Log, chat
from failing_ops import BUSY, LOST, OOM, Faults

from quantchat.engine import loading, room, runtime
from quantchat.engine.model import LoadedModel
from quantchat.engine.recovery import Failure
from quantchat.engine.runner import Runner
from quantchat.events import Done, Event, Failed, Loaded, LoadFailed, LoadProgress, Token, Unloaded
from quantchat.hardware import memory
from quantchat.hardware.facts import Facts
from quantchat.hardware.memory import GIB
from quantchat.model.families import open_model
from quantchat.requests import LoadRequest


def refused(log: Log, **wish: object) -> LoadFailed:
    load_id = log.session.load(LoadRequest(**wish))  # type: ignore[arg-type]
    event = log.until(lambda e: isinstance(e, Loaded | LoadFailed) and e.load_id == load_id)
    assert isinstance(event, LoadFailed), event
    return event


def says_memory(event: Failed | LoadFailed) -> None:
    """What was asked, what is free, and ways out with numbers."""
    assert "not enough memory" in event.message
    assert "needed" in event.message and "free" in event.message and "512 MiB" in event.message
    ways = event.hint.split("; ")
    assert ways and all(" instead of " in way and "iB" in way for way in ways), event.hint
    assert isinstance(event, Failed) or event.lacks_memory


def test_no_memory_for_the_prompt(log: Log, tiny: Path, faults: Faults) -> None:
    log.load(model=str(tiny), scheme="fp16", context_tokens=256)
    expected = log.ask("hello there", sampling=LONG).text
    faults.prefill.append(OOM)
    event = log.failed(log.session.chat(chat("another prompt", sampling=LONG)))
    says_memory(event)
    assert "reading the prompt" in event.message and event.text == ""
    again = log.ask("hello there", sampling=LONG)
    assert again.text == expected
    # The pages of earlier prompts are still known.
    assert again.metrics.cached_tokens > 0


def test_no_memory_for_one_prompt_leaves_the_other_answer(
    log: Log, tiny: Path, faults: Faults
) -> None:
    log.load(model=str(tiny), scheme="fp16", context_tokens=256)
    alone = log.ask("first", sampling=LONG, max_tokens=60)
    writing = log.session.chat(chat("first", sampling=LONG, max_tokens=60))
    log.until(lambda e: isinstance(e, Token) and e.request_id == writing)
    faults.prefill.append(OOM)
    refused_id = log.session.chat(chat("a second prompt that does not fit", sampling=LONG))
    ends: dict[int, Event] = {}
    while len(ends) < 2:
        log.until(lambda e: isinstance(e, Done | Failed))
        ends = {
            e.request_id: e
            for e in log.events
            if isinstance(e, Done | Failed) and e.request_id in (writing, refused_id)
        }
    done = ends[writing]
    assert isinstance(ends[refused_id], Failed)
    assert isinstance(done, Done) and done.text == alone.text


def test_no_memory_while_writing_keeps_the_text(log: Log, tiny: Path, faults: Faults) -> None:
    log.load(model=str(tiny), scheme="fp16", context_tokens=256)
    whole = log.ask("hello", sampling=LONG, max_tokens=12).text
    faults.decode_after = 5
    faults.decode.append(OOM)
    event = log.failed(log.session.chat(chat("hello", sampling=LONG, max_tokens=12)))
    says_memory(event)
    assert event.text and whole.startswith(event.text) and event.text != whole
    assert log.ask("hello", sampling=LONG, max_tokens=12).text == whole


def test_no_memory_for_a_fresh_runner_goes_on_without_graphs(
    log: Log, tiny: Path, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.load(model=str(tiny), scheme="fp16", context_tokens=256)
    whole = log.ask("hello").text

    def no_graph(self: LoadedModel) -> Runner:
        try:
            raise OOM
        finally:
            raise RuntimeError("CUDA error: operation failed due to a previous error")

    monkeypatch.setattr(LoadedModel, "make_runner", no_graph)
    faults.decode.append(OOM)
    log.failed(log.session.chat(chat("hello")))
    assert log.ask("hello").text == whole


@pytest.mark.parametrize("scheme", ["fp16", "int4"])
def test_no_memory_for_a_load_leaves_the_old_model(
    log: Log, tiny: Path, faults: Faults, scheme: str
) -> None:
    log.load(model=str(tiny), scheme="int8", context_tokens=128)
    log.ask("hello")
    before = log.ask("hello").text
    faults.load.append(OOM)
    says_memory(refused(log, model=str(tiny), scheme=scheme, context_tokens=128))
    assert log.ask("hello").text == before
    assert log.load(model=str(tiny), scheme=scheme, context_tokens=128).info.scheme == scheme


def test_no_memory_for_the_runner_of_a_load_leaves_the_old_model(
    log: Log, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.load(model=str(tiny), scheme="int8", context_tokens=128)
    log.ask("hello")
    before = log.ask("hello").text
    with monkeypatch.context() as patch:
        patch.setattr(LoadedModel, "make_runner", lambda self: (_ for _ in ()).throw(OOM))
        event = refused(log, model=str(tiny), scheme="fp16", context_tokens=128)
    assert "memory" in event.message and event.hint
    assert log.ask("hello").text == before


def test_a_failed_load_lets_go_of_what_it_placed(
    log: Log, tiny: Path, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    placed: list[weakref.ref[object]] = []
    original = loading.build_pool

    def build_pool(*args: object) -> object:
        pool = original(*args)  # type: ignore[arg-type]
        placed.extend((weakref.ref(args[0]), weakref.ref(pool)))
        faults.prefill.append(OOM)
        return pool

    monkeypatch.setattr(loading, "build_pool", build_pool)
    refused(log, model=str(tiny), scheme="fp16", context_tokens=128)
    gc.collect()
    assert placed and not any(ref() for ref in placed)


def test_a_lost_device_takes_its_models_and_the_app_lives(
    log: Log, tiny: Path, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaded = log.load(model=str(tiny), scheme="fp16", context_tokens=256)
    assert loaded.info.device == "cpu"
    # No card here: the model is made to look as if it were on one.
    installed = log.session._runtimes["main"].model
    monkeypatch.setattr(installed, "plan", _on_card(installed))
    monkeypatch.setattr(LoadedModel, "use_device", lambda self: None)
    faults.decode_after = 4
    faults.decode.append(LOST)
    request_id = log.session.chat(chat("hello", sampling=LONG))
    event = log.failed(request_id)
    assert "illegal memory access" in event.message and "\n" not in event.message
    assert "cpu" in event.hint and "start quantchat again" in event.hint
    assert event.text
    log.until(lambda e: isinstance(e, Unloaded) and e.slot == "main")
    del installed
    again = log.failed(log.session.chat(chat("still there?")))
    assert "illegal memory access" in again.message and "cpu" in again.hint
    assert "illegal memory access" in refused(log, model=str(tiny), device="cuda").message
    assert log.load(model=str(tiny), context_tokens=128).info.device == "cpu"
    assert isinstance(log.ask("hello"), Done)


def _on_card(model: LoadedModel) -> object:
    return dataclasses.replace(model.plan, device="cuda")


def test_an_unknown_failure_ends_the_answer_alone(log: Log, tiny: Path, faults: Faults) -> None:
    log.load(model=str(tiny), scheme="fp16", context_tokens=256)
    faults.decode.append(AssertionError("a row without a page"))
    event = log.failed(log.session.chat(chat("hello")))
    assert "a row without a page" in event.message
    assert isinstance(log.ask("hello"), Done)


def test_a_model_that_cannot_go_on_is_unloaded(
    log: Log, tiny: Path, faults: Faults, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.load(model=str(tiny), scheme="fp16", context_tokens=256)
    faults.decode.append(AssertionError("broken"))

    def broken(model: LoadedModel) -> Runner:
        raise AssertionError("and so is the next runner")

    monkeypatch.setattr(runtime, "renewed_runner", broken)
    event = log.failed(log.session.chat(chat("hello")))
    assert "broken" in event.message
    log.until(lambda e: isinstance(e, Unloaded))
    assert log.load(model=str(tiny), context_tokens=128).info.model


def test_a_busy_card_is_a_message(log: Log, tiny: Path, faults: Faults) -> None:
    faults.load.append(BUSY)
    event = refused(log, model=str(tiny), scheme="fp16")
    assert "another program" in event.message and "nvidia-smi" in event.hint
    assert "cpu" in event.hint
    assert log.load(model=str(tiny)).info.device == "cpu"


def test_a_card_lost_while_loading_is_known_afterwards(
    log: Log, tiny: Path, faults: Faults
) -> None:
    faults.load.append(LOST)
    assert "illegal memory access" in refused(log, model=str(tiny), scheme="fp16").message
    assert "illegal memory access" in refused(log, model=str(tiny), device="cuda").message
    assert log.load(model=str(tiny)).info.device == "cpu"


def test_phases_are_told_and_timed(log: Log, tiny: Path) -> None:
    rounded = log.load(model=str(tiny), scheme="int4", context_tokens=128)
    assert [phase for phase, _ in rounded.phases] == ["import", "read", "quantize", "warm"]
    told = list(dict.fromkeys(e.phase for e in log.of(LoadProgress) if isinstance(e, LoadProgress)))
    assert told == ["import", "read", "quantize", "warm"]
    packed = log.load(model=str(tiny), scheme="int4", context_tokens=160)
    assert [phase for phase, _ in packed.phases] == ["import", "read", "warm"]
    for loaded in (rounded, packed):
        assert all(seconds >= 0 for _, seconds in loaded.phases)
        assert sum(seconds for _, seconds in loaded.phases) >= 0.9 * loaded.info.load_s


def test_a_context_of_a_few_tokens_is_warmed_within_it(log: Log, tiny: Path) -> None:
    for context_tokens in (1, 5):
        loaded = log.load(model=str(tiny), scheme="fp16", context_tokens=context_tokens)
        assert loaded.info.context_tokens == context_tokens


@pytest.mark.parametrize("broken", [False, True])
def test_the_old_model_goes_first_where_both_do_not_fit(
    log: Log, tiny: Path, faults: Faults, monkeypatch: pytest.MonkeyPatch, broken: bool
) -> None:
    log.load(model=str(tiny), scheme="fp16", context_tokens=256)
    old = weakref.ref(log.session._runtimes["main"].model.decoder)
    monkeypatch.setattr(room, "RESERVE_SHARE", 0.0)
    monkeypatch.setattr(memory, "RESERVE_SHARE", 0.0)
    source = open_model(tiny)
    wish = loading.plan_request(
        LoadRequest(model=str(tiny), scheme="int8", context_tokens=256), source
    )
    facts = dataclasses.replace(room.probe(), gpus=())

    def with_free(free_bytes: int) -> Facts:
        cpu = dataclasses.replace(facts.cpu, ram_free_bytes=free_bytes)
        return dataclasses.replace(facts, cpu=cpu)

    # Too little for copies beside the weights, and a byte too little beside the old model.
    wide = room.make_plan(with_free(64 * GIB), source.spec, wish).fit.needed_bytes
    needed = room.make_plan(with_free(wide), source.spec, wish).fit.needed_bytes
    source.close()
    monkeypatch.setattr(
        room, "probe", lambda: with_free(needed - 1 if old() is not None else 64 * GIB)
    )
    if broken:
        faults.load.append(OOM)
        refused(log, model=str(tiny), scheme="int8", context_tokens=256)
        kinds = [type(e) for e in log.events if isinstance(e, Unloaded | LoadFailed)]
        assert kinds == [Unloaded, LoadFailed]
    else:
        assert log.load(model=str(tiny), scheme="int8", context_tokens=256).info.scheme == "int8"
        kinds = [type(e) for e in log.events if isinstance(e, Unloaded | Loaded)]
        assert kinds[-2:] == [Unloaded, Loaded], "nobody answers between them"
        assert isinstance(log.ask("hello", sampling=GREEDY), Done)
    assert old() is None


def test_unloading_lets_go_of_everything(log: Log, tiny: Path) -> None:
    log.load(model=str(tiny), scheme="int8", context_tokens=128)
    log.ask("hello")
    installed = log.session._runtimes["main"]
    held = [
        weakref.ref(each)
        for each in (installed, installed.model, installed.model.decoder, installed.model.pool)
    ]
    held.append(weakref.ref(installed._runner))
    del installed
    # In the middle of an answer: nothing of the step may be held either.
    log.session.chat(chat("go on", sampling=LONG, max_tokens=0))
    log.until(lambda e: isinstance(e, Token))
    log.session.unload("main")
    log.until(lambda e: isinstance(e, Unloaded))
    assert [ref() for ref in held] == [None] * len(held)


def test_a_new_model_takes_the_place_of_the_old_one(log: Log, tiny: Path) -> None:
    log.load(model=str(tiny), scheme="int8", context_tokens=128)
    log.ask("hello")
    old = weakref.ref(log.session._runtimes["main"].model.decoder)
    log.load(model=str(tiny), scheme="fp16", context_tokens=128)
    assert old() is None


def test_answers_that_cannot_be_finished_do_not_stop_an_unload(
    log: Log, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.load(model=str(tiny), scheme="int8", context_tokens=128)

    def stuck(self: runtime.Runtime) -> None:
        raise RuntimeError("CUDA error: invalid argument")

    monkeypatch.setattr(runtime.Runtime, "cancel_all", stuck)
    request_id = log.session.chat(chat("go on", sampling=LONG, max_tokens=0))
    log.until(lambda e: isinstance(e, Token))
    log.session.unload("main")
    log.until(lambda e: isinstance(e, Unloaded))
    ends = [e for e in log.of(Done) + log.of(Failed) if e.request_id == request_id]  # type: ignore[attr-defined]
    assert len(ends) == 1
    assert log.load(model=str(tiny), context_tokens=128).info.model


def test_an_error_without_words_is_told_by_its_kind() -> None:
    assert Failure.of(RuntimeError(), None).text == "RuntimeError"
    assert Failure.of(RuntimeError("a cable"), None).text == "RuntimeError: a cable"
