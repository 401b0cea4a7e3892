"""The real engine on tiny models: answers, cancel, reuse, overflow, swaps, failures."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from engine_log import LONG, Log, chat

from quantchat.engine import memory
from quantchat.engine.session import Session
from quantchat.errors import Cancelled
from quantchat.events import (
    Done,
    EngineStopped,
    Failed,
    Loaded,
    LoadFailed,
    LoadProgress,
    Notice,
    Started,
    Token,
    Unloaded,
)
from quantchat.requests import LoadRequest, Sampling


def test_an_answer_streams_and_adds_up(session: Session, tiny: Path) -> None:
    log = Log(session)
    loaded = log.load(model=str(tiny), context_tokens=128)
    assert loaded.info.weight_bytes > 0 and loaded.info.architecture == "llama"
    assert log.of(LoadProgress)
    done = log.ask("hello there", sampling=LONG)
    tokens = [e for e in log.of(Token) if isinstance(e, Token)]
    assert 0 < len(tokens) <= 12
    assert [t.index for t in tokens] == list(range(len(tokens)))
    assert done.text.startswith("".join(t.text for t in tokens))
    assert done.metrics.completion_tokens == len(tokens)
    assert done.metrics.ttft_s > 0 and done.metrics.prefill_s > 0
    assert done.memory.kv_reserved_bytes > 0
    assert [t.time_s for t in tokens] == sorted(t.time_s for t in tokens)


def test_a_load_under_way_has_ended_when_the_session_is_closed(
    tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that ends while a thread is within torch's code aborts."""
    within, left = threading.Event(), threading.Event()

    def slow(request: object, report: object, cancelled: Callable[[], bool], *more: object) -> None:
        within.set()
        while not cancelled():
            time.sleep(0.01)
        time.sleep(0.3)
        left.set()
        raise Cancelled("loading was stopped")

    monkeypatch.setattr("quantchat.engine.loading.load_model", slow)
    session = Session()
    session.load(LoadRequest(model=str(tiny)))
    assert within.wait(60)
    session.close()
    assert left.is_set()


def test_the_same_seed_gives_the_same_text_and_greedy_too(session: Session, tiny: Path) -> None:
    log = Log(session)
    log.load(model=str(tiny), context_tokens=128)
    assert log.ask("a b c", sampling=LONG).text == log.ask("a b c", sampling=LONG).text
    assert log.ask("a b c").text == log.ask("a b c").text
    texts = {log.ask("a b c", sampling=replace(LONG, seed=s)).text for s in range(6)}
    assert len(texts) > 1


def test_the_next_turn_computes_only_what_is_new(session: Session, tiny: Path) -> None:
    log = Log(session)
    log.load(model=str(tiny), context_tokens=256)
    prompt = "word " * 30
    first = log.ask(prompt, sampling=LONG)
    again = log.ask(prompt, sampling=LONG)
    assert first.metrics.cached_tokens == 0
    assert again.metrics.cached_tokens >= first.metrics.prompt_tokens // 16 * 16 - 16 > 0
    assert again.text == first.text
    following = log.ask(prompt, first.text, "and now", sampling=LONG)
    assert following.metrics.cached_tokens >= again.metrics.cached_tokens


def test_cancel_keeps_what_was_written(session: Session, tiny: Path) -> None:
    log = Log(session)
    log.load(model=str(tiny), context_tokens=256)
    request_id = session.chat(chat("go on", sampling=LONG, max_tokens=0))
    log.until(lambda e: isinstance(e, Token) and e.index >= 2)
    session.cancel(request_id)
    done = log.until(lambda e: isinstance(e, Done | Failed) and e.request_id == request_id)
    assert isinstance(done, Done)
    # A random model may have met its end-of-turn or its limit before the cancel came.
    assert done.finish_reason in ("cancelled", "stop", "context")
    tokens = [e for e in log.of(Token) if isinstance(e, Token)]
    assert done.text.startswith("".join(t.text for t in tokens))
    assert log.ask("still there?").metrics.completion_tokens >= 0


def test_a_full_context_ends_the_answer_and_says_so(session: Session, tiny: Path) -> None:
    log = Log(session)
    log.load(model=str(tiny), context_tokens=64)
    reasons = {
        log.ask("x", sampling=replace(LONG, seed=s), max_tokens=0).finish_reason for s in range(8)
    }
    assert "context" in reasons


def test_old_turns_go_with_a_notice(session: Session, tiny: Path) -> None:
    log = Log(session)
    log.load(model=str(tiny), context_tokens=96)
    log.ask(*["some words that fill the context up"] * 9, sampling=LONG, max_tokens=4)
    assert [e for e in log.of(Notice) if isinstance(e, Notice) and e.kind == "context"]


