"""One load as the app does it, watched: `python -m quantchat.bench.one_load`.

Takes a LoadRequest as JSON and prints what was read, how long it took and the host's memory
meanwhile. A process of its own, so that nothing of an earlier load is left.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterable
from io import FileIO
from pathlib import Path
from typing import Any

import psutil
import torch

from quantchat import paths
from quantchat.engine.load_job import LoadJob
from quantchat.engine.loading import load_model
from quantchat.engine.read_ahead import files_of
from quantchat.engine.session import SWITCH_INTERVAL_S
from quantchat.engine.sharing import SharedDecoders
from quantchat.errors import QuantchatError
from quantchat.events import LoadPhase
from quantchat.hardware.probe import probe
from quantchat.hub.local import resolve
from quantchat.model.families import open_model
from quantchat.model.upload import MOST_THREADS, PIECE_BYTES
from quantchat.requests import LoadRequest

STATUS = Path("/proc/self/status")
SAMPLE_S = 0.004
CACHE_BYTES = 4 << 30
"""Read at most, to know how fast files in memory are read."""
COPY_BYTES = 256 << 20
COPIES = 5


def main() -> None:
    """Print the record of one load as JSON; exit code 1 with a message where it fails."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    try:
        order = json.loads(sys.argv[1])
        answers.write(json.dumps(watched(LoadRequest(**order["request"]), fresh=order["fresh"])))
    except QuantchatError as error:
        answers.write(json.dumps({"message": error.message, "hint": error.hint}))
        answers.flush()
        sys.exit(1)
    answers.flush()


def watched(request: LoadRequest, *, fresh: bool) -> dict[str, Any]:
    """Load and tell; `fresh`: not from packed weights, which are made again."""
    files = files_of(request, probe())
    packed = [file for file in files if file.parent == paths.packed_dir()]
    if fresh and packed:
        for file in packed:
            file.unlink(missing_ok=True)
        files, packed = files_of(request, probe()), []
    on_card = request.device != "cpu" and torch.cuda.is_available()
    cache_rate = _cache_bytes_per_s(files)
    link_rate = _link_bytes_per_s() if on_card else None
    clock = _Clock(on_card)
    job = LoadJob(load_id=0, request=request, emit=lambda event: None)

    def report(phase: LoadPhase, done: int, total: int, detail: str) -> None:
        job.report(phase, done, total, detail)
        clock.take(phase, done, total)

    # As the engine's thread does.
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    with HostMemory() as memory:
        began_s = time.perf_counter()
        model = load_model(request, report, lambda: False, SharedDecoders.empty())
        total_s = time.perf_counter() - began_s
    read_bytes = sum(file.stat().st_size for file in packed) or _tensor_bytes(request)
    return {
        "scheme": model.info.scheme_detail,
        "device": model.info.device,
        "device_name": model.info.device_name,
        "weight_bytes": model.info.weight_bytes,
        "from_packed": bool(packed),
        "reasons": model.info.reasons,
        "read_bytes": read_bytes,
        "shard_bytes": max(file.stat().st_size for file in files),
        "cache_bytes_per_s": cache_rate,
        "link_bytes_per_s": link_rate,
        "weights_s": clock.weights_s,
        "total_s": total_s,
        "phases": [[phase, seconds] for phase, seconds in job.phases()],
        "before_bytes": memory.before_bytes,
        "peak_bytes": memory.peak_bytes,
        "after_bytes": memory.after_bytes,
    }


class _Clock:
    """Seconds from the first report of weights to the last one."""

    def __init__(self, on_card: bool) -> None:
        self._on_card = on_card
        self._began_s: float | None = None
        self.weights_s = 0.0

    def take(self, phase: LoadPhase, done: int, total: int) -> None:
        """A report of the load."""
        if phase in ("compile", "warm") or not total:
            return
        if self._began_s is None:
            self._began_s = time.perf_counter()
        if done == total:
            if self._on_card:
                torch.cuda.synchronize()
            self.weights_s = time.perf_counter() - self._began_s


class HostMemory:
    """Memory of this process that is no file's, sampled by a thread; the peak while it is open."""

    def __init__(self) -> None:
        self.before_bytes = self.peak_bytes = self.after_bytes = 0
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="host-memory", daemon=True)

    def __enter__(self) -> HostMemory:
        self.before_bytes = self.peak_bytes = own_bytes()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()
        self.after_bytes = own_bytes()
        self.peak_bytes = max(self.peak_bytes, self.after_bytes)

    def _watch(self) -> None:
        while not self._over.wait(SAMPLE_S):
            self.peak_bytes = max(self.peak_bytes, own_bytes())


def own_bytes() -> int:
    """Memory that is no file's, where the system parts the two; else all that is resident."""
    if sys.platform == "linux":
        for line in STATUS.read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
    return int(psutil.Process().memory_info().rss)


def _tensor_bytes(request: LoadRequest) -> int:
    """Of the tensors that a load reads of a model's own files."""
    source = open_model(resolve(request.model).path)
    try:
        names = set(source.names.values()) or set(source.checkpoint.tensors)
        return sum(source.checkpoint.tensors[name].nbytes for name in names)
    finally:
        source.close()


def _cache_bytes_per_s(files: Iterable[Path]) -> float:
    """How fast files are read a second time, in as many threads as a load has; best of two."""
    pieces = [
        (file, start)
        for file in files
        for start in range(0, file.stat().st_size - PIECE_BYTES, PIECE_BYTES)
    ][: CACHE_BYTES // PIECE_BYTES]
    if not pieces:
        pieces = [(file, 0) for file in files]
    threads = min(MOST_THREADS, os.cpu_count() or 1)
    buffers = [bytearray(PIECE_BYTES) for _ in range(threads)]
    rates = []
    for _ in range(3):
        counts = [0] * threads

        def read(number: int, counts: list[int] = counts) -> None:
            for file, start in pieces[number::threads]:
                with FileIO(file) as opened:
                    opened.seek(start)
                    counts[number] += opened.readinto(buffers[number]) or 0

        crew = [threading.Thread(target=read, args=(number,)) for number in range(threads)]
        began_s = time.perf_counter()
        for thread in crew:
            thread.start()
        for thread in crew:
            thread.join()
        rates.append(sum(counts) / (time.perf_counter() - began_s))
    # The first reading fetches from the disk what was not in memory.
    return max(rates[1:])


def _link_bytes_per_s() -> float:
    """From page-locked memory to the card; best of some copies."""
    source = torch.empty(COPY_BYTES, dtype=torch.uint8).pin_memory()
    target = torch.empty(COPY_BYTES, dtype=torch.uint8, device="cuda")
    rates = []
    for _ in range(COPIES):
        torch.cuda.synchronize()
        began_s = time.perf_counter()
        target.copy_(source, non_blocking=True)
        torch.cuda.synchronize()
        rates.append(COPY_BYTES / (time.perf_counter() - began_s))
    return max(rates)


if __name__ == "__main__":
    main()
