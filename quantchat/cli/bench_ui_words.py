"""What `quantchat bench ui` says to people."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantchat.cli.bench_ui_app import Screen, View

if TYPE_CHECKING:
    from quantchat.cli.bench_ui import Conversation, Cost
    from quantchat.cli.bench_ui_growth import Growth
    from quantchat.cli.bench_ui_search import Typing

MIB = 2**20
STREAMS = {1: "one stream", 2: "two streams"}
VIEWS: dict[View, str] = {
    "chat": "one stream",
    "tokens": "two streams as tokens",
    "markdown": "two streams as Markdown",
}


def cost_lines(name: str, cost: Cost) -> list[str]:
    """Speed alone, speed in the app, and what the app costs."""
    plain, app, kept = cost.plain_tok_per_s, cost.app_tok_per_s, cost.kept
    return [
        f"{name}, {STREAMS[cost.streams]}, {cost.tokens} tokens: {plain.median:.1f} tok/s alone "
        f"({plain.p20:.1f}-{plain.p80:.1f}), {app.median:.1f} in the app "
        f"({app.p20:.1f}-{app.p80:.1f}): the app costs {1 - kept.median:.1%} "
        f"({1 - kept.p80:.1%} to {1 - kept.p20:.1%})",
        "  " + screen_line(cost.screen),
    ]


def conversation_lines(conversation: Conversation) -> list[str]:
    """Event-loop lag where drawing is hard."""
    return [
        f"scripted answer of lists, a table and code, {VIEWS[conversation.view]}, behind "
        f"{conversation.messages} messages:",
        "  " + screen_line(conversation.screen),
    ]


def growth_lines(growth: Growth) -> list[str]:
    """Memory at the start, halfway, at the end."""
    resident = growth.resident_bytes
    first, half, last = resident[0], resident[len(resident) // 2], resident[-1]
    return [
        f"memory over {growth.messages} messages ({growth.text_bytes / MIB:.1f} MiB of text): "
        f"{first / MIB:.1f} MiB before, {half / MIB:.1f} halfway, {last / MIB:.1f} at the end; "
        f"{growth.grown_bytes_per_message / 1024:.2f} KiB a message in the second half"
    ]


def typing_lines(typing: Typing) -> list[str]:
    """How long the model picker took to answer keys."""
    took, cpu = typing.answer_ms, typing.loop_cpu_ms
    return [
        f"model picker of {typing.columns}x{typing.lines}, {typing.results:,} repositories, "
        f"{took.samples} keys: {took.median:.1f} ms from the key to the drawn list "
        f"({took.p20:.1f}-{took.p80:.1f}, at most {took.highest:.1f}), {typing.late} over 50 ms; "
        f"{cpu.median:.1f} ms of the loop's CPU a key (at most {cpu.highest:.1f})"
    ]


def screen_line(screen: Screen) -> str:
    """How the event loop fared."""
    return (
        f"event-loop lag p50 {screen.lag_p50_ms:.1f}, p99 {screen.lag_p99_ms:.1f}, "
        f"max {screen.lag_max_ms:.1f} ms; flush p99 {screen.flush_p99_ms:.1f} ms CPU; "
        f"{screen.flushes} flushes, {screen.drawn_bytes / 1024:.0f} KiB drawn, "
        f"{screen.cpu_share:.2f} cores over {screen.answer_s:.1f} s"
    )