def test_a_prompt_that_cannot_fit_fails_and_the_engine_lives(session: Session, tiny: Path) -> None:
    log = Log(session)
    log.load(model=str(tiny), context_tokens=64)
    request_id = session.chat(chat("many words " * 100))
    failed = log.until(lambda e: isinstance(e, Failed) and e.request_id == request_id)
    assert isinstance(failed, Failed) and "tokens" in failed.message and failed.hint
    assert isinstance(log.ask("short"), Done)


def test_stop_strings_end_the_answer(session: Session, tiny: Path) -> None:
    log = Log(session)
    log.load(model=str(tiny), context_tokens=128)
    whole = log.ask("abc", sampling=LONG, max_tokens=20).text
    middle = whole[len(whole) // 2 : len(whole) // 2 + 2]
    cut = log.ask("abc", sampling=LONG, max_tokens=20, stop=(middle,))
    assert cut.finish_reason == "stop"
    assert cut.text == whole[: whole.index(middle)]


def test_answers_written_together_equal_answers_written_alone(session: Session, tiny: Path) -> None:
    log = Log(session)
    log.load(model=str(tiny), context_tokens=256)
    prompts = ["one", "two two", "three three three " * 9]
    alone = [log.ask(p, sampling=LONG, max_tokens=16).text for p in prompts]
    ids = [session.chat(chat(p, sampling=LONG, max_tokens=16)) for p in prompts]
    together: dict[int, str] = {}
    while len(together) < len(ids):
        done = log.until(lambda e: isinstance(e, Done) and e.request_id in ids)
        assert isinstance(done, Done)
        for event in log.events:
            if isinstance(event, Done) and event.request_id in ids:
                together[event.request_id] = event.text
    assert [together[i] for i in ids] == alone


def test_more_answers_than_pages_are_all_finished(session: Session, tiny: Path) -> None:
    log = Log(session)
    log.load(model=str(tiny), context_tokens=96)
    ids = [session.chat(chat(f"p{i}", sampling=LONG, max_tokens=30)) for i in range(4)]
    done: dict[int, Done] = {}
    deadline_s = time.monotonic() + 60
    while len(done) < 4 and time.monotonic() < deadline_s:
        for event in session.wait(0.2):
            assert not isinstance(event, Failed), event
            if isinstance(event, Done):
                done[event.request_id] = event
    # A sequence sent back computes its tokens in another batch, so texts may differ in near ties.
    assert all(
        done[i].metrics.completion_tokens == 30 or done[i].finish_reason == "stop" for i in ids
    )


def test_a_new_scheme_takes_over_and_two_slots_answer(session: Session, tiny: Path) -> None:
    log = Log(session)
    log.load(model=str(tiny), scheme="fp16", context_tokens=128)
    swapped = log.load(model=str(tiny), scheme="int8", context_tokens=128)
    assert swapped.info.scheme == "int8"
    assert log.ask("hello").text is not None
    log.load(slot="left", model=str(tiny), scheme="fp16", context_tokens=128)
    log.load(slot="right", model=str(tiny), scheme="int4", context_tokens=128)
    ids = {session.chat(replace(chat("hi"), slot=slot)) for slot in ("left", "right")}
    while ids:
        log.until(lambda e: isinstance(e, Done))
        ids -= {e.request_id for e in log.events if isinstance(e, Done)}
    session.unload("left")
    log.until(lambda e: isinstance(e, Unloaded) and e.slot == "left")
    request_id = session.chat(replace(chat("hi"), slot="left"))
    failed = log.until(lambda e: isinstance(e, Failed) and e.request_id == request_id)
    assert isinstance(failed, Failed) and "no model" in failed.message


def test_a_switch_frees_the_old_model_without_a_search(
    session: Session, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log(session)
    log.load(model=str(tiny), scheme="fp16", context_tokens=128)
    log.ask("hello", sampling=LONG)
    old = weakref.ref(session._runtimes["main"].model)
    assert not any("computed anew" in reason for reason in old().info.reasons)
    searches: list[int] = []
    monkeypatch.setattr(memory.gc, "collect", lambda: searches.append(1))
    gc.disable()
    try:
        log.load(model=str(tiny), scheme="int8", context_tokens=128)
        assert old() is None and not searches
        # The next switch shares what it can with the model that is loaded.
        tokenizer = session._runtimes["main"].model.tokenizer
        shared = log.load(model=str(tiny), scheme="int8", kv="int8", context_tokens=128)
        assert session._runtimes["main"].model.tokenizer is tokenizer
        assert any("shared with a loaded model" in reason for reason in shared.info.reasons)
        assert any("computed anew" in reason for reason in shared.info.reasons)
    finally:
        gc.enable()


def test_packed_weights_are_kept_and_give_the_same_text(session: Session, tiny: Path) -> None:
    log = Log(session)
    first = log.load(model=str(tiny), scheme="int4", context_tokens=128)
    text = log.ask("hello", sampling=LONG).text
    second = log.load(model=str(tiny), scheme="int4", context_tokens=160)
    assert not any("from the cache" in reason for reason in first.info.reasons)
    assert any("from the cache" in reason for reason in second.info.reasons)
    assert log.ask("hello", sampling=LONG).text == text


def test_a_failed_load_leaves_the_old_model(session: Session, tiny: Path, tmp_path: Path) -> None:
    log = Log(session)
    log.load(model=str(tiny), context_tokens=128)
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF\x03\0\0\0" + b"\xff" * 40)
    load_id = session.load(LoadRequest(model=str(broken)))
    failed = log.until(lambda e: isinstance(e, LoadFailed) and e.load_id == load_id)
    assert isinstance(failed, LoadFailed) and "broken.gguf" in failed.message
    assert "\n" not in failed.message
    assert isinstance(log.ask("hello"), Done)


def test_a_model_that_is_nowhere_fails_with_a_hint(session: Session) -> None:
    load_id = session.load(LoadRequest(model="no-such-model"))
    failed = Log(session).until(lambda e: isinstance(e, LoadFailed) and e.load_id == load_id)
    assert isinstance(failed, LoadFailed) and failed.hint


def test_a_cancelled_load_says_so(session: Session, tiny: Path) -> None:
    log = Log(session)
    load_id = session.load(LoadRequest(model=str(tiny)))
    session.cancel_load("main")
    event = log.until(lambda e: isinstance(e, LoadFailed | Loaded) and e.load_id == load_id)
    assert isinstance(event, LoadFailed) and event.cancelled


def long_answers(session: Session, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """Answers do not end by themselves, and are slow until the event."""
    runtime, quick = session._runtimes["main"], threading.Event()
    step = runtime.step
    monkeypatch.setattr(runtime, "step", lambda: (quick.wait(0.3), step())[1])
    monkeypatch.setattr(runtime.model.tokenizer, "eos_ids", frozenset())
    return quick


def waits(event: object) -> bool:
    return isinstance(event, LoadProgress) and event.phase == "wait"


@pytest.mark.parametrize("roomy", [True, False])
def test_a_model_waits_for_the_answer_of_the_one_it_replaces(
    session: Session, tiny: Path, roomy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log(session)
    log.load(model=str(tiny), scheme="int8", context_tokens=128)
    quick = long_answers(session, monkeypatch)
    if not roomy:
        monkeypatch.setattr("quantchat.engine.room._free_bytes", lambda facts, plan: 0)
    request_id = session.chat(chat("go on", sampling=LONG, max_tokens=90))
    load_id = session.load(LoadRequest(model=str(tiny), scheme="fp16", context_tokens=128))
    log.until(waits)
    quick.set()
    log.until(lambda e: isinstance(e, Loaded) and e.load_id == load_id)
    (done,) = [e for e in log.of(Done) if isinstance(e, Done) and e.request_id == request_id]
    assert done.finish_reason == "length" and done.metrics.completion_tokens == 90
    assert log.ask("hello").metrics.completion_tokens > 0


def test_an_answer_that_is_stopped_lets_the_waiting_model_in(
    session: Session, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = Log(session)
    log.load(model=str(tiny), scheme="int8", context_tokens=256)
    long_answers(session, monkeypatch)
    request_id = session.chat(chat("go on", sampling=LONG, max_tokens=0))
    first_id, second_id = (
        session.load(LoadRequest(model=str(tiny), scheme=scheme, context_tokens=128))
        for scheme in ("fp16", "int8")
    )
    log.until(lambda e: waits(e) and e.load_id == second_id)  # type: ignore[attr-defined]
    session.cancel(request_id)
    log.until(lambda e: isinstance(e, Loaded) and e.load_id == second_id)
    (done,) = [e for e in log.of(Done) if isinstance(e, Done) and e.request_id == request_id]
    assert done.finish_reason == "cancelled"
    (failed,) = [e for e in log.of(LoadFailed) if isinstance(e, LoadFailed)]
    assert failed.load_id == first_id and failed.cancelled


def test_int8_kv_answers(session: Session, tiny: Path) -> None:
    log = Log(session)
    loaded = log.load(model=str(tiny), kv="int8", context_tokens=128)
    assert loaded.info.kv == "int8"
    assert log.ask("hello", sampling=LONG).metrics.completion_tokens > 0


def test_close_ends_the_thread(tiny: Path) -> None:
    session = Session()
    log = Log(session)
    log.load(model=str(tiny), context_tokens=128)
    session.chat(chat("x", max_tokens=0, sampling=LONG))
    session.close()
    events = session.drain()
    assert any(isinstance(e, EngineStopped) and not e.message for e in events)
    assert not session._thread.is_alive()


def test_seed_of_a_random_request_is_told(session: Session, tiny: Path) -> None:
    log = Log(session)
    log.load(model=str(tiny), context_tokens=128)
    first = log.ask("abc", sampling=Sampling(temperature=1.5, top_p=1))
    started = [e for e in log.of(Started) if isinstance(e, Started)][-1]
    again = log.ask("abc", sampling=Sampling(temperature=1.5, top_p=1, seed=started.seed))
    assert again.text == first.text
