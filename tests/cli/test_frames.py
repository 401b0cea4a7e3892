"""That the app's frames may follow each other sooner than Textual's own."""

from __future__ import annotations

import os
import subprocess
import sys

OPENED = """
from click.testing import CliRunner
from quantchat.cli.chat import command
result = CliRunner().invoke(command)
from textual.screen import UPDATE_PERIOD
print(round(1 / UPDATE_PERIOD))
"""


def test_the_app_sets_the_rate_before_textual_reads_it() -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TEXTUAL_FPS"}
    for said, rate in (({}, "120"), ({"TEXTUAL_FPS": "30"}, "30")):
        done = subprocess.run(
            [sys.executable, "-c", OPENED],
            env={**environment, **said},
            capture_output=True,
            text=True,
            check=True,
            timeout=60,
        )
        assert done.stdout.split() == [rate]
