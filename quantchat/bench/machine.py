"""Where a benchmark ran: machine, versions, commit and how busy it was, for the record."""

from __future__ import annotations

import os
import subprocess
from dataclasses import asdict
from pathlib import Path
from typing import Any

from quantchat import __version__
from quantchat.hardware.facts import Facts
from quantchat.hardware.probe import installed_version

PEER_PACKAGES = ("transformers", "xllamacpp")


def machine_record(facts: Facts) -> dict[str, Any]:
    """Plain values for JSON."""
    cpu = asdict(facts.cpu)
    cpu["isa"] = sorted(facts.cpu.isa)
    return {
        "gpus": [asdict(gpu) for gpu in facts.gpus],
        "cpu": cpu,
        "software": {
            **asdict(facts.software),
            "quantchat": __version__,
            **{name: installed_version(name) for name in PEER_PACKAGES},
        },
        "commit": commit(),
        "load_1m": load_1m(),
    }


def machine_line(facts: Facts, device: str, threads: int) -> str:
    """Device and versions in a line."""
    software = facts.software
    versions = f"torch {software.torch}, Python {software.python}, {software.system}"
    if device == "cuda" and facts.gpus:
        gpu = facts.gpus[0]
        return f"{gpu.name} (SM {gpu.sm}), driver {gpu.driver}, {versions}"
    cpu = facts.cpu
    return f"{cpu.name}, {threads} of {cpu.physical_cores} cores, {versions}"


def load_1m() -> float | None:
    """Mean number of running processes over the last minute, where the system tells."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):
        return None


def commit() -> str | None:
    """Commit of the checkout that the code runs from, "+" where files differ; None elsewhere."""
    root = Path(__file__).resolve().parents[2]
    if not (root / ".git").exists():
        return None
    head = _git(root, "rev-parse", "--short=12", "HEAD")
    if head is None:
        return None
    return head + ("+" if _git(root, "status", "--porcelain", "--untracked-files=no") else "")


def _git(root: Path, *words: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", "-C", str(root), *words], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
