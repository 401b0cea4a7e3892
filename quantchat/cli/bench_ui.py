"""`quantchat bench ui`: what the screen costs beside decode, and how it bears what is hard to draw.

Owns the scenarios: the real engine and a scripted one beside a card, each with and without the app
around it; a scripted answer in a long conversation; memory over many messages; typing in the model
picker.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import click

from quantchat.bench.paced import PacedEngine
from quantchat.bench.scripted import ScriptedEngine, long_answer
from quantchat.bench.stats import Summary, summarize
from quantchat.cli.bench_ui_app import (
    POLL_S,
    Opened,
    Recorder,
    Screen,
    Shelf,
    View,
    asked,
    measured,
)
from quantchat.cli.bench_words import one_line
from quantchat.events import Done
from quantchat.requests import ChatRequest

if TYPE_CHECKING:
    from quantchat.settings.model import Settings
    from quantchat.tui.control.library import Library

CODE_LINES = 300
AT_ONCE_TOK_PER_S = 1e6
PACED_S = 5.0
"""How long an answer beside the scripted card takes."""
SCENARIOS = ("decode", "pace", "conversation", "memory", "search")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """The same answers with and without the app; tok/s of all streams together."""

    streams: int
    tokens: int
    plain_tok_per_s: Summary
    app_tok_per_s: Summary
    kept: Summary
    """Share of the plain speed that is left beside the app, round by round."""
    screen: Screen
    """The worst round."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Conversation:
    """A scripted answer that is hard to draw, behind a past that is."""

    view: View
    messages: int
    screen: Screen


@click.command("ui")
@click.option("--model", "-m", default="starter", show_default=True)
@click.option("--scheme", "-s", default="auto", show_default=True, help="Of a single stream.")
@click.option(
    "--schemes", default="fp16,int4", show_default=True, help="Left and right of two streams."
)
@click.option(
    "--tokens",
    type=click.IntRange(min=16),
    default=256,
    show_default=True,
    help="Of each answer of the real engine.",
)
@click.option("--runs", type=click.IntRange(min=1), default=5, show_default=True)
@click.option(
    "--streams",
    type=click.Choice(("1", "2", "both")),
    default="both",
    show_default=True,
    help="Answers at once: in the chat, or side by side.",
)
@click.option(
    "--rate",
    type=click.FloatRange(min=1),
    default=100.0,
    show_default=True,
    help="tok/s of each scripted answer.",
)
@click.option(
    "--pace",
    type=click.FloatRange(min=1, max=5000),
    default=1250.0,
    show_default=True,
    help="Decode steps a second of the engine that stands for a card.",
)
@click.option(
    "--history",
    type=click.IntRange(min=0),
    default=200,
    show_default=True,
    help="Messages of lists, tables and long code before the scripted answer.",
)
@click.option(
    "--messages",
    type=click.IntRange(min=40),
    default=2000,
    show_default=True,
    help="Messages over which memory is watched.",
)
@click.option(
    "--results",
    type=click.IntRange(min=1),
    default=5000,
    show_default=True,
    help="Repositories that the hub found, while keys are typed into the model picker.",
)
@click.option("--only", type=click.Choice(SCENARIOS), multiple=True, help="Some of the scenarios.")
@click.option("--json", "as_json", is_flag=True, help="Print the JSON object alone.")
def command(
    model: str,
    scheme: str,
    schemes: str,
    tokens: int,
    runs: int,
    streams: str,
    rate: float,
    pace: float,
    history: int,
    messages: int,
    results: int,
    only: tuple[str, ...],
    as_json: bool,
) -> None:
    """What drawing costs: decode speed beside the app, event-loop lag, memory.

    decode: the real engine on this machine, with and without the app around it. pace: the same with
    a scripted engine shaped like decode beside a card. conversation: a scripted answer of lists, a
    table and long code behind many such messages. memory: the process over a long conversation.
    search: keys typed into the model picker, each until the list for it is drawn.

    The last line of stdout is one JSON object.
    """
    from quantchat.bench.machine import machine_record
    from quantchat.cli.bench_ui_growth import growth
    from quantchat.cli.bench_ui_search import typing
    from quantchat.cli.bench_ui_words import (
        conversation_lines,
        cost_lines,
        growth_lines,
        typing_lines,
    )
    from quantchat.hardware.probe import probe
    from quantchat.settings.model import Settings

    left, _, right = schemes.partition(",")
    settings = Settings(
        model=model,
        scheme=scheme,
        max_tokens=tokens,
        temperature=0.0,
        system_prompt="",
        compare_mode="free",
        compare_left_scheme=left.strip(),
        compare_right_scheme=right.strip() or left.strip(),
    )

    def say(line: str) -> None:
        click.echo(line, err=True)

    machine = machine_record(probe())
    counts = (1, 2) if streams == "both" else (int(streams),)
    wanted = only or SCENARIOS
    record: dict[str, object] = dict.fromkeys(SCENARIOS)
    lines: list[str] = []
    if "decode" in wanted:
        costs = [decode_cost(settings, runs, count, say) for count in counts]
        record["decode"] = [asdict(cost) for cost in costs]
        lines += [line for cost in costs for line in cost_lines("decode", cost)]
    if "pace" in wanted:
        costs = [pace_cost(settings, pace, runs, count, say) for count in counts]
        record["pace"] = [asdict(cost) for cost in costs]
        lines += [line for cost in costs for line in cost_lines("beside a scripted card", cost)]
    if "conversation" in wanted:
        drawn = []
        views: tuple[View, ...] = ("chat", "tokens", "markdown")
        for view in views:
            if (1 if view == "chat" else 2) in counts:
                say(f"conversation of {history} messages, {view}")
                drawn.append(conversation_cost(settings, rate, view, history))
        record["conversation"] = [asdict(each) for each in drawn]
        lines += [line for each in drawn for line in conversation_lines(each)]
    if "memory" in wanted:
        grown = growth(settings, messages, say)
        record["memory"] = asdict(grown)
        lines += growth_lines(grown)
    if "search" in wanted:
        keys = typing(settings, results, runs)
        record["search"] = asdict(keys)
        lines += typing_lines(keys)
    if not as_json:
        for line in lines:
            click.echo(line)
    click.echo(one_line({"benchmark": "ui", "machine": machine, **record}))


