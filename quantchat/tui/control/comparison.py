"""Two loads of one model, one prompt: what each says, and the difference in figures.

Owns the two slots from opening to leaving. Both get the same seed, so that what differs comes
from the weights.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

from quantchat.engine.api import Engine
from quantchat.errors import QuantchatError
from quantchat.events import (
    Done,
    EngineStopped,
    Failed,
    Loaded,
    LoadFailed,
    LoadProgress,
    MemoryUse,
    Metrics,
    ModelInfo,
    Notice,
    Stats,
    Unloaded,
)
from quantchat.requests import ChatRequest, LoadRequest, Message, Slot
from quantchat.settings.model import Settings
from quantchat.tui.control.conversation import View
from quantchat.tui.figures import ENDINGS, answer_line, kept, model_name
from quantchat.tui.messages import Item, TokenRun
from quantchat.tui.widgets.turn import Turn

SLOTS: tuple[Slot, Slot] = ("left", "right")


@dataclass(slots=True, kw_only=True)
class Side:
    """One pane: its slot, what is loaded there, what was said."""

    slot: Slot
    scheme: str
    view: View
    info: ModelInfo | None = None
    memory: MemoryUse | None = None
    metrics: Metrics | None = None
    progress: LoadProgress | None = None
    problem: str = ""
    load_id: int = 0
    request_id: int = 0
    """Of the running answer; 0 when none runs."""
    messages: list[Message] = field(default_factory=list)
    drawn: Turn | None = None
    ids: list[int] = field(default_factory=list)
    pieces: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Right against left; None where a figure is not known yet."""

    speed_ratio: float | None
    """Decode speed of the right over the left."""
    weight_ratio: float | None
    """Weights of the left over the right."""
    saved_bytes: int | None
    peak_bytes: int
    """Of the process, which holds both; 0 when not known."""
    divergence: int | None
    """Index of the first token that differs."""
    left_word: str
    right_word: str
    same_tokens: int
    """Tokens compared so far."""


