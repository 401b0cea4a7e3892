"""A process that compiles kernels for its parent: jobs in, a line out for each.

Started by compiling.py; no card is touched, what is made goes to Triton's cache on disk.
"""

from __future__ import annotations

import os
import pickle
import sys


def main() -> None:
    """Serve until the parent closes the pipe."""
    answers = os.fdopen(os.dup(1), "wb", buffering=0)
    # Compilers print what they like; the answers go where they cannot.
    os.dup2(2, 1)
    orders = sys.stdin.buffer
    while True:
        try:
            job = pickle.load(orders)
        except EOFError:
            return
        try:
            job.compile()
        except Exception as error:  # the parent meets it again where it can be explained
            answers.write(f"{type(error).__name__}\n".encode())
        else:
            answers.write(b"\n")


if __name__ == "__main__":
    main()