def decode_cost(settings: Settings, rounds: int, streams: int, say: Callable[[str], None]) -> Cost:
    """Rounds of the same answers of the real engine, in the app and then without it."""
    from quantchat.engine.session import Session
    from quantchat.hub.local import resolve
    from quantchat.tui.control.hub_library import HubLibrary

    resolve(settings.model)
    session = Session()
    try:
        return _cost(Recorder(session), settings, HubLibrary(), rounds, streams, say)
    finally:
        session.close()


def pace_cost(
    settings: Settings,
    steps_per_s: float,
    rounds: int,
    streams: int,
    say: Callable[[str], None],
) -> Cost:
    """The same with the scripted engine that has the shape of decode beside a card."""
    engine = PacedEngine(long_answer(CODE_LINES), steps_per_s)
    tokens = max(2, int(PACED_S * steps_per_s / streams))
    try:
        paced = settings.with_value("max_tokens", tokens)
        return _cost(Recorder(engine), paced, Shelf(), rounds, streams, say)
    finally:
        engine.close()


def conversation_cost(
    settings: Settings, tok_per_s: float, view: View, history: int
) -> Conversation:
    """A scripted answer of lists, a table and long code behind `history` such messages."""
    answer = long_answer(CODE_LINES)
    engine = ScriptedEngine(answer, AT_ONCE_TOK_PER_S)

    async def prepare(opened: Opened) -> None:
        if view != "chat":
            for _ in range(history // 2):
                await asked(opened, view)
        engine.tok_per_s = tok_per_s

    past = past_of(history, answer) if view == "chat" else ()
    screen = measured(Recorder(engine), settings, Shelf(), view=view, past=past, prepare=prepare)
    return Conversation(view=view, messages=history, screen=screen)


def past_of(messages: int, answer: str) -> list[str]:
    """Questions and that answer in turn."""
    return [
        f"Question {number}: what comes next?" if number % 2 == 0 else answer
        for number in range(messages)
    ]


def _cost(
    recorder: Recorder,
    settings: Settings,
    library: Library,
    rounds: int,
    streams: int,
    say: Callable[[str], None],
) -> Cost:
    plain: list[float] = []
    app: list[float] = []
    screens: list[Screen] = []
    tokens = 0
    for turn in range(rounds + 1):
        what = "warming up" if turn == 0 else f"round {turn} of {rounds}"
        say(f"streams: {streams}, {what}")
        screen = measured(recorder, settings, library, view="chat" if streams == 1 else "tokens")
        within, requests = tuple(recorder.done), tuple(recorder.requests)
        without = _plain(recorder, requests)
        if turn == 0:
            continue
        tokens = sum(done.metrics.completion_tokens for done in within)
        app.append(_speed(within))
        plain.append(_speed(without))
        screens.append(screen)
    return Cost(
        streams=streams,
        tokens=tokens,
        plain_tok_per_s=summarize(plain),
        app_tok_per_s=summarize(app),
        kept=summarize([a / p for a, p in zip(app, plain, strict=True)]),
        screen=max(screens, key=lambda screen: screen.lag_p99_ms),
    )


def _plain(recorder: Recorder, requests: Sequence[ChatRequest]) -> tuple[Done, ...]:
    """The same requests without an app; what it emptied when it closed is loaded again."""
    recorder.load_again([request.slot for request in requests])
    recorder.forget()
    for request in requests:
        recorder.chat(request)
    while len(recorder.done) < len(requests):
        time.sleep(POLL_S)
        recorder.drain()
        recorder.check()
    return tuple(recorder.done)


def _speed(answers: Sequence[Done]) -> float:
    return sum(done.metrics.decode_tok_per_s for done in answers)
