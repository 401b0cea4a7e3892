"""What is said when something fails, and the ways out that are offered, one key each.

Owns the words and what each way does. The failures come from `loads`, `conversation` and the
engine; loads that would do instead come with them.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import TYPE_CHECKING

from quantchat.events import EngineStopped
from quantchat.requests import LoadRequest, WayOut
from quantchat.tui import figures
from quantchat.tui.control.loads import Problem
from quantchat.tui.screens.dialog import Dialog, Way
from quantchat.tui.widgets.prompt import Prompt

if TYPE_CHECKING:
    from quantchat.tui.app import QuantchatApp

log = logging.getLogger(__name__)

CLOSE = Way(key="c", label="Close", result="")
LOG = Way(key="l", label="Log", action="app.log")
MOST_WAYS = 6
TYPING_S = 0.7
"""Keys that follow within this time were meant for the prompt that had the focus."""


class Trouble:
    """Failures of loads, answers and the engine, as dialogs and messages."""

    def __init__(self, app: QuantchatApp) -> None:
        self._app = app
        self.stopping = False
        """The engine's end is among the events that are being passed on."""

    def load_failed(self, problem: Problem, request: LoadRequest) -> None:
        """A model was not loaded: the old one goes on, or the user chooses what to do."""
        app = self._app
        if not problem.cancelled:
            log.warning("%s %s was not loaded: %s", request.model, request.scheme, problem.message)
        answering = app.loads.answering
        if answering is not None and app.preferences.load_request() == request:
            self.take_back(answering)
        if answering is None:
            app.conversation.stop()
        elif problem.cancelled or not problem.from_engine:
            self._say_old_goes_on(problem, request)
            return
        ways = [
            *load_ways(problem.ways),
            Way(key="m", label="Models", result="models"),
            Way(key="s", label="Schemes", result="schemes"),
        ]
        now = "" if app.loads.info is None else app.loads.info.scheme
        if not problem.ways and request.scheme not in ("auto", "int4") and now != "int4":
            ways.append(Way(key="4", label="Try int4", result="int4"))
        ways += [Way(key="r", label="Try again", result="retry"), LOG, CLOSE]
        name = f"{figures.model_name(request.model)} {request.scheme}".removesuffix(" auto")
        info = app.loads.info
        goes_on = f"\n{info.model[-60:]} {info.scheme} goes on answering." if info else ""
        self._show(
            Dialog(f"{name} was not loaded", problem.message + goes_on, problem.hint, ways),
            problem.ways,
            request,
        )

    def answer_failed(self, message: str, hint: str, ways: tuple[WayOut, ...] = ()) -> None:
        """An answer ended early; what was written is kept."""
        app = self._app
        log.warning("an answer ended early: %s", message)
        if self.stopping:
            return
        offered = [*load_ways(ways), Way(key="r", label="Answer again", result="regenerate")]
        last = app.conversation.last_answer()
        begun = last is not None and bool(last.content)
        if begun and app.loads.ready:
            offered.append(Way(key="g", label="Continue it", result="go_on"))
        elif not begun:
            offered.append(Way(key="d", label="Edit the message", result="edit"))
        if not ways:
            offered.append(Way(key="s", label="Schemes", result="schemes"))
        if app.new_engine is not None:
            offered.append(Way(key="e", label="Restart engine", result="restart"))
        offered += [LOG, CLOSE]
        title = "The answer ended early" if begun else "There is no answer"
        self._show(Dialog(title, message, hint, offered), ways, None)

    def engine_stopped(self, event: EngineStopped) -> None:
        """The engine is gone: what streamed is kept, and it can be started again."""
        app = self._app
        app.conversation.engine_lost(event.message or "the engine ended")
        if app.comparison is not None:
            app.comparison.engine_lost(event.message)
        if not event.message:
            return
        log.error("engine stopped: %s", event.message)
        app.loads.lost(event.message, event.hint)
        self.offer_restart()

    def offer_restart(self) -> None:
        """Say that the engine is gone, with the way to start it again."""
        app, problem = self._app, self._app.loads.problem
        message, hint = ("", "") if problem is None else (problem.message, problem.hint)
        ways = [LOG, Way(key="q", label="Quit", result="quit"), CLOSE]
        if app.new_engine is not None:
            ways.insert(0, Way(key="r", label="Start it again", result="restart"))
        self._show(Dialog("The engine stopped", message, hint, ways), (), None)

    def _say_old_goes_on(self, problem: Problem, request: LoadRequest) -> None:
        app = self._app
        info = app.loads.info
        kept = f"{info.model} {info.scheme} goes on answering." if info else ""
        app.notify(
            kept if problem.cancelled else f"{problem.message}. {problem.hint}\n{kept}".strip(),
            title=f"{request.model} {request.scheme} was not loaded",
            severity="information" if problem.cancelled else "error",
            timeout=6 if problem.cancelled else 12,
        )

    def take_back(self, answering: LoadRequest) -> None:
        """The settings say again what answers."""
        problem = self._app.preferences.change(
            model=answering.model,
            scheme=answering.scheme,
            kv=answering.kv,
            device=answering.device,
            context_tokens=answering.context_tokens,
            calibration_file=answering.calibration_file,
        )
        if problem:
            self._app.notify(problem, severity="warning")

    def _show(self, dialog: Dialog, ways: tuple[WayOut, ...], request: LoadRequest | None) -> None:
        app = self._app
        focused = app.focused
        if isinstance(focused, Prompt) and focused.text:
            dialog.quiet_s = TYPING_S
        app.push_screen(dialog, lambda result: self._way_out(result, ways, request))

    def _way_out(
        self, result: str | None, ways: Sequence[WayOut], request: LoadRequest | None
    ) -> None:
        app = self._app
        if not result:
            return
        if result.startswith("way "):
            way = ways[int(result.removeprefix("way "))]
            self._load_with(request, **{way.field: way.value})
            if request is None:
                app.switching.again_with(app.loads.wanted)
        elif result == "int4":
            self._load_with(request, scheme="int4")
        elif result == "retry":
            self._load_with(request)
        elif result == "regenerate":
            app.chat_screen.action_regenerate()
        elif result == "go_on":
            app.chat_screen.action_go_on()
        elif result == "edit":
            app.to_chat()
            app.chat_screen.action_edit_last()
        elif result == "models":
            app.to_chat()
            app.action_models()
        elif result == "schemes":
            app.to_chat()
            app.action_schemes()
        elif result == "restart" and app.new_engine is not None:
            app.restart_engine()
        elif result == "quit":
            app.exit()

    def _load_with(self, request: LoadRequest | None, **changes: object) -> None:
        """Load what was asked for with something changed; the settings follow."""
        app = self._app
        wish = request or app.loads.answering or app.preferences.load_request()
        values: dict[str, object] = {
            "model": wish.model,
            "scheme": wish.scheme,
            "kv": wish.kv,
            "device": wish.device,
            "context_tokens": wish.context_tokens,
        }
        problem = app.preferences.change(**{**values, **changes})
        if problem:
            app.notify(problem, severity="warning")
        app.loads.want(app.preferences.load_request(), fetch=True)


def load_ways(ways: Sequence[WayOut]) -> list[Way]:
    """Loads that would do instead, under 1, 2, 3."""
    return [
        Way(key=str(at + 1), label=_label(way), note=_note(way), result=f"way {at}")
        for at, way in enumerate(ways[:MOST_WAYS])
    ]


def _label(way: WayOut) -> str:
    if way.field == "context_tokens":
        return f"Context of {int(way.value):,} tokens"
    if way.field == "device":
        return f"On the {str(way.value).upper()}"
    return f"{way.value} KV" if way.field == "kv" else f"Scheme {way.value}"


def _note(way: WayOut) -> str:
    """The figures of the engine's words, without the name that the label has."""
    return way.words.partition(": ")[2]
