"""Parts without a screen: flushes, figures, themes, the clipboard, the store's writer."""

from __future__ import annotations

import gc
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from app_support import make_app, ready, wait_until
from fake_facts import metrics_of, model_info
from fakes import FakeEngine, Script
from textual.app import App

from quantchat import paths
from quantchat.errors import StoreError
from quantchat.events import Event, Loaded, Stats
from quantchat.requests import ChatRequest, LoadRequest, Message, Slot
from quantchat.store.chats import Chats
from quantchat.store.db import open_database
from quantchat.tui import bridge, clipboard, figures
from quantchat.tui.bridge import Bridge, gather
from quantchat.tui.control.heap import Heap, set_apart
from quantchat.tui.control.writer import TurnWriter
from quantchat.tui.messages import TokenRun
from quantchat.tui.theming import COLOURS, own_themes, theme_from, user_themes


def test_a_flush_joins_tokens_and_keeps_their_order_with_the_end() -> None:
    engine = FakeEngine([Script("a b c"), Script("d e f")], tokens_per_drain=2)
    for slot in ("left", "right"):
        engine.load(LoadRequest(slot=slot, model="starter"))
    while len(engine.infos) < 2:
        engine.drain()
    for slot in ("left", "right"):
        engine.chat(ChatRequest(slot=slot, messages=(Message("user", "x"),)))
    events: list[Event] = []
    for _ in range(4):
        events += engine.drain()
    items = gather(events)
    runs = [item for item in items if isinstance(item, TokenRun)]
    assert [(run.slot, run.text) for run in runs] == [("left", "a b c"), ("right", "d e f")]
    assert [len(run.ids) for run in runs] == [3, 3]
    kinds = [type(item).__name__ for item in items if item.slot == "left"]  # type: ignore[union-attr]
    assert kinds == ["Started", "PrefillProgress", "TokenRun", "Stats", "Done"]
    assert sum(isinstance(item, Stats) for item in items) == 2


async def test_the_bridge_slows_down_when_drawing_is_dear(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bridge, "LONGEST_S", 0.3)
    monkeypatch.setattr(bridge, "DEAR_S", 0.0)
    app = make_app(tmp_path, FakeEngine(hold_loads=True))
    async with app.run_test(size=(120, 40)) as pilot:
        await wait_until(pilot, lambda: app.bridge.interval_s > bridge.SHORTEST_S)
        assert app.bridge.flushes and app.bridge.flush_p99_ms > 0


def test_the_pace_is_that_of_those_who_compute_now() -> None:
    engine = FakeEngine([Script("a b", endless=True)])
    pace = Bridge(App(), engine, lambda items: None)
    devices = {"main": "cuda", "left": "cuda", "right": "cpu"}

    def flush() -> float:
        events = engine.drain()
        pace._follow(
            [
                replace(event, info=replace(event.info, device=devices[event.slot]))
                if isinstance(event, Loaded)
                else event
                for event in events
            ]
        )
        return pace.shortest_s

    def load(slot: Slot) -> float:
        engine.load(LoadRequest(slot=slot, model="starter"))
        while slot not in engine.infos:
            flush()
        return flush()

    def chat(slot: Slot) -> int:
        return engine.chat(ChatRequest(slot=slot, messages=(Message("user", "x"),)))

    assert [load("main"), load("left")] == [bridge.SHORTEST_S] * 2
    assert load("right") == bridge.SHORTEST_ON_CPU_S
    card = chat("left")
    assert flush() == bridge.SHORTEST_S, "the other one is loaded and does nothing"
    processor = chat("right")
    assert flush() == bridge.SHORTEST_ON_CPU_S, "the slower of two"
    engine.cancel(processor)
    assert flush() == bridge.SHORTEST_S
    engine.cancel(card)
    assert flush() == bridge.SHORTEST_S, "what was last stays"


