"""A nursery of apps that stream until they are killed: `streaming_app.py DATA_FOLDER`.

For each line on stdin it forks one, which prints its process id, the turn that streams, when its
first token was due on the shared clock, and tokens a second; "dead" follows once it was killed.
"""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from app_support import ask, make_app, ready, wait_until
from fakes import FakeEngine, Script

TOK_PER_S = 40.0


async def stream(folder: Path) -> None:
    """Ask in a new conversation and stream numbers for ever."""
    script = Script([f"{number} " for number in range(100_000)], endless=True)
    engine = FakeEngine([script], tok_per_s=TOK_PER_S)
    app = make_app(folder, engine)
    async with app.run_test(size=(100, 30)) as pilot:
        await ready(pilot, app)
        app.conversation.new()
        await ask(pilot, app, "Count.")
        await wait_until(pilot, lambda: app.conversation.answering)
        answering = app.conversation.answering
        assert answering is not None
        answer = engine._answers[0]
        speed = TOK_PER_S * 16.0 / 8.5
        sys.__stdout__.write(
            f"{os.getpid()} {answering.turn.id} {answer.started + 1 / speed} {speed}\n"
        )
        sys.__stdout__.flush()
        await asyncio.sleep(600)


def main() -> None:
    folder = Path(sys.argv[1])
    os.environ["TEXTUAL_ANIMATIONS"] = "none"
    for _ in sys.stdin:
        child = os.fork()
        if child == 0:
            asyncio.run(stream(folder))
            os._exit(1)
        os.waitpid(child, 0)
        sys.stdout.write("dead\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
