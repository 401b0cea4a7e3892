"""Launches that are noted in place of being made, so that their kernels can be compiled elsewhere.

One kernel takes Triton most of a second and keeps other threads from running meanwhile; a process of
its own fills the cache on disk as well. Owns what such a process is told; which is none of its affair.
"""

from __future__ import annotations

import hashlib
import importlib
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from triton._C.libtriton import get_cache_invalidating_env_vars
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from triton.compiler import compile as triton_compile
from triton.experimental.gluon._runtime import GluonASTSource
from triton.runtime.cache import get_cache_key, get_cache_manager
from triton.runtime.jit import JITFunction


@dataclass(frozen=True, slots=True, kw_only=True)
class KernelJob:
    """A kernel with everything that it is compiled for; can be pickled."""

    module: str
    name: str
    signature: dict[str, Any]
    constants: dict[Any, Any]
    attributes: dict[Any, Any]
    options: dict[str, Any]
    target: tuple[str, Any, int]
    """Triton's name of the back end, the SM version, threads of a warp."""

    def compile(self) -> Any:
        """Triton's compiled kernel, left in its cache on disk too; raises what the compiler raises."""
        kernel = getattr(importlib.import_module(self.module), self.name)
        settle(kernel)
        made = GluonASTSource if kernel.is_gluon() else ASTSource
        source = made(kernel, self.signature, self.constants, self.attributes)
        return triton_compile(source, target=GPUTarget(*self.target), options=self.options)


@dataclass(slots=True)
class _Notes:
    jobs: list[KernelJob] = field(default_factory=list)
    seen: set[tuple[int, object]] = field(default_factory=set)


_notes: ContextVar[_Notes | None] = ContextVar("kernels_noted", default=None)
_installing = threading.Lock()
_installed = False


def settle(kernel: Any) -> None:
    """Name a kernel behind all that it calls.

    Triton 3.6 names it by the globals of callees that have a name already: the order in which kernels
    are launched would tell processes apart that share a cache.
    """
    if kernel.hash is not None:
        return
    for name in kernel.fn.__code__.co_names:
        part = kernel.fn.__globals__.get(name)
        if isinstance(part, JITFunction) and part is not kernel:
            settle(part)
    _ = kernel.cache_key


def is_noting() -> bool:
    """Whether this thread's launches are noted at present."""
    return _notes.get() is not None


@contextmanager
def noting() -> Iterator[list[KernelJob]]:
    """This thread launches nothing; the list has, in the end, the kernels that are compiled nowhere.

    Results of launches are what was in memory.
    """
    install()
    notes = _Notes()
    token = _notes.set(notes)
    try:
        yield notes.jobs
    finally:
        _notes.reset(token)


def install() -> None:
    """Have Triton ask here before it launches or compiles; for good."""
    global _installed
    with _installing:
        if _installed:
            return
        launched, compiled = JITFunction.__getitem__, JITFunction._do_compile

        def launch_or_note(self: Any, grid: Any) -> Any:
            settle(self)
            if _notes.get() is None:
                return launched(self, grid)
            return lambda *args, **kwargs: self.run(*args, grid=grid, warmup=True, **kwargs)

        def compile_or_note(self: Any, key: Any, *args: Any, **kwargs: Any) -> Any:
            notes = _notes.get()
            if notes is None:
                return compiled(self, key, *args, **kwargs)
            if (id(self), key) not in notes.seen:
                notes.seen.add((id(self), key))
                _note(notes, self, *args, **kwargs)
            return None

        JITFunction.__getitem__ = launch_or_note
        JITFunction._do_compile = compile_or_note
        _installed = True


def _note(
    notes: _Notes,
    kernel: Any,
    signature: dict[str, Any],
    device: int,
    constants: dict[Any, Any],
    options: Any,
    attributes: dict[Any, Any],
    warmup: bool,
) -> None:
    _, _, target, backend, _ = kernel.device_caches[device]
    source = kernel.ASTSource(kernel, signature, constants, attributes)
    key = get_cache_key(source, backend, options, get_cache_invalidating_env_vars())
    stored = get_cache_manager(hashlib.sha256(key.encode()).hexdigest())
    file = f"{source.name[:150]}.json"
    if (stored.get_group(file) or {}).get(file) is not None:
        return
    notes.jobs.append(
        KernelJob(
            module=kernel.fn.__module__,
            name=kernel.fn.__name__,
            signature=dict(signature),
            constants=dict(constants),
            attributes=dict(attributes),
            options=dict(options.__dict__),
            target=(target.backend, target.arch, target.warp_size),
        )
    )
