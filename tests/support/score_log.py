"""Driving scorings in tests: requests over made-up tokens, their scores, their failures."""

from __future__ import annotations

from engine_log import Log

from quantchat.events import Event, Failed, Scored, TokenScore
from quantchat.requests import Message, ScoreRequest

QUESTION = (Message("user", "hello there, what is the sky like where you are today?"),)


def ids_of(count: int) -> tuple[int, ...]:
    return tuple((i * 37) % 300 + 20 for i in range(count))


def wish(count: int = 40, **more: object) -> ScoreRequest:
    fields = {"slot": "right", "messages": QUESTION, "answer_ids": ids_of(count)}
    return ScoreRequest(**{**fields, **more})  # type: ignore[arg-type]


def ended(log: Log, request_id: int) -> tuple[list[TokenScore], Event]:
    """The scores that came, and the event that ended the request."""

    def ends(event: Event) -> bool:
        ours = isinstance(event, Scored | Failed) and event.request_id == request_id
        return ours and (isinstance(event, Failed) or event.done)

    known = [event for event in log.events if ends(event)]
    last = known[0] if known else log.until(ends)
    events = [e for e in log.events if isinstance(e, Scored) and e.request_id == request_id]
    scores: list[TokenScore] = []
    for event in events:
        assert event.first == events[0].first + len(scores)
        scores += event.scores
    return scores, last


def scores_of(log: Log, request: ScoreRequest) -> list[TokenScore]:
    scores, last = ended(log, log.session.score(request))
    assert isinstance(last, Scored), last
    assert last.exact == request.exact
    assert [s.token_id for s in scores] == list(request.answer_ids[request.first :])
    return scores


def refused(log: Log, request: ScoreRequest) -> Failed:
    _, last = ended(log, log.session.score(request))
    assert isinstance(last, Failed), last
    assert last.message and last.slot == request.slot
    return last
