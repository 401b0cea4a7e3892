"""One start of the engine, from nothing to its first token: `python -m quantchat.bench.first_token`.

Takes a LoadRequest as JSON, drives the app's own session and prints moments as JSON. Imports no more
than the app has imported when it asks for a model: what is timed includes torch.
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from quantchat.engine.session import Session

MAIN_S = time.perf_counter()
PROMPT = "Why is the sky blue?"
WAIT_S = 0.5


def main() -> None:
    """Load, ask, print; exit code 1 with a message where there is no token."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    from quantchat.errors import QuantchatError

    try:
        answers.write(json.dumps(first_token(json.loads(sys.argv[1]))) + "\n")
    except QuantchatError as error:
        answers.write(json.dumps({"message": error.message, "hint": error.hint}) + "\n")
        answers.flush()
        sys.exit(1)
    answers.flush()


def first_token(fields: dict[str, Any]) -> dict[str, object]:
    """Moments by time.perf_counter, and seconds of the load's phases."""
    from quantchat.engine.session import Session

    session = Session()
    try:
        return _moments(session, fields)
    finally:
        session.close()


def _moments(session: Session, fields: dict[str, Any]) -> dict[str, object]:
    from quantchat.errors import EngineError
    from quantchat.events import EngineStopped, Failed, Loaded, LoadFailed, Started, Token
    from quantchat.requests import ChatRequest, LoadRequest, Message, Sampling

    asked_s = time.perf_counter()
    session.load(LoadRequest(**fields))
    loaded: Loaded | None = None
    started: Started | None = None
    while True:
        for event in session.wait(WAIT_S):
            if isinstance(event, LoadFailed | Failed):
                raise EngineError(event.message, hint=event.hint)
            if isinstance(event, EngineStopped):
                raise EngineError(event.message or "the engine stopped", hint=event.hint)
            if isinstance(event, Loaded):
                loaded = event
                session.chat(
                    ChatRequest(
                        messages=(Message("user", PROMPT),),
                        sampling=Sampling(temperature=0.0),
                        max_tokens=2,
                    )
                )
            elif isinstance(event, Started):
                started = event
            elif isinstance(event, Token):
                assert loaded is not None and started is not None
                return {
                    "main_s": MAIN_S,
                    "asked_s": asked_s,
                    "loaded_s": loaded.time_s,
                    "started_s": started.time_s,
                    "token_s": event.time_s,
                    "phases": [[phase, seconds] for phase, seconds in loaded.phases],
                    "prompt_tokens": started.prompt_tokens,
                    "scheme": loaded.info.scheme_detail,
                    "kv": loaded.info.kv,
                    "device": loaded.info.device,
                    "device_name": loaded.info.device_name,
                    "weight_bytes": loaded.info.weight_bytes,
                    "reasons": loaded.info.reasons,
                }


if __name__ == "__main__":
    main()
