"""A process that compiles kernels for its parent: jobs in, a line out for each.

Started by compiling.py; no card is touched, what is made goes to Triton's cache on disk.
"""

from __future__ import annotations

import os
import pickle
import sys
import types
from typing import Any

NICE = 5


class Nothing(types.ModuleType):
    """Stands where torch stands in modules of kernels: whatever is asked of it is there, and nothing."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return Nothing(name)

    def __call__(self, *args: Any, **words: Any) -> Any:
        return self

    def __getitem__(self, key: Any) -> Any:
        return self

    def __or__(self, other: Any) -> Any:
        return self

    __ror__ = __or__


def leave_torch_out() -> None:
    """Launches need torch, kernels do not, and a CUDA build takes seconds to import."""
    for name in ("torch", "torch.nn", "torch.nn.functional"):
        sys.modules[name] = Nothing(name)


def main() -> None:
    """Serve until the parent closes the pipe."""
    leave_torch_out()
    if hasattr(os, "nice"):
        os.nice(NICE)  # an answer may be under way
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