def test_figures_are_read_by_people() -> None:
    assert figures.size(0) == "0 B"
    assert figures.size(98_362_432) == "93.8 MiB"
    assert figures.size(2**30) == "1.00 GiB"
    assert figures.size(1023.9 * 2**20) == "1.00 GiB"
    assert figures.size(180 * 2**20) == "180 MiB"
    assert figures.duration(0.0021) == "2.1 ms"
    assert figures.duration(0.157) == "157 ms"
    assert figures.duration(3.2) == "3.20 s"
    assert figures.duration(754) == "12:34 min"
    assert figures.parameters(134_515_008) == "135M"
    assert figures.parameters(8_030_261_248) == "8.03B"
    assert figures.parameters(999_885_952) == "1B"
    assert figures.parameters(1_026_000_000_000) == "1,026B"
    assert figures.model_name("/a/b/c.gguf") == "c"
    assert figures.model_name("owner/name") == "owner/name"
    assert figures.model_name("owner/name:Q8_0/c.Q8_0.gguf") == "c.Q8_0"
    assert [figures.time_left(seconds) for seconds in (0.2, 52.8, 101.4, 7530)] == [
        "1 s",
        "53 s",
        "1:41 min",
        "2 h 05 min",
    ]
    assert [figures.tokens(number) for number in (1, 2_000)] == ["1 token", "2,000 tokens"]
    assert figures.gigabytes(9.04e9) == "9.0 GB/s"
    assert figures.gigabytes(3.1094e12) == "3,109 GB/s"
    assert [figures.energy(value) for value in (0.0421, 1.234, 56.78)] == [
        "42 mJ",
        "1.23 J",
        "56.8 J",
    ]
    assert figures.bar(0.5, 4) == ("██", "  ")
    assert figures.bar(7.0, 4) == ("████", "")
    assert figures.sparkline([], 10) == ""
    assert figures.sparkline([1.0, 0.5, 1.0], 10) == "█▄█"
    assert len(figures.sparkline([1.0] * 100, 30)) <= 30
    info = model_info(LoadRequest(model="starter"))
    assert (
        figures.ttft_parts(figures.kept(metrics_of(3, info)))
        == "prefill\N{NO-BREAK SPACE}150\N{NO-BREAK SPACE}ms · sample\N{NO-BREAK SPACE}4.0\N{NO-BREAK SPACE}ms"
    )


def test_our_themes_say_every_colour() -> None:
    themes = {theme.name: theme for theme in own_themes()}
    assert set(themes) == {"ink", "paper", "phosphor", "plain", "sixteen"}
    assert not themes["paper"].dark and themes["ink"].dark
    for theme in themes.values():
        assert all(getattr(theme, colour) for colour in COLOURS)
        variables = theme.to_color_system().generate()
        assert variables["background"] and variables["text-primary"]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("primary = 3", "primary"),
        ("primary = 'no colour'", "not a colour"),
        ("secondary = '#fff'", "primary: missing"),
        ("primary = '#fff'\nhue = 1", "hue: not known"),
        ("primary = '#fff'\ndark = 'yes'", "dark"),
        ("primary = '#fff'\n[variables]\nx = 1", "variables.x"),
        ("primary = ", "Invalid value"),
        ("#" * 70_000, "larger than"),
    ],
)
def test_a_broken_theme_is_named_with_its_reason(text: str, reason: str) -> None:
    folder = paths.user_themes_dir()
    (folder / "broken.toml").write_text(text)
    (folder / "mine.toml").write_text("primary = '#abcdef'\n")
    loaded, broken = user_themes(folder)
    assert [theme.name for theme in loaded] == ["mine"]
    assert [each.path.name for each in broken] == ["broken.toml"]
    assert reason in broken[0].reason


async def test_a_theme_of_the_user_can_be_chosen(tmp_path: Path) -> None:
    (paths.user_themes_dir() / "mine.toml").write_text("primary = '#abcdef'\n")
    (paths.user_themes_dir() / "bad.toml").write_text("primary = 1\n")
    app = make_app(tmp_path, theme="mine")
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        assert app.theme == "mine"
        assert any("bad.toml" in each.message for each in app._notifications)


def test_a_theme_needs_a_name() -> None:
    with pytest.raises(ValueError, match="name"):
        theme_from({"primary": "#fff"})


def test_the_terminal_is_asked_to_copy() -> None:
    assert clipboard.sequence("hi", tmux=False) == "\x1b]52;c;aGk=\a"
    assert clipboard.sequence("hi", tmux=True) == "\x1bPtmux;\x1b\x1b]52;c;aGk=\a\x1b\\"
    assert clipboard.sequence("x" * 100_000, tmux=False) is None


