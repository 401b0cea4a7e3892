"""Side by side from opening to leaving: prompts, rounds, scores, votes, the cursor.

Loads are `comparing.pair`'s, scorings `comparing.guide`'s; this module says what comes next. Both
sides get the same seed, so that what differs comes from the models.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from quantchat.comparing import record
from quantchat.comparing.seeds import seeded
from quantchat.comparing.words import quoted
from quantchat.engine.api import Engine
from quantchat.errors import QuantchatError
from quantchat.events import (
    Done,
    EngineStopped,
    Failed,
    Loaded,
    LoadFailed,
    LoadProgress,
    Notice,
    Scored,
    Stats,
    Unloaded,
)
from quantchat.requests import ChatRequest, Message
from quantchat.settings.model import Settings
from quantchat.tui.control.comparing.difference import Difference, difference_of
from quantchat.tui.control.comparing.guide import Guide
from quantchat.tui.control.comparing.pair import ChatModel, Pair
from quantchat.tui.control.comparing.pane import Pane
from quantchat.tui.control.comparing.rounds import LiveRound, Written, new_written
from quantchat.tui.control.comparing.side import NAMES, Choice, Side, SideName
from quantchat.tui.messages import Item, TokenRun

__all__ = ["Comparison", "Difference", "Side"]

HIDDEN = "one of the two"
"""What a side is called before the vote."""


@dataclass(frozen=True, slots=True)
class _Act:
    """Something to be done for a round, in its turn."""

    kind: Literal["answer", "keep", "score"]
    side: Side


class Comparison:
    """Both sides and all rounds; every method runs on the event loop."""

    def __init__(
        self,
        engine: Engine,
        panes: tuple[Pane, Pane],
        settings: Callable[[], Settings],
        chat: ChatModel,
        *,
        mode: record.Mode,
        system_prompt: str,
        changed: Callable[[], None],
        failed: Callable[[str, str], None],
        closed: Callable[[], None],
    ) -> None:
        self._engine = engine
        self._panes = panes
        self._settings = settings
        self._system = (Message("system", system_prompt),) if system_prompt else ()
        self._changed = changed
        self._failed = failed
        self._closed = closed
        self._to_empty: set[str] = set()
        left, right = (Side(name=name, choice=Choice.of(settings(), name)) for name in NAMES)
        self.sides = (left, right)
        self.pair = Pair(
            engine,
            self.sides,
            chat,
            settings=settings,
            changed=changed,
            settled=self._settled,
            failed=self._load_failed,
        )
        self.guide = Guide(engine)
        self.mode: record.Mode = mode
        self.rounds: list[LiveRound] = []
        self.cursor: int | None = None
        self.near: SideName = "right"
        """The side whose token the cursor is on."""
        self._said: dict[SideName, list[Message]] = {name: [] for name in NAMES}
        self._waiting = ""
        self._acts: deque[_Act] = deque()
        self._answering: dict[int, Side] = {}
        self._peak_bytes = 0
        self._numbers = 0

    def open(self) -> None:
        """Load both sides, one after the other."""
        self.pair.open()

    def close(self) -> None:
        """Stop everything and give both models' memory back."""
        self.stop()
        self._to_empty = {side.slot for side in self.sides}
        self.pair.close()

    def choose(self, side: Side, choice: Choice) -> None:
        """Another model, scheme or KV precision for a side."""
        self.guide.stop()
        self.pair.choose(side, choice)

    @property
    def ready(self) -> bool:
        """Whether a prompt is answered at once."""
        return self.pair.ready

    @property
    def answering(self) -> bool:
        """Whether an answer streams or is still to come."""
        return bool(self._answering or self._acts)

    @property
    def tokens_written(self) -> int:
        """Of both answers of the latest round."""
        shown = self.shown
        return 0 if shown is None or self._waiting else len(shown.left.ids) + len(shown.right.ids)

    @property
    def waiting(self) -> bool:
        """Whether a prompt waits for the loads."""
        return bool(self._waiting)

    @property
    def scoring(self) -> bool:
        """Whether an answer is scored once more."""
        return self.guide.scoring

    @property
    def shown(self) -> LiveRound | None:
        """The latest round."""
        return self.rounds[-1] if self.rounds else None

    @property
    def hidden(self) -> bool:
        """Whether nobody may know which pane is which."""
        shown = self.shown
        return self.mode == "blind" and (
            bool(self._waiting) or (shown is not None and not shown.revealed)
        )

    def side_at(self, pane: int) -> Side:
        """Whose answer stands in a pane."""
        shown = self.shown
        turned = shown is not None and shown.mode == "blind" and shown.swapped
        return self.sides[1 - pane if turned else pane]

    def pane_of(self, name: SideName) -> int:
        """Where a side's answer stands."""
        return 0 if self.side_at(0).name == name else 1

    def set_mode(self, mode: record.Mode) -> None:
        """How the next prompts are answered; blind rounds stand alone."""
        if mode != self.mode:
            if "blind" in (mode, self.mode):
                self.clear()
            self.mode = mode
            self._changed()

    def send(self, text: str) -> bool:
        """Ask both; waits until both are ready. False while one streams."""
        if self.answering or self._waiting:
            return False
        self.guide.stop()
        if self.mode == "blind":
            self.clear()
        for pane in self._panes:
            pane.point(None, near=True)
            pane.ask(text)
        for said in self._said.values():
            said.append(Message("user", text))
        self.cursor = None
        self._waiting = text
        if not self.pair.ready:
            self.pair.open()
        self._begin_waiting()
        self._changed()
        return True

    def stop(self) -> bool:
        """Stop what streams, is scored or is on its way; False when nothing is."""
        stopped = bool(self._answering) or bool(self._acts)
        self._acts.clear()
        for request_id in self._answering:
            self._engine.cancel(request_id)
        if self.guide.scoring:
            stopped = self.guide.stop() or stopped
        if self._waiting:
            stopped = True
            self._forget_waiting()
        if self.pair.busy:
            stopped = self.pair.cancel() or stopped
        if stopped and not self._answering:
            self._round_over()
        return stopped

    def clear(self) -> None:
        """Begin anew with both models loaded."""
        for request_id in self._answering:
            self._engine.cancel(request_id)
        self._answering.clear()
        self._acts.clear()
        self.guide.stop()
        self._waiting = ""
        self.rounds.clear()
        self.cursor = None
        for said in self._said.values():
            said.clear()
        for pane in self._panes:
            pane.clear()
        self._changed()

    def vote(self, pane: int | None) -> LiveRound | None:
        """The better answer stands in that pane; None for a tie. The round, where a vote was due."""
        shown = self.shown
        if shown is None or not shown.voting:
            return None
        shown.choice = "tie" if pane is None else self.side_at(pane).name
        self._reveal(shown)
        return shown

    def skip_vote(self) -> bool:
        """Reveal without a vote; False where none was due."""
        shown = self.shown
        if shown is None or not shown.voting:
            return False
        self._reveal(shown)
        return True

    def tick(self) -> None:
        """A few times a second: what waits without an event."""
        self.pair.tick()

    def take(self, item: Item) -> None:
        """An event of one of the two slots."""
        if isinstance(item, EngineStopped):
            return
        side = next((side for side in self.sides if side.slot == item.slot), None)
        if side is None:
            return
        if isinstance(item, LoadProgress | Loaded | LoadFailed | Unloaded):
            self.pair.take(side, item)
            self._note_memory(side)
            if isinstance(item, Unloaded):
                self._emptied(side)
        elif item.request_id in self._answering:
            self._take_answer(item)
        elif item.request_id == self.guide.request_id:
            self._take_scores(item)
        self._changed()

    def engine_lost(self, message: str) -> None:
        """The engine ended: nothing streams any more."""
        self._acts.clear()
        self._waiting = ""
        self.guide.request_id = 0
        shown = self.shown
        for side in self._answering.values():
            assert shown is not None
            shown.written(side.name).state = "failed"
            shown.written(side.name).problem = message
        over = bool(self._answering)
        self._answering.clear()
        self.pair.lost(message)
        if over:
            self._round_over()
        self._changed()

    def difference(self) -> Difference:
        """The figures of the line below the panes."""
        return difference_of(*self.sides, self.shown, self._peak_bytes)

    def comparison(self, versions: tuple[tuple[str, str], ...]) -> record.Comparison | None:
        """What an export tells: the rounds of the two that answered last; None without any."""
        rounds = [each for each in self.rounds if len(each.infos) == 2 and each.revealed]
        if not rounds:
            return None
        last = rounds[-1].infos
        return record.Comparison(
            left=last["left"],
            right=last["right"],
            rounds=tuple(each.record() for each in rounds if _same_pair(each, rounds[-1])),
            took_turns=self.pair.taking_turns,
            made_s=time.time(),
            versions=versions,
        )

    def move_cursor(self, step: int) -> None:
        """To another token of the latest answers."""
        tokens = self._tokens()
        if tokens:
            at = (tokens if step < 0 else -1) if self.cursor is None else self.cursor
            self.point(max(0, min(tokens - 1, at + step)))

    def point(self, index: int | None, near: SideName | None = None) -> None:
        """Put the cursor on a token; both panes show it."""
        shown = self.shown
        if shown is None or (index is not None and not 0 <= index < self._tokens()):
            return
        if near is not None:
            self.near = near
        self.cursor = index
        for at, pane in enumerate(self._panes):
            pane.point(index, near=self.side_at(at).name == self.near)
        if index is not None:
            self._probe(shown, index)
        self._changed()

    def next_parting(self, step: int) -> bool:
        """To the next token, or the one before, where the two disagree; False when there is none."""
        shown = self.shown
        if shown is None:
            return False
        at = shown.next_parting(self.cursor) if step > 0 else shown.earlier_parting(self.cursor)
        if at is None:
            return False
        self.point(at)
        return True

    def pieces_at(self, index: int) -> tuple[str, str]:
        """What the two wrote there; empty behind an answer's end."""
        shown = self.shown
        assert shown is not None
        left = shown.left.pieces
        right = left if shown.mode == "guided" else shown.right.pieces
        return (
            left[index] if index < len(left) else "",
            right[index] if index < len(right) else "",
        )

    def why_not_scored(self, index: int) -> str:
        """What stands in the way of both models' view of a token."""
        shown = self.shown
        assert shown is not None
        if shown.problem:
            return f"not scored: {shown.problem}"
        if shown.mode == "guided":
            return "not scored yet"
        if not shown.revealed:
            return ""
        if not shown.same_context or index > shown.same_tokens:
            return "the answers have parted before: nothing to compare here"
        if self.pair.taking_turns:
            return "not scored: they take turns"
        return "being scored" if self.guide.request_id else "not scored yet"

    def ways_on(self, names: tuple[str, str]) -> list[tuple[str, tuple[int, str] | None]]:
        """Tokens that both can go on behind at the cursor, in words, each once."""
        shown, at = self.shown, self.cursor
        if shown is None or at is None:
            return []
        found: dict[int, tuple[str, tuple[int, str] | None]] = {}
        sides = (shown.left,) if shown.mode == "guided" else (shown.left, shown.right)
        for name, written in zip(names, sides, strict=False):
            if at < len(written.ids):
                token = (written.ids[at], written.pieces[at])
                found.setdefault(token[0], (f"{quoted(token[1])} of {name}", token))
        score = shown.score_at(at)
        if score is not None:
            for name, top in zip(names, (score.base_top, score.top), strict=True):
                for one in top[:1]:
                    words = f"{quoted(one.text)}, likeliest of {name}"
                    found.setdefault(one.token_id, (words, (one.token_id, one.text)))
        return [*found.values(), ("none: each its own", None)]

    def go_on(self, token: tuple[int, str] | None) -> bool:
        """Both write on from the cursor, behind that token; False where they cannot."""
        shown, at = self.shown, self.cursor
        if shown is None or at is None or self.answering or self._waiting or not self.pair.ready:
            return False
        written = self._near_written(shown)
        given = list(zip(written.ids[:at], written.pieces[:at], strict=True))
        given += [token] if token is not None else []
        self.guide.stop()
        for pane in self._panes:
            pane.point(None, near=True)
        self.cursor = None
        messages = {name: shown.written(name).messages for name in NAMES}
        if shown.mode == "guided":
            messages["right"] = shown.left.messages
        for name in NAMES:
            self._said[name] = [each for each in messages[name] if each.role != "system"]
        self._begin("", mode="free", given=given)
        self._changed()
        return True

    def _tokens(self) -> int:
        shown = self.shown
        if shown is None or not (shown.revealed or shown.voting):
            return 0
        if shown.mode == "guided":
            return len(shown.left.ids)
        return max(len(shown.left.ids), len(shown.right.ids))

    def _near_written(self, shown: LiveRound) -> Written:
        at = self.cursor or 0
        if shown.mode == "guided":
            return shown.left
        near = shown.written(self.near)
        other = shown.right if near is shown.left else shown.left
        return near if at <= len(near.ids) and at < len(near.ids) else other

    def _probe(self, shown: LiveRound, index: int) -> None:
        """Have both models look at the token where their answers are the same before it."""
        known = shown.score_at(index) is not None
        both = all(side.loaded for side in self.sides) and not self.answering
        here = shown.revealed and shown.same_context and index <= shown.same_tokens
        if known or not both or not here or shown.mode == "guided" or self.pair.busy:
            return
        if all(self.sides[at].info == shown.infos.get(name) for at, name in enumerate(NAMES)):
            ids = self._near_written(shown).ids
            self.guide.probe(shown, index, tuple(ids[: index + 1]))

    def _settled(self) -> None:
        self._begin_waiting()
        self._pump()

    def _begin_waiting(self) -> None:
        if self._waiting and self.pair.ready:
            prompt, self._waiting = self._waiting, ""
            self._begin(prompt, mode=self.mode, given=())

    def _begin(self, prompt: str, *, mode: record.Mode, given: Sequence[tuple[int, str]]) -> None:
        left, right = self.sides
        if mode == "guided":
            self._said["right"] = list(self._said["left"])
        self._numbers += 1
        for side in self.sides:
            side.problem = ""
        shown = LiveRound(
            number=self._numbers,
            mode=mode,
            prompt=prompt,
            sampling=seeded(self._settings().sampling()),
            left=new_written((*self._system, *self._said["left"]), given),
            right=new_written((*self._system, *self._said["right"]), given),
            swapped=mode == "blind" and bool(random.getrandbits(1)),
            revealed=mode != "blind",
        )
        self.rounds.append(shown)
        if mode == "guided":
            self._acts.append(_Act("answer", left))
            if self.pair.taking_turns:
                self._acts.append(_Act("keep", left))
            self._acts.append(_Act("score", right))
            self.guide.follow(shown)
        else:
            first = right if right.loaded and not left.loaded else left
            self._acts += [_Act("answer", first), _Act("answer", self.pair.other(first))]
        if mode != "blind":
            for at, pane in enumerate(self._panes):
                pane.begin(shown, NAMES[at])
        self._pump()

    def _pump(self) -> None:
        """Begin what can be begun."""
        while self._acts:
            act = self._acts[0]
            if self.pair.busy or self.guide.scoring:
                return
            if self._answering and (self.pair.taking_turns or act.kind != "answer"):
                return
            if not act.side.loaded:
                if not self.pair.taking_turns or act.side.problem:
                    self._give_up(act.side.problem or "the model is not loaded")
                    return
                self.pair.bring(act.side)
                return
            self._acts.popleft()
            self._do(act)

    def _do(self, act: _Act) -> None:
        shown = self.shown
        assert shown is not None
        if act.side.info is not None:
            shown.infos[act.side.name] = act.side.info
        if act.kind == "keep":
            self.guide.keep()
        elif act.kind == "score":
            if shown.left.state != "failed":
                self.guide.finish(together=not self.pair.taking_turns)
        else:
            self._answer(shown, act.side)
        if not self.answering and not self.guide.scoring:
            self._round_over()

    def _answer(self, shown: LiveRound, side: Side) -> None:
        written = shown.written(side.name)
        if self.pair.taking_turns is False and shown.mode == "guided":
            other = self.pair.other(side)
            if other.info is not None:
                shown.infos[other.name] = other.info
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
            self._failed(error.message, error.hint)

    def _take_answer(self, item: Item) -> None:
        assert isinstance(item, TokenRun) or not isinstance(item, EngineStopped)
        shown = self.shown
        assert shown is not None
        if isinstance(item, TokenRun):
            self._take_tokens(shown, self._answering[item.request_id], item)
        elif isinstance(item, Stats):
            side = self._answering[item.request_id]
            shown.written(side.name).metrics, side.memory = item.metrics, item.memory
            self._note_memory(side)
        elif isinstance(item, Notice) and shown.revealed:
            self._panes[self.pane_of(self._answering[item.request_id].name)].say(item.message)
        elif isinstance(item, Done):
            side = self._answering.pop(item.request_id)
            side.memory = item.memory
            self._note_memory(side)
            shown.written(side.name).end(item)
            self._written(shown, side)
        elif isinstance(item, Failed):
            side = self._answering.pop(item.request_id)
            written = shown.written(side.name)
            written.state, written.problem = "failed", item.message
            if shown.mode == "guided" or self.pair.taking_turns:
                self._acts.clear()
            self._written(shown, side)
            who = side.name if shown.revealed else HIDDEN
            self._failed(f"{who}: {item.message}", item.hint)

    def _take_tokens(self, shown: LiveRound, side: Side, run: TokenRun) -> None:
        written = shown.written(side.name)
        before = shown.parting
        written.ids += run.ids
        written.pieces += run.pieces
        written.state = "streaming"
        if not shown.revealed:
            return
        if shown.mode == "guided":
            for pane in self._panes:
                pane.append(run.pieces)
            if not self.pair.taking_turns:
                self.guide.push()
            return
        self._panes[self.pane_of(side.name)].append(run.pieces)
        parting = shown.parting
        if parting is not None and parting != before:
            for pane in self._panes:
                pane.repaint(parting, parting + 1)

    def _written(self, shown: LiveRound, side: Side) -> None:
        """A side's answer has ended."""
        if shown.revealed:
            if shown.mode == "guided":
                for pane in self._panes:
                    pane.end()
            else:
                self._panes[self.pane_of(side.name)].end()
        self._pump()
        if not self.answering and not self.guide.scoring:
            self._round_over()

    def _take_scores(self, item: Item) -> None:
        shown = self.guide.round
        if isinstance(item, Failed):
            if self.guide.failed(item):
                self._acts.clear()
                self._failed(f"The answer cannot be scored: {item.message}", item.hint)
                self._round_over()
        elif isinstance(item, Scored):
            kind = self.guide.kind
            changed = self.guide.take(item)
            if shown is self.shown and kind != "keep":
                for pane in self._panes:
                    pane.repaint(changed.start, changed.stop)
            if self.guide.request_id:
                return
            if kind == "live" and self._answering:
                self.guide.push()
            elif kind != "live":
                self._pump()
                if not self.answering and not self.guide.scoring and kind != "probe":
                    self._round_over()
            if kind == "probe" and self.cursor is not None and shown is not None:
                self._probe(shown, self.cursor)

    def _round_over(self) -> None:
        """Nothing of the round is still to come."""
        shown = self.shown
        if shown is None:
            return
        for name in NAMES:
            written = shown.left if shown.mode == "guided" else shown.written(name)
            if written.state == "waiting":
                written.state = "stopped"
            before = [each for each in written.messages if each.role != "system"]
            self._said[name] = [*before, Message("assistant", written.text)]
        if shown.revealed:
            for pane in self._panes:
                pane.end()
        elif not shown.voting:
            self._unveil(shown)

    def _unveil(self, shown: LiveRound) -> None:
        """Show both answers of a blind round at once, without names."""
        failed = any(shown.written(name).state == "failed" for name in NAMES)
        shown.voting = not failed and any(shown.written(name).ids for name in NAMES)
        for at, pane in enumerate(self._panes):
            pane.begin(shown, self.side_at(at).name)
            pane.end()
        if not shown.voting:
            self._reveal(shown)
        self._changed()

    def _reveal(self, shown: LiveRound) -> None:
        shown.voting, shown.revealed = False, True
        for pane in self._panes:
            pane.relabel()
        self._changed()

    def _give_up(self, problem: str) -> None:
        """What is still to be done cannot be: the side has no model."""
        shown = self.shown
        for act in self._acts:
            if shown is not None and act.kind == "answer":
                written = shown.written(act.side.name)
                written.state, written.problem = "failed", problem
            elif shown is not None:
                shown.problem = problem
        self._acts.clear()
        if not self._answering:
            self._round_over()

    def _forget_waiting(self) -> None:
        """The prompt is not asked; it stays on the screen."""
        self._waiting = ""
        for said in self._said.values():
            if said and said[-1].role == "user":
                said.pop()
        for pane in self._panes:
            pane.say("not asked")

    def _load_failed(self, side: Side, message: str, hint: str) -> None:
        self._failed(f"{side.name}: {message}", hint)

    def _emptied(self, side: Side) -> None:
        if self._to_empty:
            self._to_empty.discard(side.slot)
            if not self._to_empty:
                self._closed()
        else:
            self._pump()

    def _note_memory(self, side: Side) -> None:
        if side.memory is not None:
            self._peak_bytes = max(self._peak_bytes, side.memory.peak_bytes)


def _same_pair(one: LiveRound, other: LiveRound) -> bool:
    return all(
        (one.infos[name].path, one.infos[name].scheme, one.infos[name].kv)
        == (other.infos[name].path, other.infos[name].scheme, other.infos[name].kv)
        for name in NAMES
    )
