"""Read the machine: cards, processor, software. Reads only, in well under 150 ms.

Owns putting the parts together; imports neither torch nor CUDA, versions come from the metadata
of what is installed.
"""

from __future__ import annotations

import os
import platform
import re
import sys
from importlib import metadata

from quantchat.hardware.facts import Facts, GpuFacts, SoftwareFacts
from quantchat.hardware.nvml import read_gpus
from quantchat.hardware.processor import read_cpu


def probe() -> Facts:
    """The machine as it is now; never raises for what is missing, `notes` say it."""
    cpu = read_cpu()
    gpus: tuple[GpuFacts, ...] = ()
    try:
        import pynvml
    except ImportError:
        notes: tuple[str, ...] = (
            ("macOS has no CUDA cards",)
            if sys.platform == "darwin"
            else ("nvidia-ml-py is not installed: no card can be seen",)
        )
    else:
        gpus, notes = read_gpus(
            pynvml,
            os.environ,
            ram_total_bytes=cpu.ram_total_bytes,
            ram_free_bytes=cpu.ram_free_bytes,
        )
    return Facts(gpus=gpus, cpu=cpu, software=read_software(), notes=notes)


def read_software() -> SoftwareFacts:
    """Versions of what the plan and a bug report care about."""
    torch = installed_version("torch")
    return SoftwareFacts(
        python=platform.python_version(),
        system=f"{platform.system()} {platform.machine()}",
        torch=torch,
        torch_cuda=None if torch is None else _torch_cuda(),
        triton=installed_version("triton"),
        transformers=installed_version("transformers"),
        textual=installed_version("textual"),
    )


def installed_version(package: str) -> str | None:
    """Version of an installed package; None for what is not there."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def _torch_cuda() -> str | None:
    """CUDA version in torch's generated version file, read as text."""
    try:
        path = metadata.distribution("torch").locate_file("torch/version.py")
        with open(str(path), encoding="utf-8") as file:
            return cuda_of(file.read(65536))
    except (OSError, metadata.PackageNotFoundError):
        return None


def cuda_of(version_file: str) -> str | None:
    """The value of `cuda` in the text of torch/version.py; None in a build without it."""
    match = re.search(r"^cuda\b[^=\n]*=\s*['\"]([0-9.]+)['\"]", version_file, re.MULTILINE)
    return match.group(1) if match else None