class Comparison:
    """Both sides, from `open` to `close`."""

    def __init__(
        self,
        engine: Engine,
        views: tuple[View, View],
        settings: Callable[[], Settings],
        *,
        schemes: tuple[str, str],
        system_prompt: str,
        changed: Callable[[], None],
        failed: Callable[[str, str], None],
    ) -> None:
        self._engine = engine
        self._settings = settings
        self._system_prompt = system_prompt
        self._changed = changed
        self._failed = failed
        self._keys = 0
        self._waiting = ""
        self.sides = tuple(
            Side(slot=slot, scheme=scheme, view=view)
            for slot, scheme, view in zip(SLOTS, schemes, views, strict=True)
        )

    def open(self) -> None:
        """Load both sides, one after the other."""
        for side in self.sides:
            self.load(side)

    def close(self) -> None:
        """Stop both and give their memory back."""
        self.stop()
        for side in self.sides:
            if side.progress is not None or (side.load_id and side.info is None):
                self._engine.cancel_load(side.slot)
            self._engine.unload(side.slot)

    def load(self, side: Side, scheme: str | None = None) -> None:
        """Load a side anew, with another scheme."""
        side.scheme = scheme or side.scheme
        settings = self._settings()
        side.problem = ""
        try:
            side.load_id = self._engine.load(
                LoadRequest(
                    slot=side.slot,
                    model=settings.model,
                    scheme=side.scheme,
                    kv=settings.kv,
                    device=settings.device,
                    context_tokens=settings.context_tokens,
                    calibration_file=settings.calibration_file,
                    tune=settings.tune == "auto",
                )
            )
        except QuantchatError as error:
            side.problem = str(error)
        self._changed()

    @property
    def ready(self) -> bool:
        """Whether both sides answer."""
        return all(side.info is not None for side in self.sides)

    @property
    def answering(self) -> bool:
        """Whether a side streams."""
        return any(side.request_id for side in self.sides)

    @property
    def waiting(self) -> bool:
        """Whether a prompt waits for the loads."""
        return bool(self._waiting)

    def send(self, text: str) -> bool:
        """Ask both; waits until both are ready. False while one streams."""
        if self.answering or self._waiting:
            return False
        for side in self.sides:
            self._keys += 1
            side.view.add(Turn(key=self._keys, role="user", text=text))
            side.messages.append(Message("user", text))
        self._waiting = text
        self._ask_when_ready()
        return True

    def stop(self) -> bool:
        """Stop both answers; False when none runs."""
        running = [side for side in self.sides if side.request_id]
        for side in running:
            self._engine.cancel(side.request_id)
        return bool(running)

    def clear(self) -> None:
        """Begin anew with both models loaded."""
        self.stop()
        self._waiting = ""
        for side in self.sides:
            side.messages.clear()
            side.ids, side.pieces = [], []
            side.metrics = None
            side.request_id = 0
            side.view.show([])
        self._changed()

    def take(self, item: Item) -> None:
        """An event of one of the two slots."""
        if isinstance(item, EngineStopped):
            return
        side = next((side for side in self.sides if side.slot == item.slot), None)
        if side is None:
            return
        if isinstance(item, LoadProgress | Loaded | LoadFailed):
            self._take_load(side, item)
        elif isinstance(item, Unloaded):
            side.info = None
        elif (
            isinstance(item, TokenRun | Stats | Notice | Done | Failed)
            and item.request_id == side.request_id
            and side.drawn is not None
        ):
            self._take_answer(side, side.drawn, item)
        self._changed()

    def engine_lost(self, message: str) -> None:
        """The engine ended: nothing streams any more."""
        for side in self.sides:
            side.request_id, side.info = 0, None
            side.problem = message
        self._changed()

    def difference(self) -> Difference:
        """The figures of the line between the panes."""
        left, right = self.sides
        speed = weight = saved = None
        a, b = left.metrics, right.metrics
        if a is not None and b is not None and a.decode_tok_per_s and b.decode_tok_per_s:
            speed = b.decode_tok_per_s / a.decode_tok_per_s
        if left.info is not None and right.info is not None:
            weight = left.info.weight_bytes / max(1, right.info.weight_bytes)
            saved = left.info.weight_bytes - right.info.weight_bytes
        common = min(len(left.ids), len(right.ids))
        at = next((at for at in range(common) if left.ids[at] != right.ids[at]), None)
        return Difference(
            speed_ratio=speed,
            weight_ratio=weight,
            saved_bytes=saved,
            peak_bytes=max(
                (side.memory.peak_bytes for side in self.sides if side.memory), default=0
            ),
            divergence=at,
            left_word=left.pieces[at] if at is not None else "",
            right_word=right.pieces[at] if at is not None else "",
            same_tokens=common if at is None else at,
        )

    def _take_load(self, side: Side, event: LoadProgress | Loaded | LoadFailed) -> None:
        if event.load_id != side.load_id:
            return
        if isinstance(event, LoadProgress):
            side.progress = event
            return
        side.progress = None
        if isinstance(event, Loaded):
            side.info, side.memory = event.info, event.memory
            self._ask_when_ready()
        else:
            side.problem = event.message
            if side.info is not None:
                side.scheme = side.info.scheme
            if not event.cancelled:
                self._failed(f"{side.slot}: {event.message}", event.hint)

    def _ask_when_ready(self) -> None:
        if not self._waiting or not self.ready:
            return
        self._waiting = ""
        settings = self._settings()
        seed = settings.seed if settings.seed >= 0 else random.getrandbits(31)
        sampling = settings.with_value("seed", seed).sampling()
        system = (Message("system", self._system_prompt),) if self._system_prompt else ()
        for side in self.sides:
            assert side.info is not None
            side.ids, side.pieces, side.metrics = [], [], None
            self._keys += 1
            label = f"{model_name(side.info.model)} · {side.info.scheme}"
            side.drawn = Turn(
                key=self._keys, role="assistant", text="", label=label, state="waiting"
            )
            side.view.add(side.drawn)
            request = ChatRequest(
                slot=side.slot,
                messages=(*system, *side.messages),
                sampling=sampling,
                max_tokens=settings.max_tokens,
            )
            try:
                side.request_id = self._engine.chat(request)
            except QuantchatError as error:
                self._end(side, side.drawn, "failed", error.message)

    def _take_answer(
        self, side: Side, shown: Turn, item: TokenRun | Stats | Notice | Done | Failed
    ) -> None:
        if isinstance(item, TokenRun):
            side.ids += item.ids
            side.pieces += item.pieces
            side.view.append(shown.key, item.text)
        elif isinstance(item, Stats):
            side.metrics, side.memory = item.metrics, item.memory
        elif isinstance(item, Notice):
            side.view.add(Turn(key=-1, role="notice", text=item.message), before=shown.key)
        elif isinstance(item, Done):
            side.metrics, side.memory = item.metrics, item.memory
            shown.text = item.text
            ended = "done" if item.finish_reason == "stop" else "stopped"
            self._end(
                side, shown, ended, answer_line(kept(item.metrics), ENDINGS[item.finish_reason])
            )
        else:
            shown.text = item.text
            self._end(side, shown, "failed", f"failed: {item.message}")
            self._failed(f"{side.slot}: {item.message}", item.hint)

    def _end(self, side: Side, shown: Turn, state: str, figures: str) -> None:
        side.request_id = 0
        shown.state = "done" if state == "done" else "failed" if state == "failed" else "stopped"
        shown.figures = figures
        side.messages.append(Message("assistant", shown.text))
        side.view.update(shown)
