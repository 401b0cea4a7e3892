"""Which figures of loads and answers are kept for the next verdict."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
from app_support import answered, ask, make_app, ready, wait_until
from fake_facts import memory_use, metrics_of, model_info
from fakes import FakeEngine, Script

from quantchat.events import Done, Loaded, MemoryUse, ModelInfo, Unloaded
from quantchat.requests import LoadRequest
from quantchat.store.loads import MeasuredLoad, measured_load
from quantchat.tui.control.measuring import LEAST_TOKENS, Measuring

ON_CARD = {"device": "cuda", "device_name": "Test card", "identity": "abc"}
CARD_MEMORY = MemoryUse(
    weight_bytes=5_000,
    kv_used_bytes=0,
    kv_reserved_bytes=1_000,
    workspace_bytes=300,
    peak_bytes=7_000,
    process_bytes=0,
    device_total_bytes=20_000,
    device_free_bytes=10_000,
    others_bytes=3_200,
)
"""Torch has reserved 6,300 bytes, and the driver holds 500 more for this process."""


@pytest.fixture
def measuring() -> Measuring:
    return Measuring(lambda work: work())


def info(**changes: Any) -> ModelInfo:
    plain = model_info(LoadRequest(model="m", scheme="int4"))
    return dataclasses.replace(plain, **{**ON_CARD, **changes})


def loaded(told: ModelInfo, memory: MemoryUse = CARD_MEMORY) -> Loaded:
    return Loaded(slot=told.slot, load_id=1, info=told, memory=memory, time_s=0.0)


def done(told: ModelInfo, tokens: int, memory: MemoryUse = CARD_MEMORY) -> Done:
    return Done(
        request_id=1,
        slot=told.slot,
        finish_reason="stop",
        text="",
        metrics=metrics_of(tokens, told),
        memory=memory,
        time_s=0.0,
    )


def row(told: ModelInfo) -> MeasuredLoad:
    found = measured_load("abc", told.scheme, told.kv, told.device_name)
    assert found is not None
    return found


def test_a_first_load_on_a_card_gives_all_figures(measuring: Measuring) -> None:
    told = info()
    measuring.take(loaded(told))
    first = row(told)
    assert first.weight_bytes == told.weight_bytes and first.kv_bytes == 1_000
    assert first.peak_bytes == 7_500 and not first.has_workspace and not first.has_speed
    measuring.take(done(told, LEAST_TOKENS))
    after = row(told)
    assert after.workspace_bytes == 800 and after.peak_bytes == 7_500
    assert after.tok_per_s == pytest.approx(metrics_of(LEAST_TOKENS, told).decode_tok_per_s)
    assert after.speed_tokens == 20 + LEAST_TOKENS // 2
    busier = dataclasses.replace(CARD_MEMORY, workspace_bytes=600, device_free_bytes=9_700)
    measuring.take(done(told, 3, busier))
    measuring.take(done(told, 3))
    assert row(told).workspace_bytes == 1_100 and row(told).tok_per_s == after.tok_per_s


def test_later_loads_leave_peaks_alone_and_keep_what_was_known(measuring: Measuring) -> None:
    told, other = info(), info(scheme="int8")
    measuring.take(loaded(told))
    measuring.take(done(told, LEAST_TOKENS))
    measuring.take(loaded(other))
    measuring.take(done(other, LEAST_TOKENS))
    assert math.isnan(row(other).peak_bytes) and math.isnan(row(other).workspace_bytes)
    assert row(other).has_speed
    again = Measuring(lambda work: work())
    again.take(loaded(other))
    measuring.take(loaded(told))
    assert row(told).peak_bytes == 7_500 and row(told).workspace_bytes == 800
    assert row(told).has_speed and row(other).has_peak and row(other).has_speed


def test_a_processor_tells_weights_cache_and_speed(measuring: Measuring) -> None:
    told = info(device="cpu", device_name="Test CPU")
    measuring.take(loaded(told, memory_use(told)))
    measuring.take(done(told, LEAST_TOKENS, memory_use(told)))
    found = row(told)
    assert found.weight_bytes == told.weight_bytes and found.has_speed
    assert not found.has_peak and not found.has_workspace


def test_answers_beside_another_model_are_not_measured(measuring: Measuring) -> None:
    told = info()
    measuring.take(loaded(told))
    measuring.take(loaded(info(slot="right", scheme="int8")))
    measuring.take(done(told, 1000))
    assert not row(told).has_speed
    measuring.take(Unloaded(slot="right", time_s=0.0))
    measuring.take(done(told, LEAST_TOKENS - 1))
    assert not row(told).has_speed
    measuring.take(done(told, 1000))
    assert row(told).has_speed


def test_a_card_whose_driver_does_not_tell_gives_no_peak(measuring: Measuring) -> None:
    silent = dataclasses.replace(CARD_MEMORY, others_bytes=3_700)
    measuring.take(loaded(info(), silent))
    measuring.take(done(info(), LEAST_TOKENS, silent))
    assert not row(info()).has_peak and not row(info()).has_workspace


async def test_the_app_keeps_them(tmp_path: Path) -> None:
    app = make_app(tmp_path, FakeEngine([Script("word " * 60)]))
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        told = app.loads.info
        assert told is not None

        def found() -> MeasuredLoad | None:
            return measured_load(told.identity, told.scheme, told.kv, told.device_name)

        await wait_until(pilot, found)
        await ask(pilot, app, "Hello?")
        await answered(pilot, app, 2)
        await wait_until(pilot, lambda: (row := found()) is not None and row.has_speed)
