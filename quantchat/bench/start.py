"""From the start of a process to the first token of an answer, in phases.

Owns repeated starts of the engine in processes of their own: one that is not counted, which leaves
packed weights and compiled kernels on disk, then those that find them there.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from quantchat import paths
from quantchat.bench.remote import LAST_WORDS_BYTES, Remote
from quantchat.bench.stats import Summary, summarize
from quantchat.errors import EngineError, PlanError
from quantchat.hub.local import resolve

CHILD = (sys.executable, "-P", "-m", "quantchat.bench.first_token")
MODEL_FILES = ("*.gguf", "*.safetensors")


@dataclass(frozen=True, slots=True, kw_only=True)
class StartOptions:
    """What to start."""

    model: str
    shape: str
    scheme: str
    kv: str
    device: str
    runs: int
    cold_files: bool
    """Drop the weights from the system's file cache before every start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Start:
    """One start, in seconds; the phases add up to the total."""

    total_s: float
    phases: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class StartReport:
    """All starts."""

    subject: str
    scheme: str
    kv: str
    device_name: str
    weight_bytes: int
    prompt_tokens: int
    from_packed: bool
    cold_files: bool
    first: Start
    """The one that may have had to round and to compile; not in the figures."""
    starts: tuple[Start, ...]
    total_s: Summary
    phases_s: tuple[tuple[str, Summary], ...]

    def as_record(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return asdict(self)


def measure(options: StartOptions, say: Callable[[str], None]) -> StartReport:
    """Start `runs` times after one that is not counted. Raises QuantchatError where none answers."""
    if options.cold_files and not hasattr(os, "posix_fadvise"):
        raise PlanError(
            "this system cannot drop files from its cache", hint="leave out --cold-files"
        )
    request = {
        "model": options.model,
        "scheme": options.scheme,
        "kv": options.kv,
        "device": options.device,
    }
    if options.shape:
        say(f"random weights of {options.shape} into the packed cache")
        request["model"] = _prepared(options.shape, request)
    say("a first start, not counted")
    first, _ = _start(request)
    starts: list[Start] = []
    facts: dict[str, Any] = {}
    for number in range(options.runs):
        say(f"start {number + 1} of {options.runs}")
        if options.cold_files:
            _forget_files(_weight_files(request["model"]))
        found, facts = _start(request)
        starts.append(found)
    names = [name for name, _ in starts[0].phases]
    by_phase = {name: [dict(start.phases)[name] for start in starts] for name in names}
    return StartReport(
        subject=options.shape or options.model,
        scheme=facts["scheme"],
        kv=facts["kv"],
        device_name=facts["device_name"],
        weight_bytes=facts["weight_bytes"],
        prompt_tokens=facts["prompt_tokens"],
        from_packed=any("from the cache" in reason for reason in facts["reasons"]),
        cold_files=options.cold_files,
        first=first,
        starts=tuple(starts),
        total_s=summarize([start.total_s for start in starts]),
        phases_s=tuple((name, summarize(values)) for name, values in by_phase.items()),
    )


def _prepared(shape: str, request: dict[str, str]) -> str:
    """The folder of a shape, its packed weights there; made in a process that is gone after."""
    with Remote({"do": "pack", "shape": shape, "request": request}) as remote:
        return str(remote.answer()["folder"])


def _start(request: dict[str, str]) -> tuple[Start, dict[str, Any]]:
    """One process from its creation to its first token, and what it says of itself."""
    began_s = time.perf_counter()
    done = subprocess.run([*CHILD, json.dumps(request)], capture_output=True, check=False)
    try:
        facts: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        words = done.stderr[-LAST_WORDS_BYTES:].decode("utf-8", "replace").strip()
        raise EngineError(f"the start ended with {done.returncode}", hint=words) from None
    if "message" in facts:
        raise EngineError(facts["message"], hint=facts["hint"])
    return start_of(began_s, facts), facts


def start_of(began_s: float, facts: dict[str, Any]) -> Start:
    """The phases of one start; all processes of a machine share the clock of perf_counter."""
    phases: list[tuple[str, float]] = [
        ("interpreter", facts["main_s"] - began_s),
        ("app imports", facts["asked_s"] - facts["main_s"]),
    ]
    phases += [(str(name), float(seconds)) for name, seconds in facts["phases"]]
    known_s = sum(seconds for _, seconds in facts["phases"])
    phases += [
        ("hand over", max(0.0, facts["loaded_s"] - facts["asked_s"] - known_s)),
        ("template", facts["started_s"] - facts["loaded_s"]),
        ("prefill", facts["token_s"] - facts["started_s"]),
    ]
    return Start(total_s=facts["token_s"] - began_s, phases=tuple(phases))


def _weight_files(model: str) -> list[Path]:
    """The model's files and every packed one."""
    path = resolve(model).path
    own = [path] if path.is_file() else [file for glob in MODEL_FILES for file in path.glob(glob)]
    return [*own, *paths.packed_dir().glob("*.safetensors")]


def _forget_files(files: Iterable[Path]) -> None:
    """Ask the system to keep none of their pages."""
    for file in files:
        handle = os.open(file, os.O_RDONLY)
        try:
            os.fsync(handle)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(handle)
