"""A nursery of apps that stream until they are killed: `streaming_app.py DATA_FOLDER`.

For each line on stdin it forks one, which prints its process id, the turn that streams, when its
first token was due on the shared clock, and tokens a second; "dead" follows once it was killed.
In the file `pulse` stands when it last ran and when it was last kept waiting for the processor.
"""

from __future__ import annotations

import asyncio
import mmap
import os
import struct
import sys
import threading
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "support"))

from app_support import ask, make_app, ready, wait_until
from fakes import FakeEngine, Script

TOK_PER_S = 40.0
BEAT_S = 0.005
LATE_S = 0.02
PULSE = struct.Struct("dd")


def pulse(folder: Path) -> None:
    """Note for ever when this process ran, and when it did not though it wanted to."""
    with (folder / "pulse").open("r+b") as file, mmap.mmap(file.fileno(), PULSE.size) as shared:
        late_s = last_s = time.perf_counter()
        while True:
            time.sleep(BEAT_S)
            now_s = time.perf_counter()
            if now_s - last_s > BEAT_S + LATE_S:
                late_s = now_s
            last_s = now_s
            PULSE.pack_into(shared, 0, now_s, late_s)


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
        (folder / "pulse").write_bytes(bytes(PULSE.size))
        threading.Thread(target=pulse, args=(folder,), daemon=True).start()
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
