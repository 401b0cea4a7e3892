"""What the engine says of an answer's bytes and of memory, held against the model that is loaded."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
from engine_log import LONG, Log

from quantchat.engine.model import LoadedModel
from quantchat.engine.session import Session
from quantchat.evals.subject import open_subject
from quantchat.events import Stats
from quantchat.hardware import bandwidth


def test_a_step_reads_the_weights_once_and_the_context(session: Session, tiny: Path) -> None:
    log = Log(session)
    info = log.load(model=str(tiny), scheme="fp16", context_tokens=128).info
    short = log.ask("hello", sampling=LONG, max_tokens=4).metrics
    long = log.ask("hello " * 20, sampling=LONG, max_tokens=4).metrics
    model = session._runtimes["main"].model
    assert info.kv_bytes_per_token == model.pool.nbytes // model.pool.pages // 16
    for metrics in (short, long):
        cache = metrics.context_tokens * info.kv_bytes_per_token
        assert metrics.read_bytes_per_token == model.decoder.read_bytes + cache
    grown = long.context_tokens - short.context_tokens
    assert grown > 0
    assert long.read_bytes_per_token - short.read_bytes_per_token == grown * info.kv_bytes_per_token
    assert 0 < model.decoder.read_bytes <= info.weight_bytes


def test_a_window_bounds_what_is_read() -> None:
    spec = SimpleNamespace(layers=4, window=lambda layer: 16 if layer % 2 else 0)
    model = LoadedModel.__new__(LoadedModel)
    model.decoder = SimpleNamespace(spec=spec, read_bytes=1000)  # type: ignore[assignment]
    model.pool = SimpleNamespace(token_bytes=40)  # type: ignore[assignment]
    assert model.read_bytes(10) == 1000 + 10 * 40
    assert model.read_bytes(100) == 1000 + (2 * 100 + 2 * 16) * 10


def test_a_model_is_named_as_evaluations_name_it(session: Session, tiny: Path) -> None:
    subject = open_subject(str(tiny))
    try:
        assert Log(session).load(model=str(tiny)).info.identity == subject.identity
    finally:
        subject.close()


def test_the_devices_bandwidth_is_told_where_it_was_measured(
    session: Session, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bandwidth, "_file", lambda: tmp_path / "bandwidth.json")
    log = Log(session)
    first = log.load(model=str(tiny), device="cpu")
    assert first.info.read_bytes_per_s is None
    bandwidth.keep_measured(session._runtimes["main"].model.plan, 21e9)
    assert log.load(model=str(tiny), device="cpu").info.read_bytes_per_s == 21e9


def test_memory_counts_the_answers_pages_and_what_others_hold(session: Session, tiny: Path) -> None:
    log = Log(session)
    info = log.load(model=str(tiny), context_tokens=128, device="cpu").info
    done = log.ask("hello there", sampling=LONG, max_tokens=12)
    memory = done.memory
    held = -(-done.metrics.context_tokens // 16) * 16 * info.kv_bytes_per_token
    assert memory.kv_used_bytes in (held, held - 16 * info.kv_bytes_per_token)
    assert memory.kv_used_bytes <= memory.kv_reserved_bytes
    used = memory.device_total_bytes - memory.device_free_bytes
    assert 0 <= memory.others_bytes <= used
    mine = psutil.Process().memory_info()
    assert used - memory.others_bytes <= mine.rss
    assert done.metrics.decode_joules is None, "nobody counts a processor's energy"


def test_the_cards_counter_is_read_at_both_ends(
    session: Session, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    readings = iter(range(100, 10_000, 3))
    monkeypatch.setattr(LoadedModel, "joules", lambda self: float(next(readings)))
    log = Log(session)
    log.load(model=str(tiny), context_tokens=128)
    done = log.ask("go on", sampling=LONG, max_tokens=12)
    stats = [event for event in log.of(Stats) if isinstance(event, Stats)]
    assert done.metrics.completion_tokens > 1
    assert done.metrics.decode_joules == 3.0 * (1 + len(stats))
