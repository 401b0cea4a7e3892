"""What a long run must not let grow: memory, tasks, threads, timers, widgets, open files; and errors.

Owns samples and the verdict upon them. What is done meanwhile belongs to `moves`.
"""

from __future__ import annotations

import asyncio
import gc
import logging
import statistics
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import psutil
from textual.worker import Worker, WorkerState

from quantchat.bench.stats import percentile
from quantchat.tui.app import QuantchatApp

MIB = 2**20
GROWTH_BYTES = 12 * MIB
"""Most that memory may grow from the middle third of a run to its last."""
SHORT_GROWTH_BYTES = 64 * MIB
"""The same of a run too short to have drawn everything once."""
SHORT_S = 300.0
SLACK = {"tasks": 3, "threads": 3, "timers": 4, "widgets": 40, "handles": 6}
"""Most by which a count may exceed what it was in the first third, at rest on the same screen."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """The process at rest: the chat in front, nothing streaming."""

    at_s: float
    resident_bytes: int
    tasks: int
    threads: int
    timers: int
    widgets: int
    handles: int


def sample(app: QuantchatApp, at_s: float) -> Sample:
    """Count everything."""
    gc.collect()
    process = psutil.Process()
    nodes = [app, *app.screen_stack, *app.screen.walk_children()]
    return Sample(
        at_s=at_s,
        resident_bytes=int(process.memory_info().rss),
        tasks=len(asyncio.all_tasks()),
        threads=threading.active_count(),
        timers=sum(len(node._timers) for node in nodes),
        widgets=len(nodes),
        handles=process.num_fds() if hasattr(process, "num_fds") else 0,
    )


class Problems(logging.Handler):
    """Everything that went wrong: errors in the log, failed workers, tasks that broke."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.words: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """See logging.Handler."""
        words = f"{record.name}: {record.getMessage()}"
        if record.exc_info and record.exc_info[1] is not None:
            words += f" ({record.exc_info[1]!r})"
        self.words.append(words)

    def watch_workers(self) -> None:
        """Textual keeps the failure of a worker to itself."""
        began: Callable[..., None] = Worker.StateChanged.__init__
        words = self.words

        def noted(event: Worker.StateChanged, worker: Worker[Any], state: WorkerState) -> None:
            began(event, worker, state)
            if state is WorkerState.ERROR:
                words.append(f"worker {worker.name or worker.description}: {worker.error!r}")

        Worker.StateChanged.__init__ = noted  # type: ignore[method-assign]

    def watch_loop(self) -> None:
        """Tasks whose failure nobody asks for."""

        def noted(_: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
            self.words.append(f"{context.get('message')}: {context.get('exception')!r}")

        asyncio.get_running_loop().set_exception_handler(noted)


def growth_bytes(samples: Sequence[Sample]) -> int:
    """From the middle third to the last, medians."""
    third = len(samples) // 3
    middle = statistics.median(each.resident_bytes for each in samples[third : 2 * third])
    last = statistics.median(each.resident_bytes for each in samples[2 * third :])
    return int(last - middle)


def verdict(samples: Sequence[Sample], problems: Sequence[str]) -> list[str]:
    """What was not as it must be, in words; empty when all was well."""
    broken = [f"went wrong: {words}" for words in problems]
    if len(samples) < 3:
        return [*broken, "too few samples to tell anything"]
    span_s = samples[-1].at_s - samples[0].at_s
    bound = GROWTH_BYTES if span_s >= SHORT_S else SHORT_GROWTH_BYTES
    grown = growth_bytes(samples)
    if grown > bound:
        broken.append(f"memory grew by {grown / MIB:.1f} MiB, {bound / MIB:.0f} are allowed")
    third = max(1, len(samples) // 3)
    for name, slack in SLACK.items():
        first = max(getattr(each, name) for each in samples[:third])
        last = min(getattr(each, name) for each in samples[-third:])
        if last > first + slack:
            broken.append(f"{name}: {first} at first, never fewer than {last} at the end")
    return broken


def lines_of(samples: Sequence[Sample], lags: Sequence[float], moves: dict[str, int]) -> list[str]:
    """A run in a few lines."""
    lines = ["   time   memory  tasks threads timers widgets files"]
    step = max(1, len(samples) // 12)
    for each in [*samples[::step], *samples[-1:]]:
        lines.append(
            f"{each.at_s:6.0f} s {each.resident_bytes / MIB:6.1f} M {each.tasks:6} "
            f"{each.threads:7} {each.timers:6} {each.widgets:7} {each.handles:5}"
        )
    lines.append(", ".join(f"{name} {count}" for name, count in sorted(moves.items())))
    if lags:
        lines.append(
            f"event-loop lag p50 {percentile(lags, 0.5) * 1e3:.1f}, "
            f"p99 {percentile(lags, 0.99) * 1e3:.1f}, max {max(lags) * 1e3:.0f} ms"
        )
    return lines
