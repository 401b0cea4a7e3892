"""The real starter model in the real app: send, stream, stop, again, switch, restart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from app_support import shown
from textual.pilot import Pilot
from textual.widgets import DataTable

from quantchat.engine.session import Session
from quantchat.quant.registry import SCHEMES
from quantchat.settings.model import Settings
from quantchat.store.chats import Chats
from quantchat.store.db import open_database
from quantchat.tui.app import QuantchatApp
from quantchat.tui.control.hub_library import HubLibrary

pytestmark = [pytest.mark.starter, pytest.mark.slow]


def real_app(folder: Path, model: Path) -> QuantchatApp:
    """The app as the command builds it, with its files in `folder`."""
    return QuantchatApp(
        Session(),
        Settings(
            animations=False,
            model=str(model),
            temperature=0.0,
            max_tokens=48,
            context_tokens=1024,
            system_prompt="Answer in one sentence.",
        ),
        Chats(open_database(folder / "conversations.db")),
        HubLibrary(),
        settings_path=folder / "settings.toml",
        new_engine=Session,
    )


async def until(
    app: QuantchatApp, condition: Callable[[], object], what: str, timeout_s: float = 120
) -> None:
    """Let the app run until the condition holds; speed is not what is tested."""
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, f"{what}: {shown(app)}"
        await asyncio.sleep(0.02)


def idle(app: QuantchatApp, turns: int) -> bool:
    """Whether the conversation has so many turns and nothing streams."""
    talk = app.conversation
    return len(talk.path) == turns and talk.answering is None and not talk.waiting


async def kept_figures(app: QuantchatApp) -> Mapping[str, float]:
    """The meters stored with the last turn."""
    turn_id = app.conversation.path[-1].id
    await until(app, lambda: app.chats.turn(turn_id).metrics, "figures on disk")
    figures = app.chats.turn(turn_id).metrics
    assert figures is not None
    return figures


async def say(pilot: Pilot[None], app: QuantchatApp, text: str) -> None:
    """Type a message key by key and send it."""
    await pilot.press(*["space" if c == " " else "question_mark" if c == "?" else c for c in text])
    await pilot.press("enter")


async def test_a_day_with_the_starter_model(tmp_path: Path, starter_path: Path) -> None:
    app = real_app(tmp_path, starter_path)
    async with app.run_test(size=(120, 40)) as pilot:
        await until(app, lambda: app.loads.ready, "load")
        assert app.loads.info is not None
        assert app.loads.info.scheme == "stored" and app.loads.info.weight_bytes > 5e7

        await say(pilot, app, "Why is the sky blue?")
        await until(app, lambda: idle(app, 2), "answer")
        first = app.conversation.path[-1]
        assert first.state in ("complete", "stopped") and len(first.content) > 40
        assert "light" in first.content.lower() or "blue" in first.content.lower()
        assert first.content.split()[0] in shown(app)
        figures = await kept_figures(app)
        assert figures["ttft_s"] > 0 and figures["decode_tok_per_s"] > 0

        await pilot.press("ctrl+r")
        await until(app, lambda: app.conversation.path[-1].versions == 2, "second version")
        await until(app, lambda: idle(app, 2), "second answer")
        # The prompt was in the cache: only its last page is computed again.
        assert (await kept_figures(app))["cached_tokens"] > 0

        app.preferences.change(max_tokens=0)
        await say(pilot, app, "Tell me a long story about a ship.")
        await until(
            app,
            lambda: app.conversation.answering and len(app.conversation.answering.text) > 30,
            "story",
        )
        await pilot.press("escape")
        await until(app, lambda: idle(app, 4), "stop")
        assert app.conversation.path[-1].state == "stopped"
        story = app.conversation.path[-1].content
        assert len(story) > 30
        app.preferences.change(max_tokens=32)

        await pilot.press("f5")
        await until(app, lambda: app.screen.query(DataTable), "chooser")
        table = app.screen.query_one(DataTable)
        await until(app, lambda: table.row_count == len(SCHEMES) + 1, "planned schemes")
        table.move_cursor(row=1 + list(SCHEMES).index("int4"))
        await pilot.press("enter")
        await until(
            app, lambda: app.loads.info is not None and app.loads.info.scheme == "int4", "int4"
        )
        assert app.loads.info is not None and app.loads.info.bits_per_weight < 6
        assert len(app.conversation.path) == 4
        await say(pilot, app, "And the grass?")
        await until(app, lambda: idle(app, 6), "int4 answer")
        assert app.conversation.path[-1].scheme == "int4"
        assert app.conversation.path[-1].content

    reopened = real_app(tmp_path, starter_path)
    async with reopened.run_test(size=(80, 24)) as pilot:
        await until(reopened, lambda: len(reopened.conversation.path) == 6, "restored")
        assert [turn.content for turn in reopened.conversation.path][3] == story
        await until(reopened, lambda: reopened.loads.ready, "second load")
        await say(pilot, reopened, "Thanks")
        await until(reopened, lambda: idle(reopened, 8), "answer after restart")


async def test_both_panes_stream_and_the_difference_is_shown(
    tmp_path: Path, starter_path: Path
) -> None:
    app = real_app(tmp_path, starter_path)
    async with app.run_test(size=(160, 40)) as pilot:
        await until(app, lambda: app.loads.ready, "load")
        await pilot.press("ctrl+t")
        await until(app, lambda: app.comparison is not None and app.comparison.ready, "panes")
        comparison = app.comparison
        assert comparison is not None
        await say(pilot, app, "Name three colours.")
        await until(app, lambda: bool(comparison.rounds) and comparison.at_rest, "both answers")
        left, right = comparison.sides
        assert left.info is not None and right.info is not None
        assert (left.info.scheme, right.info.scheme) == ("fp16", "int4")
        shown = comparison.rounds[0]
        assert shown.left.text and shown.right.text
        difference = comparison.difference()
        assert difference.weight_ratio is not None and difference.weight_ratio > 2.5
        assert difference.saved_bytes == left.info.weight_bytes - right.info.weight_bytes
        assert difference.speed_ratio is not None and difference.speed_ratio > 0
        assert difference.same_tokens > 0
        await pilot.press("ctrl+n", "f7")
        await say(pilot, app, "Why is the sky blue?")
        await until(app, lambda: bool(comparison.rounds) and comparison.at_rest, "scores")
        guided = comparison.rounds[0]
        assert guided.exact and not guided.problem
        assert len(guided.known_scores) == len(guided.left.ids) > 0
        agreement = comparison.difference().agreement
        assert agreement is not None and 0 < agreement.kl_mean < 1
        assert agreement.same_top_share > 0.5
