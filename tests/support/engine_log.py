"""Driving a session in tests: wait for events, load, ask."""

from __future__ import annotations

import time
from collections.abc import Callable

from quantchat.engine.session import Session
from quantchat.events import Done, Event, Failed, Loaded, LoadFailed
from quantchat.requests import ChatRequest, LoadRequest, Message, Sampling

GREEDY = Sampling(temperature=0)
LONG = Sampling(temperature=1.5, top_p=1, seed=3)


class Log:
    """Waits for events and keeps them all."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.events: list[Event] = []

    def until(self, wanted: Callable[[Event], bool], timeout_s: float = 60) -> Event:
        deadline_s = time.monotonic() + timeout_s
        while time.monotonic() < deadline_s:
            for event in (fresh := self.session.wait(0.2)):
                self.events.append(event)
            for event in fresh:
                if wanted(event):
                    return event
        raise AssertionError(f"it did not come; last: {self.events[-3:]}")

    def load(self, **wish: object) -> Loaded:
        load_id = self.session.load(LoadRequest(**wish))  # type: ignore[arg-type]
        event = self.until(lambda e: isinstance(e, Loaded | LoadFailed) and e.load_id == load_id)
        assert isinstance(event, Loaded), event
        return event

    def ask(
        self, *turns: str, sampling: Sampling = GREEDY, max_tokens: int = 12, **more: object
    ) -> Done:
        request_id = self.session.chat(
            chat(*turns, sampling=sampling, max_tokens=max_tokens, **more)
        )
        event = self.until(lambda e: isinstance(e, Done | Failed) and e.request_id == request_id)
        assert isinstance(event, Done), event
        return event

    def failed(self, request_id: int) -> Failed:
        event = self.until(lambda e: isinstance(e, Done | Failed) and e.request_id == request_id)
        assert isinstance(event, Failed), event
        return event

    def of(self, kind: type[Event]) -> list[Event]:
        return [event for event in self.events if isinstance(event, kind)]


def chat(
    *turns: str, sampling: Sampling = GREEDY, max_tokens: int = 12, **more: object
) -> ChatRequest:
    roles = ("user", "assistant")
    messages = tuple(Message(roles[i % 2], text) for i, text in enumerate(turns))
    return ChatRequest(messages=messages, sampling=sampling, max_tokens=max_tokens, **more)  # type: ignore[arg-type]
