"""The recording of the README: `make recording`.

Drives the real app with the real starter model through `steps`, and writes one animated SVG.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from pathlib import Path

import click

from quantchat.errors import QuantchatError

OUT = Path(__file__).with_name("quantchat.svg")
LIMIT_BYTES = 1_500_000
TERMINAL = {"TERM": "xterm-256color", "TEXTUAL_COLOR_SYSTEM": "truecolor"}
"""Set before Textual is imported, which reads them then."""


async def record(out: Path, names: list[str]) -> None:
    """Film the named steps, all without names; raises QuantchatError where the film is too large."""
    from film import to_svg
    from stage import filmed, window_of
    from steps import SETTINGS, STEPS

    unknown = set(names) - {step.__name__ for step in STEPS}
    if unknown:
        raise QuantchatError(f"there is no step {unknown.pop()!r}")
    async with filmed(SETTINGS) as film:
        window = window_of(film.app)
        for step in STEPS:
            if not names or step.__name__ in names:
                click.echo(step.__name__, err=True)
                await step(film)
    drawn = to_svg(film.frames, window)
    out.write_text(drawn, encoding="utf-8")
    size_bytes = len(drawn.encode())
    length_s = film.frames[-1].at_s
    click.echo(f"{out}: {len(film.frames)} frames, {length_s:.0f} s, {size_bytes:,} bytes")
    if size_bytes > LIMIT_BYTES:
        raise QuantchatError(f"the recording is larger than {LIMIT_BYTES:,} bytes")


def main() -> None:
    """Record; one line says what went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("steps", nargs="*", help="only these, in the film's order")
    words = parser.parse_args()
    os.environ.update(TERMINAL)
    os.environ.pop("NO_COLOR", None)
    from stage import move_in

    with tempfile.TemporaryDirectory(prefix="quantchat-recording-") as home:
        try:
            move_in(Path(home))
            asyncio.run(record(words.out, words.steps))
        except (QuantchatError, TimeoutError) as error:
            sys.exit(f"recording: {error}")


if __name__ == "__main__":
    main()
