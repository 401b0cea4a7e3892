"""From a prompt to two answers: what is done for a round, in which order, and what comes back.

Together both write at once; in turns one after the other. Owns the running round; loads are
`pair`'s, scorings `guide`'s.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from quantchat.comparing.record import Mode
from quantchat.comparing.seeds import seeded
from quantchat.engine.api import Engine
from quantchat.errors import QuantchatError
from quantchat.events import Done, Failed, Notice, Scored, Stats
from quantchat.reasoning import parts_of
from quantchat.requests import ChatRequest, Message
from quantchat.settings.model import Settings
from quantchat.tui.control.comparing.guide import Guide
from quantchat.tui.control.comparing.pair import Pair
from quantchat.tui.control.comparing.pane import Pane
from quantchat.tui.control.comparing.problem import Problem
from quantchat.tui.control.comparing.rounds import LiveRound, new_written
from quantchat.tui.control.comparing.side import NAMES, Side, SideName
from quantchat.tui.messages import Item, TokenRun

ROUNDS_KEPT = 100
"""Older ones leave the screen and the export."""
TOKENS_KEPT = 1_500_000
"""Older rounds leave, too, where all of them have more tokens: about 100 bytes each."""
SCORES_KEPT = 16_384
"""Of older scored tokens only the figures are kept, not what was likeliest: a third of a MiB a
hundred tokens."""


@dataclass(frozen=True, slots=True)
class _Act:
    """Something to be done for a round, in its turn."""

    kind: Literal["answer", "keep", "score"]
    side: Side


class Asking:
    """Rounds as they are answered; `failed` is told what the user should know."""

    def __init__(
        self,
        engine: Engine,
        panes: tuple[Pane, Pane],
        pair: Pair,
        guide: Guide,
        settings: Callable[[], Settings],
        *,
        system: tuple[Message, ...],
        failed: Callable[[Problem], None],
    ) -> None:
        self._engine = engine
        self._panes = panes
        self._pair = pair
        self._guide = guide
        self._settings = settings
        self._system = system
        self._failed = failed
        self.rounds: list[LiveRound] = []
        self._said: dict[SideName, list[Message]] = {name: [] for name in NAMES}
        self._acts: deque[_Act] = deque()
        self._answering: dict[int, Side] = {}

    @property
    def answering(self) -> bool:
        """Whether an answer streams or is still to come."""
        return bool(self._answering or self._acts)

    @property
    def shown(self) -> LiveRound | None:
        """The latest round."""
        return self.rounds[-1] if self.rounds else None

    def hear(self, text: str) -> None:
        """The user said something, to both."""
        for pane in self._panes:
            pane.ask(text)
        for said in self._said.values():
            said.append(Message("user", text))

    def unhear(self) -> None:
        """What was said last is not asked after all."""
        for said in self._said.values():
            if said and said[-1].role == "user":
                said.pop()
        for pane in self._panes:
            pane.say("not asked")

    def forget(self) -> None:
        """Stop, and begin anew."""
        for request_id in self._answering:
            self._engine.cancel(request_id)
        self._guide.stop()
        self._answering.clear()
        self._acts.clear()
        self.rounds.clear()
        for said in self._said.values():
            said.clear()
        for pane in self._panes:
            pane.clear()

    def begin(self, prompt: str, mode: Mode, given: Sequence[tuple[int, str]] = ()) -> None:
        """Have both answer what was said; `given`: tokens that both answers begin with."""
        left, right = self._pair.sides
        if mode == "guided":
            self._said["right"] = list(self._said["left"])
        for side in self._pair.sides:
            side.problem = ""
        shown = LiveRound(
            mode=mode,
            prompt=prompt,
            sampling=seeded(self._settings().sampling()),
            left=new_written((*self._system, *self._said["left"]), given),
            right=new_written((*self._system, *self._said["right"]), given),
            swapped=mode == "blind" and bool(random.getrandbits(1)),
            revealed=mode != "blind",
        )
        self._forget_old()
        self.rounds.append(shown)
        if mode == "guided":
            self._acts.append(_Act("answer", left))
            if self._pair.taking_turns:
                self._acts.append(_Act("keep", left))
            self._acts.append(_Act("score", right))
            self._guide.follow(shown)
        else:
            first = right if right.loaded and not left.loaded else left
            self._acts += [_Act("answer", first), _Act("answer", self._pair.other(first))]
        if shown.revealed:
            for place, pane in enumerate(self._panes):
                pane.begin(shown, NAMES[place])
        self.pump()

    def again(self, mode: Mode, given: Sequence[tuple[int, str]] = ()) -> None:
        """Both answer what was asked last in a new round, behind those tokens."""
        shown = self.shown
        assert shown is not None
        self._guide.stop()
        for name in NAMES:
            written = shown.left if shown.mode == "guided" else shown.written(name)
            self._said[name] = [each for each in written.messages if each.role != "system"]
        self.begin(shown.prompt, mode, given)

    def _forget_old(self) -> None:
        """Keep what is held bounded, however long the comparison goes on."""
        written = sum(each.tokens for each in self.rounds)
        while self.rounds and (len(self.rounds) >= ROUNDS_KEPT or written > TOKENS_KEPT):
            written -= self.rounds.pop(0).tokens
            for pane in self._panes:
                pane.forget_first()
        scored = 0
        for each in reversed(self.rounds):
            scored += len(each.scores)
            if scored > SCORES_KEPT:
                each.thin_scores()

    def stop(self) -> bool:
        """Stop what is written, else what is scored; False when neither is."""
        stopped, shown = self.answering, self.shown
        if not (self._answering and shown is not None and shown.mode == "guided"):
            self._acts.clear()
        for request_id in self._answering:
            self._engine.cancel(request_id)
        if self._guide.scoring:
            stopped = self._guide.stop() or stopped
        if stopped and not self._answering:
            self._round_over()
        return stopped

    def stop_scoring(self) -> None:
        """Give a scoring up; what is written stays, with the scores so far."""
        scoring = self._guide.scoring
        self._guide.stop()
        if scoring:
            self._round_over()

    def lost(self, message: str) -> None:
        """The engine ended: nothing streams any more."""
        self._acts.clear()
        self._guide.request_id = 0
        shown, sides = self.shown, list(self._answering.values())
        self._answering.clear()
        if shown is not None and sides:
            for side in sides:
                shown.written(side.name).state = "failed"
                shown.written(side.name).problem = message
            self._round_over()

    def pump(self) -> None:
        """Begin what can be begun now."""
        turns = self._pair.taking_turns
        while self._acts and not self._pair.busy and not self._guide.scoring:
            act = self._acts[0]
            if self._answering and (turns or act.kind != "answer"):
                return
            if not act.side.loaded and turns and not act.side.problem:
                self._pair.bring(act.side)
                return
            if not act.side.loaded:
                self._give_up(act.side.problem or "the model is not loaded")
                return
            self._acts.popleft()
            self._do(act)

    def owns(self, request_id: int) -> bool:
        """Whether an event of that request belongs here."""
        return request_id in self._answering or request_id == self._guide.request_id

    def take(self, item: Item) -> None:
        """An event of an answer or of a scoring."""
        shown = self.shown
        if isinstance(item, Scored):
            self._take_scores(item)
        elif isinstance(item, TokenRun | Stats | Notice | Done | Failed):
            side = self._answering.get(item.request_id)
            if side is not None and shown is not None:
                self._take_answer(shown, side, item)
            elif isinstance(item, Failed) and self._guide.failed(item):
                self._acts.clear()
                self._failed(
                    Problem(kind="score", side="right", message=item.message, hint=item.hint)
                )
                self._round_over()

    def _do(self, act: _Act) -> None:
        shown = self.shown
        assert shown is not None
        for side in self._pair.sides:
            if side.info is not None and (side is act.side or side.loaded):
                shown.infos[side.name] = side.info
        if act.kind == "keep":
            self._guide.keep()
        elif act.kind == "score":
            self._guide.finish(together=not self._pair.taking_turns)
        else:
            self._answer(shown, act.side)
        self._end_round()

    def _answer(self, shown: LiveRound, side: Side) -> None:
        written = shown.written(side.name)
        request = ChatRequest(
            slot=side.slot,
            messages=written.messages,
            sampling=shown.sampling,
            max_tokens=self._settings().max_tokens,
            prefix_ids=tuple(written.ids),
        )
        try:
            self._answering[self._engine.chat(request)] = side
        except QuantchatError as error:
            written.state, written.problem = "failed", error.message
            self._failed(
                Problem(kind="answer", side=side.name, message=error.message, hint=error.hint)
            )

    def _take_answer(
        self, shown: LiveRound, side: Side, item: TokenRun | Stats | Notice | Done | Failed
    ) -> None:
        written = shown.written(side.name)
        if isinstance(item, TokenRun):
            self._take_tokens(shown, side, item)
        elif isinstance(item, Stats):
            written.metrics, side.memory = item.metrics, item.memory
        elif isinstance(item, Notice):
            if shown.revealed:
                self._panes[shown.place_of(side.name)].say(item.message)
        else:
            del self._answering[item.request_id]
            if isinstance(item, Done):
                side.memory = item.memory
                written.end(item)
            else:
                written.state, written.problem = "failed", item.message
                if shown.mode == "guided":
                    self._acts.clear()
                self._failed(
                    Problem(
                        kind="answer",
                        side=side.name if shown.revealed else None,
                        message=item.message,
                        hint=item.hint,
                        ways=item.ways,
                    )
                )
            if shown.revealed:
                for pane in self._panes_of(shown, side):
                    pane.end()
            self.pump()
            self._end_round()

    def _take_tokens(self, shown: LiveRound, side: Side, run: TokenRun) -> None:
        before = shown.parting
        written = shown.written(side.name)
        written.ids += run.ids
        written.pieces += run.pieces
        written.state = "streaming"
        if not shown.revealed:
            return
        for pane in self._panes_of(shown, side):
            pane.append(run.pieces)
        if shown.mode == "guided":
            if not self._pair.taking_turns:
                self._guide.push()
        elif (parting := shown.parting) is not None and parting != before:
            for pane in self._panes:
                pane.repaint(parting, parting + 1)

    def _panes_of(self, shown: LiveRound, side: Side) -> tuple[Pane, ...]:
        """Where a side's text stands: in both when the other one only scores it."""
        return self._panes if shown.mode == "guided" else (self._panes[shown.place_of(side.name)],)

    def _take_scores(self, event: Scored) -> None:
        shown, kind = self._guide.round, self._guide.kind
        changed = self._guide.take(event)
        if shown is not None and shown is self.shown and kind in ("live", "exact"):
            self._panes[shown.place_of("right")].repaint(changed.start, changed.stop)
        if self._guide.request_id:
            return
        if kind == "live" and self._answering:
            self._guide.push()
        elif kind in ("exact", "keep"):
            self.pump()
            self._end_round()

    def _end_round(self) -> None:
        if not self.answering and not self._guide.scoring:
            self._round_over()

    def _round_over(self) -> None:
        """Nothing of the round is still to come; may be said more than once."""
        shown = self.shown
        if shown is None:
            return
        for name in NAMES:
            written = shown.left if shown.mode == "guided" else shown.written(name)
            if written.state == "waiting":
                written.state = "stopped"
            before = [each for each in written.messages if each.role != "system"]
            answer = parts_of(written.text).answer
            self._said[name] = [*before, Message("assistant", answer)] if answer else before
        if shown.revealed:
            for pane in self._panes:
                pane.end()
        elif not shown.voting:
            self._unveil(shown)

    def _unveil(self, shown: LiveRound) -> None:
        """Show both answers of a blind round at once, without names."""
        failed = any(shown.written(name).state == "failed" for name in NAMES)
        shown.voting = not failed and any(shown.written(name).ids for name in NAMES)
        shown.revealed = not shown.voting
        for place, pane in enumerate(self._panes):
            pane.begin(shown, shown.name_at(place))
            pane.end()
            pane.to_start()

    def _give_up(self, problem: str) -> None:
        """What is still to be done cannot be: the side has no model."""
        shown = self.shown
        assert shown is not None
        for act in self._acts:
            if act.kind == "answer":
                written = shown.written(act.side.name)
                written.state, written.problem = "failed", problem
            else:
                shown.problem = problem
        self._acts.clear()
        if not self._answering:
            self._round_over()
