"""Two loads that begin together on a card both get its ops."""

from __future__ import annotations

import subprocess
import sys

BOTH = """
import sys, threading
from types import SimpleNamespace
import torch
from quantchat.ops.select import make_ops

plan = SimpleNamespace(device="cuda", gpu_index=0, copy_dtype=None, triton=True)
said = []

def begin():
    try:
        make_ops(None, plan)
    except Exception as error:  # there is no card, which is found out behind the imports
        said.append(f"{type(error).__name__}: {error}")

threads = [threading.Thread(target=begin) for _ in range(2)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert "triton.runtime" in sys.modules and "quantchat.ops.triton_ops" in sys.modules, said
assert len(said) == 2 and said[0] == said[1], said
assert not any(word in said[0] for word in ("KeyError", "Deadlock", "Import")), said
"""


def test_two_threads_may_be_the_first_that_need_triton() -> None:
    done = subprocess.run([sys.executable, "-c", BOTH], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
