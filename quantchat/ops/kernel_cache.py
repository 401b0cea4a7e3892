"""Where compiled kernels are kept: in quantchat's own cache, so that a warm start compiles nothing."""

from __future__ import annotations

import contextlib
import os

from quantchat import paths

VARIABLE = "TRITON_CACHE_DIR"
"""Triton reads it whenever it looks for a kernel; a value of the user's own is left alone."""


def use_kernel_cache() -> None:
    """Have Triton keep what it compiles in the cache folder; before the first kernel is launched."""
    if not os.environ.get(VARIABLE):
        os.environ[VARIABLE] = str(paths.kernels_dir())


def import_compiler() -> None:
    """Import Triton before several threads do: each would find half of it."""
    import triton.backends.nvidia.compiler
    import triton.runtime.cache  # noqa: F401  what learn_compiler takes


def learn_compiler(gpu_index: int) -> None:
    """Know what the compilers are, which is part of every kernel's name in the cache.

    Triton reads hundreds of MB of itself for that, once in a process; a thread can do so beside
    others. What fails shows again where a kernel is launched.
    """
    with contextlib.suppress(Exception):
        import torch
        from triton.backends.nvidia.compiler import get_ptxas_version
        from triton.runtime.cache import triton_key

        triton_key()
        major, minor = torch.cuda.get_device_capability(gpu_index)
        get_ptxas_version(10 * major + minor)
