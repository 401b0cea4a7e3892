"""The probe on the machine that runs the tests, and how versions are read."""

from __future__ import annotations

import sys
import time
from importlib import metadata

import pytest

from quantchat.hardware.probe import cuda_of, probe, read_software


def test_probe_reads_this_machine() -> None:
    facts = probe()
    assert facts.cpu.physical_cores >= 1
    assert facts.cpu.name
    assert facts.gpus or facts.notes
    assert facts.software.torch == metadata.version("torch")
    assert facts.software.python.startswith(f"{sys.version_info.major}.")


def test_probe_is_quick() -> None:
    probe()
    times = []
    for _ in range(3):
        start_s = time.thread_time()
        probe()
        times.append(time.thread_time() - start_s)
    assert min(times) < 0.5, "it is asked on the way to the first picture"


def test_what_is_not_installed_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    software = read_software()
    assert (software.torch, software.torch_cuda, software.triton) == (None, None, None)


def test_without_nvml_bindings_there_is_a_note(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    facts = probe()
    assert facts.gpus == ()
    assert facts.notes


@pytest.mark.parametrize(
    ("text", "cuda"),
    [
        ("cuda: Optional[str] = '13.0'\n", "13.0"),
        ('__version__ = "2.11.0+cu126"\ncuda = "12.6"\n', "12.6"),
        ("cuda: Optional[str] = None\n", None),
        ("# cuda = '1.0'\nhip = '6.4'\n", None),
        ("", None),
    ],
)
def test_the_cuda_version_stands_in_torchs_version_file(text: str, cuda: str | None) -> None:
    assert cuda_of(text) == cuda
