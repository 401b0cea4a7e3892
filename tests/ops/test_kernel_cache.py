"""Compiled kernels are kept in quantchat's cache, and a second process compiles nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from quantchat import paths
from quantchat.ops.kernel_cache import VARIABLE, use_kernel_cache

COMPILE = """
import sys
from quantchat.ops.kernel_cache import use_kernel_cache
use_kernel_cache()
from triton.backends.nvidia.compiler import CUDABackend
compiled = []
original = CUDABackend.make_cubin
CUDABackend.make_cubin = lambda *a, **k: (compiled.append(1), original(*a, **k))[1]
from quantchat.kernels.activation import variants
from ahead_of_time import _failure
variant = next(iter(variants.variants()))
assert _failure(variant, 90) is None
print(len(compiled))
"""


def test_a_folder_of_the_users_own_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "/of/my/own")
    use_kernel_cache()
    assert os.environ[VARIABLE] == "/of/my/own"


def test_the_default_is_in_the_cache(monkeypatch: pytest.MonkeyPatch, isolated_home: Path) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    monkeypatch.setenv("TRITON_HOME", "/never")
    use_kernel_cache()
    assert Path(os.environ[VARIABLE]) == paths.kernels_dir()
    assert isolated_home in paths.kernels_dir().parents
    del os.environ[VARIABLE]


@pytest.mark.skipif(sys.platform != "linux", reason="Triton is for Linux")
def test_a_second_process_compiles_nothing(tmp_path: Path) -> None:
    support = Path(__file__).resolve().parent.parent / "support"
    environ = {**os.environ, "PYTHONPATH": str(support), "QUANTCHAT_HOME": str(tmp_path)}
    environ.pop(VARIABLE, None)
    environ.pop("TRITON_INTERPRET", None)
    counts = [
        int(
            subprocess.run(
                [sys.executable, "-c", COMPILE],
                env=environ,
                cwd=tmp_path,
                capture_output=True,
                text=True,
                check=True,
            ).stdout
        )
        for _ in range(2)
    ]
    assert counts == [1, 0]
    assert list((tmp_path / "cache" / "kernels").rglob("*.cubin"))
