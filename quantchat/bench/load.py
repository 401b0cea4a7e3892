"""How fast a model is loaded beside what its files and the way to the device allow, and with what
memory.

Owns repeated loads in processes of their own: one that is not counted, which brings the files into
memory and packs what is kept packed, then those that are.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from quantchat.bench.remote import LAST_WORDS_BYTES, Remote
from quantchat.bench.stats import Summary, summarize
from quantchat.errors import EngineError

CHILD = (sys.executable, "-P", "-m", "quantchat.bench.one_load")


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadOptions:
    """What to load."""

    model: str
    shape: str
    """Random weights of a known shape in place of a model."""
    scheme: str
    device: str
    runs: int
    fresh: bool
    """Never from packed weights: they are removed before each load, which makes them again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """All loads of one model."""

    subject: str
    scheme: str
    device: str
    device_name: str
    weight_bytes: int
    from_packed: bool
    read_bytes: int
    """Of the tensors in the files that a load reads."""
    shard_bytes: int
    """Of the largest of those files."""
    cache_bytes_per_s: float
    """Reading those files again, in as many threads."""
    link_bytes_per_s: float | None
    """From page-locked memory to the card; None on the CPU."""
    weights_s: Summary
    """Reading, placing and, where nothing is packed, rounding."""
    total_s: Summary
    """With plan, tokenizer and warm-up."""
    phases_s: tuple[tuple[str, Summary], ...]
    kept_bytes: int
    """Memory of the host that is no file's and stays: on the CPU the model itself."""
    passing_bytes: int
    """The most that there was beside that while loading, of all runs."""

    @property
    def bytes_per_s(self) -> float:
        """Of files into weights."""
        return self.read_bytes / self.weights_s.median

    @property
    def share(self) -> float:
        """Of the slower of files and way."""
        slower = min(self.cache_bytes_per_s, self.link_bytes_per_s or float("inf"))
        return self.bytes_per_s / slower

    def as_record(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {**asdict(self), "bytes_per_s": self.bytes_per_s, "share": self.share}


def measure(options: LoadOptions, say: Callable[[str], None]) -> LoadReport:
    """Load `runs` times after one that is not counted. Raises QuantchatError where none succeeds."""
    request = {"model": options.model, "scheme": options.scheme, "device": options.device}
    if options.shape:
        say(f"a folder of {options.shape} with random weights")
        with Remote({"do": "folder", "shape": options.shape}) as remote:
            request["model"] = str(remote.answer()["folder"])
    say("a first load, not counted")
    _load(request, fresh=options.fresh)
    found = []
    for number in range(options.runs):
        say(f"load {number + 1} of {options.runs}")
        found.append(_load(request, fresh=options.fresh))
    return report_of(options.shape or options.model, found)


def report_of(subject: str, found: list[dict[str, Any]]) -> LoadReport:
    """What single loads tell together."""
    last = found[-1]
    names = [name for name, _ in last["phases"]]
    by_phase = {name: [dict(one["phases"]).get(name, 0.0) for one in found] for name in names}
    links = [one["link_bytes_per_s"] for one in found if one["link_bytes_per_s"] is not None]
    return LoadReport(
        subject=subject,
        scheme=last["scheme"],
        device=last["device"],
        device_name=last["device_name"],
        weight_bytes=last["weight_bytes"],
        from_packed=last["from_packed"],
        read_bytes=last["read_bytes"],
        shard_bytes=last["shard_bytes"],
        cache_bytes_per_s=max(one["cache_bytes_per_s"] for one in found),
        link_bytes_per_s=max(links, default=None),
        weights_s=summarize([one["weights_s"] for one in found]),
        total_s=summarize([one["total_s"] for one in found]),
        phases_s=tuple((name, summarize(values)) for name, values in by_phase.items()),
        kept_bytes=max(one["after_bytes"] - one["before_bytes"] for one in found),
        passing_bytes=max(
            one["peak_bytes"] - max(one["before_bytes"], one["after_bytes"]) for one in found
        ),
    )


def _load(request: dict[str, str], *, fresh: bool) -> dict[str, Any]:
    """One process that loads, and what it tells."""
    order = json.dumps({"request": request, "fresh": fresh})
    done = subprocess.run([*CHILD, order], capture_output=True, check=False)
    try:
        facts: dict[str, Any] = json.loads(done.stdout)
    except ValueError:
        words = done.stderr[-LAST_WORDS_BYTES:].decode("utf-8", "replace").strip()
        raise EngineError(f"the load ended with {done.returncode}", hint=words) from None
    if "message" in facts:
        raise EngineError(facts["message"], hint=facts["hint"])
    return facts
