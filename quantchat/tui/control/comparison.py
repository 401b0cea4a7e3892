"""Side by side from opening to leaving, as the screen knows it.

Puts loads (`comparing.pair`), rounds (`comparing.asking`), scorings (`comparing.guide`) and the
cursor together. Both sides get the same seed, so that what differs comes from the models.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from quantchat.comparing import record
from quantchat.engine.api import Engine
from quantchat.events import EngineStopped, Loaded, LoadFailed, LoadProgress, Unloaded
from quantchat.requests import Message
from quantchat.settings.model import Settings
from quantchat.tui.control.comparing.asking import Asking
from quantchat.tui.control.comparing.cursor import Cursor, Token
from quantchat.tui.control.comparing.difference import Difference, difference_of
from quantchat.tui.control.comparing.guide import Guide
from quantchat.tui.control.comparing.pair import ChatModel, Pair
from quantchat.tui.control.comparing.pane import Pane
from quantchat.tui.control.comparing.problem import Problem
from quantchat.tui.control.comparing.rounds import LiveRound
from quantchat.tui.control.comparing.side import NAMES, Choice, Side
from quantchat.tui.messages import Item


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
        failed: Callable[[Problem], None],
        taken_back: Callable[[Side], None],
        closed: Callable[[], None],
    ) -> None:
        """`taken_back`: a side's choice was not loaded, it goes on as it was."""
        self._panes = panes
        self._changed = changed
        self._closed = closed
        left, right = (
            Side(name=name, choice=Choice.of(settings(), name), chat_model=settings().model)
            for name in NAMES
        )
        self.sides = (left, right)
        self.pair = Pair(
            engine,
            self.sides,
            chat,
            settings=settings,
            changed=changed,
            settled=self._settled,
            failed=failed,
            taken_back=taken_back,
        )
        self._guide = Guide(engine)
        system = (Message("system", system_prompt),) if system_prompt else ()
        self._asking = Asking(
            engine, panes, self.pair, self._guide, settings, system=system, failed=failed
        )
        self.rounds = self._asking.rounds
        self.cursor = Cursor(
            panes, self.rounds, self.pair, self._guide, busy=lambda: not self.at_rest
        )
        self.mode: record.Mode = mode
        self._waiting = ""
        self._to_empty: set[str] = set()
        self._peak_bytes = 0

    def open(self) -> None:
        """Load what is missing, one side after the other."""
        self.pair.open()

    def close(self) -> None:
        """Stop everything and give both models' memory back; `closed` follows."""
        self.stop()
        self._to_empty = {side.slot for side in self.sides}
        self.pair.close()

    def choose(self, side: Side, choice: Choice) -> None:
        """Another model, scheme or KV precision for a side."""
        self._asking.stop_scoring()
        self.pair.choose(side, choice)

    @property
    def ready(self) -> bool:
        """Whether a prompt is answered at once."""
        return self.pair.ready

    @property
    def answering(self) -> bool:
        """Whether an answer streams or is still to come."""
        return self._asking.answering

    @property
    def waiting(self) -> bool:
        """Whether a prompt waits for the loads."""
        return bool(self._waiting)

    @property
    def scoring(self) -> bool:
        """Whether an answer is scored once more."""
        return self._guide.scoring

    @property
    def at_rest(self) -> bool:
        """Whether nothing is written, scored, loaded or waits."""
        return not (self.answering or self.waiting or self.scoring or self.pair.busy)

    @property
    def shown(self) -> LiveRound | None:
        """The latest round."""
        return self._asking.shown

    @property
    def hidden(self) -> bool:
        """Whether nobody may know which pane is which."""
        shown = self.shown
        unseen = shown is not None and not shown.revealed
        return self.mode == "blind" and (self.waiting or unseen)

    @property
    def tokens_written(self) -> int:
        """Of both answers of the latest round."""
        shown = self.shown
        return 0 if shown is None or self.waiting else len(shown.left.ids) + len(shown.right.ids)

    def side_at(self, place: int) -> Side:
        """Whose answer stands in a pane."""
        shown = self.shown
        name = NAMES[place] if shown is None else shown.name_at(place)
        return self.sides[NAMES.index(name)]

    def set_mode(self, mode: record.Mode) -> None:
        """How the next prompts are answered; blind rounds stand alone."""
        if mode != self.mode:
            if "blind" in (mode, self.mode):
                self.clear()
            self.mode = mode
            self._changed()

    def send(self, text: str) -> bool:
        """Ask both; waits until both are ready. False while one streams."""
        if self.answering or self.waiting:
            return False
        self._asking.stop_scoring()
        if self.mode == "blind":
            self.clear()
        self.cursor.leave()
        self._asking.hear(text)
        self._waiting = text
        if not self.pair.ready:
            self.pair.open()
        self._begin_waiting()
        self._changed()
        return True

    def stop(self) -> bool:
        """Stop what streams, is scored or is on its way; False when nothing is."""
        stopped = self._asking.stop()
        if self.waiting:
            self._waiting = ""
            self._asking.unhear()
            stopped = True
        if self.pair.busy:
            stopped = self.pair.cancel() or stopped
        return stopped

    def clear(self) -> None:
        """Begin anew with both models loaded."""
        self._waiting = ""
        self._asking.forget()
        self.cursor.leave()
        self._changed()

    def go_on(self, token: Token | None) -> bool:
        """Both write on from the cursor, behind that token; False where they cannot."""
        if self.cursor.at is None or not self.at_rest or not self.pair.ready:
            return False
        given = self.cursor.given(token)
        self.cursor.leave()
        self._asking.again("free", given)
        self._changed()
        return True

    def again(self) -> bool:
        """Both answer the last prompt once more; False where they cannot."""
        shown = self.shown
        if shown is None or not self.at_rest or not self.pair.ready or self.hidden:
            return False
        if self.mode == "blind":
            return self.send(shown.prompt)
        self.cursor.leave()
        self._asking.again(self.mode)
        self._changed()
        return True

    def vote(self, place: int | None) -> LiveRound | None:
        """The better answer stands in that pane; None for a tie. The round, where a vote was due."""
        shown = self.shown
        if shown is None or not shown.voting:
            return None
        shown.choice = "tie" if place is None else shown.name_at(place)
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
            if isinstance(item, Unloaded):
                self._emptied(side)
        elif self._asking.owns(item.request_id):
            self._asking.take(item)
            self.cursor.probe()
        if side.memory is not None:
            self._peak_bytes = max(self._peak_bytes, side.memory.peak_bytes)
        self._changed()

    def engine_lost(self, message: str) -> None:
        """The engine ended: nothing streams any more."""
        self._waiting = ""
        self.pair.lost(message)
        self._asking.lost(message)
        self._changed()

    def difference(self) -> Difference:
        """The figures of the line below the panes."""
        return difference_of(*self.sides, self.shown, self._peak_bytes)

    def record(self, versions: tuple[tuple[str, str], ...]) -> record.Comparison | None:
        """What an export tells: the rounds of the two that answered last; None without any."""
        rounds = [each for each in self.rounds if len(each.infos) == 2 and each.revealed]
        if not rounds:
            return None
        last = rounds[-1]
        return record.Comparison(
            left=last.infos["left"],
            right=last.infos["right"],
            rounds=tuple(each.record() for each in rounds if each.same_pair(last)),
            took_turns=self.pair.taking_turns,
            made_s=time.time(),
            versions=versions,
        )

    def _settled(self) -> None:
        self._begin_waiting()
        self._asking.pump()

    def _begin_waiting(self) -> None:
        if self._waiting and self.pair.ready:
            prompt, self._waiting = self._waiting, ""
            self._asking.begin(prompt, self.mode)

    def _reveal(self, shown: LiveRound) -> None:
        shown.voting, shown.revealed = False, True
        for pane in self._panes:
            pane.relabel()
        self.cursor.probe()
        self._changed()

    def _emptied(self, side: Side) -> None:
        if self._to_empty:
            self._to_empty.discard(side.slot)
            if not self._to_empty:
                self._closed()
        else:
            self._asking.pump()
