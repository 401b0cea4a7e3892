"""Kernels are compiled by processes beside before anything is launched; no card is needed."""

from __future__ import annotations

import pickle
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch

pytest.importorskip("triton")


class Card:
    """Triton's driver of a card that is not there."""

    def get_current_device(self) -> int:
        return 77

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> object:
        from triton.backends.compiler import GPUTarget

        return GPUTarget("cuda", 90, 32)


@pytest.fixture(autouse=True)
def card(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    from triton.runtime.driver import driver

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(driver, "_active", Card())
    yield


def normed(columns: int) -> None:
    from quantchat.kernels.norm.rows import norm_rows

    x = torch.zeros(3, columns, dtype=torch.float16)
    norm_rows(x, torch.ones(columns, dtype=torch.float16), 1e-5)


def test_what_is_noted_is_compiled_beside_and_then_known(monkeypatch: pytest.MonkeyPatch) -> None:
    from quantchat.ops import compiling

    with compiling.noting() as jobs:
        for columns in (64, 64, 4096):
            normed(columns)
    assert len(jobs) == 2 and pickle.loads(pickle.dumps(jobs)) == jobs
    unknown = replace(jobs[0], name="nothing_of_that_name")
    monkeypatch.setattr(compiling, "FEWEST_JOBS", 1)
    monkeypatch.setattr(compiling, "MOST_WORKERS", 1)
    told: list[int] = []
    compiling.compile_kernels([unknown, *jobs], done=told.append, cancelled=lambda: False)
    assert told == [1, 2, 3]
    with compiling.noting() as left:
        for columns in (64, 4096):
            normed(columns)
    assert not left


def test_few_kernels_start_no_process_and_a_stopped_load_compiles_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from quantchat.ops import compiling

    with compiling.noting() as jobs:
        normed(128)
    assert len(jobs) == 1
    started: list[object] = []
    real = compiling.subprocess.Popen
    monkeypatch.setattr(
        compiling.subprocess,
        "Popen",
        lambda *args, **words: started.append(args) or real(*args, **words),
    )
    told: list[int] = []
    compiling.compile_kernels(jobs, done=told.append, cancelled=lambda: False)
    assert not started and not told
    compiling.compile_kernels(
        jobs * compiling.FEWEST_JOBS, done=told.append, cancelled=lambda: True
    )
    assert started and not told


def test_a_process_that_cannot_start_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    from quantchat.ops import compiling

    with compiling.noting() as jobs:
        normed(256)
    told: list[int] = []
    for worker in (("/nowhere/python",), ("/bin/false",)):
        monkeypatch.setattr(compiling, "WORKER", worker)
        compiling.compile_kernels(
            jobs * compiling.FEWEST_JOBS, done=told.append, cancelled=lambda: False
        )
    assert not told


def test_modules_of_kernels_are_imported_without_torch() -> None:
    code = (
        "from quantchat.ops.compile_worker import leave_torch_out; leave_torch_out()\n"
        "import importlib, pkgutil, sys, quantchat.kernels as kernels\n"
        "for module in pkgutil.walk_packages(kernels.__path__, 'quantchat.kernels.'):\n"
        "    importlib.import_module(module.name)\n"
        "assert len([name for name in sys.modules if name.startswith('torch')]) == 3\n"
    )
    subprocess.run([sys.executable, "-P", "-c", code], check=True)


def test_other_threads_launch_meanwhile() -> None:
    from quantchat.kernels._ahead import is_noting, noting

    seen: list[bool] = []
    with noting():
        assert is_noting()
        other = threading.Thread(target=lambda: seen.append(is_noting()))
        other.start()
        other.join()
    assert seen == [False] and not is_noting()
