"""A round as it happens: one prompt, what each side writes, what is scored, what was voted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Literal, TypeAlias

from quantchat.comparing.record import Answer, Choice, Mode, Round
from quantchat.events import Done, FinishReason, Metrics, ModelInfo, TokenScore
from quantchat.requests import Message, Sampling
from quantchat.store.votes import Contender
from quantchat.tui.control.comparing.side import NAMES, SideName, told_apart

State: TypeAlias = Literal["waiting", "streaming", "done", "stopped", "failed"]


@dataclass(slots=True, kw_only=True)
class Written:
    """What one side wrote, the given beginning included."""

    messages: tuple[Message, ...]
    """All that it saw before the answer."""
    ids: list[int]
    pieces: list[str]
    given: int
    """How many of the tokens it was made to begin with."""
    state: State = "waiting"
    finish: FinishReason | Literal["failed"] = "cancelled"
    metrics: Metrics | None = None
    problem: str = ""

    @property
    def text(self) -> str:
        """All of the answer."""
        return "".join(self.pieces)

    def end(self, done: Done) -> None:
        """The engine's last word; text that no token carried is added to the last one."""
        self.metrics, self.finish = done.metrics, done.finish_reason
        self.state = "done" if done.finish_reason == "stop" else "stopped"
        written = "".join(self.pieces[self.given :])
        rest = done.text[len(written) :] if done.text.startswith(written) else ""
        if rest and len(self.pieces) > self.given:
            self.pieces[-1] += rest

    def answer(self) -> Answer:
        """For exports: without the given beginning."""
        return Answer(
            text="".join(self.pieces[self.given :]),
            token_ids=tuple(self.ids[self.given :]),
            pieces=tuple(self.pieces[self.given :]),
            finish_reason="failed" if self.state == "failed" else self.finish,
            metrics=self.metrics,
        )


@dataclass(slots=True, kw_only=True, eq=False)
class LiveRound:
    """One prompt and what came of it."""

    mode: Mode
    prompt: str
    sampling: Sampling
    left: Written
    right: Written
    """Nothing is written there in guided mode."""
    infos: dict[SideName, ModelInfo] = field(default_factory=dict)
    """Who answered."""
    scores: list[TokenScore | None] = field(default_factory=list)
    """Guided: the right's view of the left's tokens, None where it is still out."""
    exact: bool = False
    """The scores are those that `quantchat eval` would find."""
    exact_tokens: int = 0
    """How many of them are so far."""
    problem: str = ""
    """Why it could not be scored."""
    probes: dict[int, TokenScore] = field(default_factory=dict)
    """Both models' view of single tokens, asked for at the cursor."""
    swapped: bool = False
    """Blind: the left side stands in the right pane."""
    revealed: bool = True
    choice: Choice | None = None
    voting: bool = False
    """Blind: both are written, the vote is out."""
    _same: int = 0
    _parted: bool = False

    def written(self, name: SideName) -> Written:
        """A side's answer."""
        return self.left if name == "left" else self.right

    def name_at(self, place: int) -> SideName:
        """Whose answer stands in a pane."""
        return NAMES[1 - place if self.swapped else place]

    def place_of(self, name: SideName) -> int:
        """The pane of a side's answer."""
        return 0 if self.name_at(0) == name else 1

    def same_pair(self, other: LiveRound) -> bool:
        """Whether the same two answered."""
        return all(
            (mine.path, mine.scheme, mine.kv) == (theirs.path, theirs.scheme, theirs.kv)
            for mine, theirs in ((self.infos[name], other.infos[name]) for name in NAMES)
        )

    def names(self) -> tuple[str, str] | None:
        """What tells those apart who answered; None until both are known."""
        if len(self.infos) < 2:
            return None
        left, right = (
            Contender(model=info.model, scheme=info.scheme, kv=info.kv)
            for info in (self.infos["left"], self.infos["right"])
        )
        return told_apart(left, right)

    @property
    def tokens(self) -> int:
        """Written on both sides."""
        return len(self.left.ids) + len(self.right.ids)

    @property
    def same_context(self) -> bool:
        """Whether both saw the same before the answer."""
        return self.left.messages == self.right.messages

    @property
    def same_tokens(self) -> int:
        """Tokens that both have in common from the beginning, so far."""
        self._compare()
        return self._same

    @property
    def parting(self) -> int | None:
        """Index of the first token that differs; one that ended where the other went on parts."""
        self._compare()
        if self._parted:
            return self._same
        left, right = self.left, self.right
        if self.mode == "guided" or len(left.ids) == len(right.ids):
            return None
        shorter = left if len(left.ids) < len(right.ids) else right
        return self._same if shorter.state == "done" else None

    @property
    def known_scores(self) -> list[TokenScore]:
        """What is scored of what was written, up to the first gap."""
        found: list[TokenScore] = []
        for score in self.scores[self.left.given :]:
            if score is None:
                break
            found.append(score)
        return found

    def score_at(self, index: int) -> TokenScore | None:
        """Both models' view of a token, where it is known."""
        if self.mode == "guided" and index < len(self.scores):
            return self.scores[index]
        return self.probes.get(index)

    def put_scores(self, first: int, scores: Sequence[TokenScore]) -> None:
        """Scores of tokens from `first` on."""
        missing = first + len(scores) - len(self.scores)
        self.scores += [None] * missing
        self.scores[first : first + len(scores)] = scores

    def thin_scores(self) -> None:
        """Keep the figures of the scored tokens alone."""
        self.scores = [
            None if score is None else replace(score, top=(), base_top=()) for score in self.scores
        ]

    def next_parting(self, after: int | None) -> int | None:
        """Index of the next token where the two disagree; from the beginning for None."""
        begin = 0 if after is None else after + 1
        if self.mode == "guided":
            for at in range(begin, len(self.scores)):
                score = self.scores[at]
                if score is not None and score.same_top is False:
                    return at
            return None
        parting = self.parting
        return parting if parting is not None and parting >= begin else None

    def earlier_parting(self, before: int | None) -> int | None:
        """The same in the other direction."""
        end = len(self.left.ids) if before is None else before
        if self.mode == "guided":
            for at in range(min(end, len(self.scores)) - 1, -1, -1):
                score = self.scores[at]
                if score is not None and score.same_top is False:
                    return at
            return None
        parting = self.parting
        return parting if parting is not None and parting < end else None

    def record(self) -> Round:
        """For exports."""
        guided = self.mode == "guided"
        given = self.left.given
        return Round(
            mode=self.mode,
            messages=self.left.messages,
            right_messages=None if guided or self.same_context else self.right.messages,
            sampling=self.sampling,
            prefix_ids=tuple(self.left.ids[:given]),
            left=self.left.answer(),
            right=None if guided else self.right.answer(),
            scores=tuple(self.known_scores),
            choice=self.choice,
        )

    def _compare(self) -> None:
        left, right = self.left.ids, self.right.ids
        common = min(len(left), len(right))
        while not self._parted and self._same < common:
            if left[self._same] == right[self._same]:
                self._same += 1
            else:
                self._parted = True


def new_written(messages: Sequence[Message], given: Sequence[tuple[int, str]] = ()) -> Written:
    """An answer about to be written."""
    return Written(
        messages=tuple(messages),
        ids=[token_id for token_id, _ in given],
        pieces=[piece for _, piece in given],
        given=len(given),
    )
