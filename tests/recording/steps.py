"""What the recording shows, step by step; each waits for what the app does, never for a time."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from camera import Camera
from stage import MODEL, THEME

from quantchat.quant.registry import SCHEMES
from quantchat.settings.model import Settings
from quantchat.tui.control.comparison import Comparison
from quantchat.tui.control.picking import ModelEntry
from quantchat.tui.screens.chat import ChatScreen
from quantchat.tui.widgets.compare_lines import DifferenceLine
from quantchat.tui.widgets.dial import Dial
from quantchat.tui.widgets.picker_list import PickerList

SETTINGS = Settings(
    model=MODEL,
    theme=THEME,
    animations=False,
    temperature=0.0,
    seed=7,
    max_tokens=56,
    context_tokens=2048,
    system_prompt="Answer in two or three short sentences.",
)


async def pick_a_model(film: Camera) -> None:
    film.caption("Pick a model: what is on disk, what suits this machine, what the hub has: Ctrl+O")
    await film.until(lambda: isinstance(film.app.screen, ChatScreen), "the chat")
    await film.hold(1.0)
    await film.press("ctrl+o")
    await film.until(lambda: film.app.screen.query(PickerList), "the models")
    models = film.app.screen.query_one(PickerList)
    await film.until(lambda: models.count > 4, "models in the list")
    await film.hold(1.2)
    for key in ("down", "down", "down", "up", "up", "up"):
        await film.press(key, pause_s=0.5)
    await film.until(lambda: named(models) == MODEL, "the cursor on the model")
    await film.hold(0.8)
    await film.press("enter")
    await film.until(lambda: isinstance(film.app.screen, ChatScreen), "the chat again")
    await film.until(lambda: film.app.loads.ready, "the model")
    await film.hold(1.2)
    film.app.clear_notifications()


async def chat(film: Camera) -> None:
    film.caption("Chat, with latency and memory as they are measured")
    await film.type("Why is the sky blue?")
    await film.press("enter", pause_s=0.2)
    await film.until(lambda: answered(film, 2), "an answer", as_it_was=True)
    await film.hold(2.0)


async def switch_to_int4(film: Camera) -> None:
    film.caption("Turn the dial: what each scheme would cost here, before it is loaded: Alt+Down")
    await film.press("alt+down", pause_s=0.2)
    dial = film.app.screen.query_one(Dial)
    await film.until(lambda: dial.chosen is not None, "planned schemes")
    await film.hold(0.6)
    for _ in range(2 + len(SCHEMES)):
        chosen = dial.chosen
        if chosen is not None and chosen.name == "int4":
            break
        await film.press("right", pause_s=0.45)
    await film.hold(1.4)
    film.caption("Load int4 and answer again; the old answer stays: R")
    await film.press("r", pause_s=0.2)
    await film.until(lambda: scheme_of(film) == "int4", "int4")
    await film.until(lambda: film.app.conversation.path[-1].versions == 2, "a second version")
    await film.until(lambda: answered(film, 2), "an answer in int4", as_it_was=True)
    await film.hold(1.6)


async def compare(film: Camera) -> None:
    film.caption("Side by side, one prompt for FP16 and int4: Ctrl+T")
    await film.press("ctrl+t")
    await film.until(lambda: film.app.comparison is not None, "two panes")
    await film.until(lambda: side_by_side(film).ready, "both models")
    await film.hold(0.8)
    await ask_both(film, "What is rain?")
    await film.hold(1.6)


async def step_to_the_first_divergence(film: Camera) -> None:
    film.caption("The first token that differs, and what both would have written: Alt+Down")
    await film.press("alt+down")
    found = side_by_side(film)
    await film.until(lambda: top_five(found), "both models' view of the token")
    await film.hold(2.6)
    film.poster()
    film.caption("Both go on from that token: Ctrl+G")
    await film.press("ctrl+g", pause_s=1.4)
    first = found.shown
    await film.press("1", pause_s=0.2)
    await film.until(lambda: found.shown is not first, "a round behind the token")
    await film.until(lambda: at_rest(film), "both answers from there", as_it_was=True)
    await film.hold(1.6)


async def guided(film: Camera) -> None:
    film.caption("Guided: one writes, the other scores the same tokens by KL: F7")
    await film.press("ctrl+n", pause_s=0.3)
    await film.press("f7", pause_s=0.8)
    await film.until(lambda: side_by_side(film).mode == "guided", "guided mode")
    await ask_both(film, "Why is the sky blue?")
    await film.hold(1.0)
    await film.press("alt+down", pause_s=1.0)
    await film.press("alt+down", pause_s=2.4)


async def vote_blind(film: Camera) -> None:
    film.caption("Blind: which is better? Vote, then see: F7")
    await film.press("ctrl+n", pause_s=0.3)
    await film.press("f7", pause_s=0.8)
    await film.until(lambda: side_by_side(film).mode == "blind", "blind mode")
    await ask_both(film, "Name three colours.", as_it_was=False)
    # The digits are votes as soon as the prompt has given the focus up.
    await film.until(lambda: voting(side_by_side(film)) and film.app.focused is None, "the vote")
    await film.hold(2.4)
    film.caption("The vote, and who it was")
    await film.press("1", pause_s=0.1)
    await film.until(lambda: not voting(side_by_side(film)), "who it was")
    await film.until(lambda: counted(film), "the count of votes")
    await film.hold(3.0)


STEPS: tuple[Callable[[Camera], Awaitable[None]], ...] = (
    pick_a_model,
    chat,
    switch_to_int4,
    compare,
    step_to_the_first_divergence,
    guided,
    vote_blind,
)


async def ask_both(film: Camera, text: str, *, as_it_was: bool = True) -> None:
    before = side_by_side(film).shown
    await film.type(text)
    await film.press("enter", pause_s=0.2)
    await film.until(lambda: side_by_side(film).shown is not before, "a round")
    await film.until(lambda: at_rest(film), "both answers", as_it_was=as_it_was)


def side_by_side(film: Camera) -> Comparison:
    assert film.app.comparison is not None
    return film.app.comparison


def at_rest(film: Camera) -> bool:
    found = side_by_side(film)
    return found.shown is not None and not (found.answering or found.waiting or found.scoring)


def top_five(found: Comparison) -> bool:
    shown, at = found.shown, found.cursor.at
    return shown is not None and at is not None and shown.score_at(at) is not None


def voting(found: Comparison) -> bool:
    return found.shown is not None and found.shown.voting


def counted(film: Camera) -> bool:
    return "ties" in film.app.screen.query_one(DifferenceLine).render().plain


def answered(film: Camera, turns: int) -> bool:
    talk = film.app.conversation
    return len(talk.path) == turns and talk.answering is None and not talk.waiting


def named(models: PickerList) -> str:
    entry = models.current
    return entry.name if isinstance(entry, ModelEntry) else ""


def scheme_of(film: Camera) -> str:
    info = film.app.loads.info
    return info.scheme if info is not None and film.app.loads.ready else ""
