"""What the app is doing, in words: for the top line, the activity line and the empty screen."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from textual.content import Content
from textual.style import Style

from quantchat.events import LoadPhase, LoadProgress
from quantchat.settings.model import Settings
from quantchat.tui import figures
from quantchat.tui.control.conversation import Conversation
from quantchat.tui.control.loads import Loads
from quantchat.tui.control.recommended import Best
from quantchat.tui.control.transfer_words import share, summary, under_way
from quantchat.tui.control.transfers import Transfers
from quantchat.tui.markup.palette import Palette

PHASES: Mapping[LoadPhase, str] = {
    "import": "starting the engine",
    "fetch": "fetching",
    "read": "reading the file",
    "sample": "writing calibration text",
    "calibrate": "calibrating",
    "quantize": "quantizing",
    "upload": "moving weights to the device",
    "compile": "compiling kernels for this card, once",
    "warm": "warming up",
    "tune": "tuning kernels for this card, once",
    "wait": "waiting for the answer to end",
}

WELCOME = (
    ("app.schemes", "chooses a scheme"),
    ("screen.dial(1)", "turns through the schemes"),
    ("app.settings", "changes sampling, KV, theme"),
    ("app.compare", "puts two schemes side by side"),
    ("app.models", "loads or fetches another model"),
    ("app.help", "shows every key"),
)
"""What an empty conversation tells: actions, and what they do."""


class Status:
    """Words about a conversation and the main slot."""

    def __init__(
        self,
        loads: Loads,
        conversation: Conversation,
        transfers: Transfers,
        settings: Callable[[], Settings],
        *,
        key: Callable[[str], str],
        best: Callable[[], Best | None] = lambda: None,
    ) -> None:
        """`key`: the key of an action, as it is now. `best`: the model to begin with here."""
        self._best = best
        self._loads = loads
        self._conversation = conversation
        self._transfers = transfers
        self._settings = settings
        self._key = key

    def model_state(self) -> str:
        """What is said in place of the model, or beside it while another one comes."""
        loads = self._loads
        wanted = loads.wanted
        if wanted is None:
            return "no model"
        name = figures.model_name(wanted.model)
        if loads.busy and wanted.scheme != "auto":
            name += f" {wanted.scheme}"
        if loads.busy:
            way = "fetching" if loads.state == "fetching" else "loading"
            return f"→ {name}" if loads.ready else f"{way} {name}"
        if loads.ready:
            return f"↓ {figures.model_name(loads.awaited)}" if loads.awaited else ""
        return f"{name} is not on disk" if loads.state == "missing" else "no model"

    def activity(self) -> tuple[str, float | None]:
        """What is under way and how far it is; "" when nothing is."""
        loads = self._loads
        if loads.state == "fetching":
            return self._fetching()
        if loads.state == "loading":
            return load_text(loads.progress)
        if loads.state == "looking":
            return "looking for the model", None
        answering = self._conversation.answering
        if answering is not None:
            if answering.stopping:
                return "stopping", None
            prefill = answering.prefill
            if prefill is not None and prefill.done_tokens < prefill.total_tokens:
                part = prefill.done_tokens / prefill.total_tokens
                return f"prefill · {prefill.done_tokens} of {prefill.total_tokens} tokens", part
        return self.downloads()

    @property
    def beside_an_answer(self) -> bool:
        """Whether an answer streams and no more than a download is to be told of."""
        answering = self._conversation.answering
        return (
            answering is not None
            and not answering.stopping
            and bool(answering.text)
            and self._loads.state == "ready"
            and under_way(self._transfers.rows()) is not None
        )

    def downloads(self) -> tuple[str, float | None]:
        """The download at work in words, and how far it is."""
        lines = self._transfers.rows()
        line = under_way(lines)
        return ("", None) if line is None else (summary(lines, line), share(line))

    def welcome(self, palette: Palette, width: int) -> Content:
        """The middle of an empty conversation."""
        loads = self._loads
        lines = [Content.styled("◆ quantchat", palette.accent), Content("")]
        if loads.state == "missing" and loads.row is not None:
            row = loads.row
            size = f", {figures.size(row.size_bytes)}" if row.size_bytes else ""
            licence = f", {row.license}" if row.license else ""
            lines += [
                Content.styled(row.title, palette.strong),
                Content.styled(f"is not on disk yet{size}{licence}", palette.muted),
                Content(""),
                _keyed("Enter", "fetches it", palette),
                _keyed(self._key("app.models"), "chooses another model", palette),
            ]
            lines += self._recommended(row.name, palette)
        elif loads.ready or loads.busy:
            lines += [
                Content.styled("Ask anything. It stays on this machine.", palette.muted),
                Content(""),
                *(_keyed(self._key(action), text, palette) for action, text in WELCOME),
                _keyed("/ @", "runs a command; adds a file", palette),
            ]
        if loads.problem is not None and not loads.ready:
            lines += [Content(""), *_words(loads.problem.message, palette.error, width)]
            lines += _words(loads.problem.hint, palette.muted, width)
        return _centred(lines)

    def _recommended(self, missing: str, palette: Palette) -> list[Content]:
        best = self._best()
        if best is None or best.name == missing:
            return []
        size = f", {figures.size(best.size_bytes)}" if best.size_bytes else ""
        words = f"★ {best.name} suits this machine best{size}"
        return [Content(""), Content.styled(words, palette.success)]

    def _fetching(self) -> tuple[str, float | None]:
        lines, line = self._transfers.rows(), self._loads.transfer
        if line is None:
            return "asking for the model", None
        return f"{summary(lines, line)} · {self._key('screen.stop')} stops it", share(line)


def load_text(progress: LoadProgress | None) -> tuple[str, float | None]:
    """A load in words, and how far its phase is."""
    if progress is None:
        return "starting the engine", None
    text = PHASES[progress.phase]
    share = progress.done / progress.total if progress.total else None
    if progress.phase in ("fetch", "read", "upload") and progress.total >= 2**20:
        text += f" · {figures.size(progress.done)} of {figures.size(progress.total)}"
    if progress.detail:
        text += f" · {progress.detail}"
    return text, share


def _keyed(key: str, text: str, palette: Palette) -> Content:
    return Content.assemble(
        Content.styled(key.rjust(8), palette.primary),
        Content.styled(f"  {text.ljust(31)}", palette.muted),
    )


def _words(text: str, style: Style, width: int) -> list[Content]:
    return Content.styled(text, style).wrap(max(20, min(76, width - 4))) if text else []


def _centred(lines: list[Content]) -> Content:
    widest = max((line.cell_length for line in lines), default=0)
    return Content("\n").join(
        Content(" " * ((widest - line.cell_length) // 2)) + line for line in lines
    )
