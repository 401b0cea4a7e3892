"""What is said when something fails side by side, and the ways out, one key each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from quantchat.requests import WayOut
from quantchat.tui.control.comparing.problem import Problem
from quantchat.tui.control.comparing.side import Choice
from quantchat.tui.screens.dialog import Dialog, Way
from quantchat.tui.trouble import CLOSE, LOG, load_ways

TITLES: Mapping[str, str] = {
    "load": "The {side} model was not loaded",
    "answer": "The {side} answer ended early",
    "score": "The answer cannot be scored",
}
AGAIN: Mapping[str, Way] = {
    "load": Way(key="r", label="Try again", result="load"),
    "answer": Way(key="r", label="Both again", result="again"),
    "score": Way(key="r", label="Both again", result="again"),
}
HIDDEN = "One of the two answers ended early"


def trouble_dialog(problem: Problem) -> Dialog:
    """Returns "way 0", "choose", "load", "again" or ""; the screen does it."""
    title = TITLES[problem.kind].format(side=problem.side) if problem.side else HIDDEN
    ways: list[Way] = []
    if problem.side is not None:
        ways += load_ways(kept_ways(problem))
        ways.append(Way(key="o", label="Choose another", result="choose"))
    return Dialog(title, problem.message, problem.hint, [*ways, AGAIN[problem.kind], LOG, CLOSE])


def way_taken(wish: Choice, problem: Problem, result: str) -> Choice:
    """The choice that a way out of the dialog comes to."""
    way = kept_ways(problem)[int(result.removeprefix("way "))]
    if way.field == "kv":
        return replace(wish, kv=str(way.value))
    return replace(wish, scheme=str(way.value))


def kept_ways(problem: Problem) -> list[WayOut]:
    """Loads that a side's choice can name: device and context are the app's."""
    return [way for way in problem.ways if way.field in ("scheme", "kv")]