def test_copying_says_which_ways_were_tried(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    got = tmp_path / "got"
    tool = tmp_path / "tool"
    tool.write_text(f"#!/bin/sh\ncat > {got}\n")
    tool.chmod(0o755)
    written: list[str] = []
    monkeypatch.delenv("TMUX", raising=False)
    monkeypatch.setattr(clipboard, "local_tool", lambda: (str(tool),))
    assert clipboard.copy("häuser", written.append) == f"the terminal (OSC 52) and {tool}"
    assert got.read_text() == "häuser" and len(written) == 1
    monkeypatch.setattr(clipboard, "local_tool", lambda: ("/does/not/exist",))
    assert clipboard.copy("x" * 100_000, written.append) == ""
    monkeypatch.setenv("TMUX", "1")
    clipboard.copy("hi", written.append)
    assert written[-2:] == [
        clipboard.sequence("hi", tmux=True),
        clipboard.sequence("hi", tmux=False),
    ]


def test_the_writer_commits_in_order_and_reports_an_error_once(tmp_path: Path) -> None:
    chats = Chats(open_database(tmp_path / "chats.db"))
    chat = chats.create()
    turn = chats.add_turn(chat.id, None, "assistant", state="streaming")
    errors: list[StoreError] = []
    writer = TurnWriter(chats, errors.append)
    for number in range(50):
        writer.append(turn.id, f"{number} ")
    assert writer.flush()
    assert chats.turn(turn.id).content == " ".join(str(number) for number in range(50)) + " "
    writer.finish(turn.id, "complete", "all", {"ttft_s": 0.1})
    writer.append(999, "lost")
    writer.append(999, "lost too")
    writer.flush()
    writer.append(999, "still")
    writer.close()
    assert chats.turn(turn.id).content == "all" and chats.turn(turn.id).state == "complete"
    assert len(errors) == 1
    assert not any(
        thread.name == "store-writer" and thread.is_alive() for thread in threading.enumerate()
    )


def test_a_text_that_the_disk_had_no_room_for_is_kept_once_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    database = open_database(tmp_path / "a.db")
    chats = Chats(database)
    turns = [chats.add_turn(chats.create().id, None, "assistant", state="streaming") for _ in "ab"]
    errors: list[StoreError] = []
    writer = TurnWriter(chats, errors.append)
    with database.write() as connection:
        # No page more than there are.
        connection.execute("PRAGMA max_page_count = 1")
    text = "much " * 100_000
    writer.append(turns[0].id, text)
    writer.finish(turns[0].id, "complete", text, None)
    writer.finish(turns[1].id, "complete", text, None)
    writer.finish(999, "complete", text, None)
    assert writer.flush(30.0) and chats.turn(turns[0].id).state == "streaming"
    assert len(errors) == 3 and "full" in errors[0].message
    with database.write() as connection:
        connection.execute("PRAGMA max_page_count = 1000000")
    writer.close()
    assert [chats.turn(turn.id).content == text for turn in turns] == [True, True]
    assert len(errors) == 3 and not writer._late


def test_what_is_there_is_passed_over_by_the_collector_and_the_rest_seldom_looked_at() -> None:
    before = gc.get_threshold()
    try:
        set_apart()
        assert gc.isenabled() and gc.get_freeze_count() > 1000
        first, second, third = gc.get_threshold()
        assert first * second <= 10_000, "a small collection is no pause"
        assert first * second * third >= 500_000
    finally:
        gc.unfreeze()
        gc.set_threshold(*before)


async def test_what_stays_is_told_when_the_app_stands_and_when_torch_is_there(
    tmp_path: Path,
) -> None:
    engine = FakeEngine(hold_phase="import")
    told: list[str] = []
    app = make_app(tmp_path, engine)
    app._heap = Heap(lambda: told.append(app.loads.state))
    async with app.run_test(size=(80, 24)) as pilot:
        await wait_until(pilot, lambda: app.loads.progress is not None)
        assert len(told) == 1, "not while it imports"
        engine.hold_phase = None
        await ready(pilot, app)
        assert told[1:] == ["loading"]
        app.set_value("scheme", "int4")
        await wait_until(pilot, lambda: app.loads.info and app.loads.info.scheme == "int4")
        assert len(told) == 2, "what a model holds must be free to go"
