"""Where compiled kernels are kept: in quantchat's own cache, so that a warm start compiles nothing."""

from __future__ import annotations

import os

from quantchat import paths

VARIABLE = "TRITON_CACHE_DIR"
"""Triton reads it whenever it looks for a kernel; a value of the user's own is left alone."""


def use_kernel_cache() -> None:
    """Have Triton keep what it compiles in the cache folder; before the first kernel is launched."""
    if not os.environ.get(VARIABLE):
        os.environ[VARIABLE] = str(paths.kernels_dir())
