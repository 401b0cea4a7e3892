"""What is said when something fails, and the ways out that are offered."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from quantchat.events import EngineStopped
from quantchat.requests import LoadRequest
from quantchat.tui.control.loads import Problem
from quantchat.tui.screens.dialog import Dialog, Way

if TYPE_CHECKING:
    from quantchat.tui.app import QuantchatApp

log = logging.getLogger(__name__)


class Trouble:
    """Failures of loads, answers and the engine, as dialogs and messages."""

    def __init__(self, app: QuantchatApp) -> None:
        self._app = app

    def load_failed(self, problem: Problem, request: LoadRequest) -> None:
        """A model was not loaded: the old one goes on, or the user chooses what to do."""
        app = self._app
        settings, answering = app.preferences.settings, app.loads.answering
        asked = app.preferences.load_request() == request
        if answering is not None and asked:
            problem_saving = app.preferences.change(
                model=answering.model,
                scheme=answering.scheme,
                kv=answering.kv,
                device=answering.device,
                context_tokens=answering.context_tokens,
                calibration_file=answering.calibration_file,
            )
            if problem_saving:
                app.notify(problem_saving, severity="warning")
        if answering is not None:
            info = app.loads.info
            kept = f"{info.model} {info.scheme} goes on answering." if info else ""
            app.notify(
                kept if problem.cancelled else f"{problem.message}. {problem.hint}\n{kept}".strip(),
                title=f"{request.model} {request.scheme} was not loaded",
                severity="information" if problem.cancelled else "error",
                timeout=6 if problem.cancelled else 12,
            )
            return
        ways = [
            Way(key="m", label="Models", result="models"),
            Way(key="s", label="Schemes", result="schemes"),
        ]
        if settings.scheme != "auto" and settings.scheme != "int4":
            ways.append(Way(key="4", label="Try int4", result="int4"))
        ways += [
            Way(key="r", label="Try again", result="retry"),
            Way(key="c", label="Close", result=""),
        ]
        app.conversation.stop()
        app.push_screen(
            Dialog(f"{request.model} was not loaded", problem.message, problem.hint, ways),
            self._way_out,
        )

    def answer_failed(self, message: str, hint: str) -> None:
        """An answer ended early; what was written is kept."""
        app = self._app
        ways = (
            Way(key="r", label="Answer again", result="regenerate"),
            Way(key="s", label="Settings", result="settings"),
            Way(key="c", label="Close", result=""),
        )
        app.push_screen(Dialog("The answer ended early", message, hint, ways), self._way_out)

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
        ways = [Way(key="q", label="Quit", result="quit"), Way(key="c", label="Close", result="")]
        if app.new_engine is not None:
            ways.insert(0, Way(key="r", label="Start it again", result="restart"))
        app.push_screen(
            Dialog("The engine stopped", event.message, event.hint, ways), self._way_out
        )

    def _way_out(self, result: str | None) -> None:
        app = self._app
        if result == "regenerate":
            app.chat_screen.action_regenerate()
        elif result == "settings":
            app.action_settings()
        elif result == "models":
            app.action_models()
        elif result == "schemes":
            app.action_schemes()
        elif result == "int4":
            app.set_value("scheme", "int4")
        elif result == "retry":
            app.loads.want(app.preferences.load_request(), fetch=True)
        elif result == "restart" and app.new_engine is not None:
            app.restart_engine()
        elif result == "quit":
            app.exit()
