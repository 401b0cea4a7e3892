"""Damage model files a hundred thousand times: `fuzz.py --inputs 100000`.

Exit code 1 where an input raised what is no error of ours, took more memory than twice its size and
its kind's room, or longer than a second. `--kind KIND --only N` runs one input alone, its files left behind.
"""

from __future__ import annotations

import argparse
import contextlib
import faulthandler
import gc
import logging
import os
import shutil
import sys
import tempfile
import time
import traceback
import tracemalloc
import warnings
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "support"))

import fuzz_kinds
import torch
from fuzz_kinds import KINDS
from fuzz_measure import Outcome, lay, run

MOST_S = 1.0
HANG_S = 60
SHOWN = 20


@dataclass(slots=True)
class Tally:
    """What the inputs of one kind did."""

    results: Counter[str] = field(default_factory=Counter)
    worst_s: float = 0.0
    worst_cpu_s: float = 0.0
    slowest: int = 0
    worst_over: int = -(1 << 60)
    largest: int = 0
    worst_resident: int = 0
    most_resident: int = 0
    spent_s: float = 0.0
    faults: list[str] = field(default_factory=list)
    slow: list[str] = field(default_factory=list)
    """Inputs beyond MOST_S, by this thread's time."""

    def add(self, number: int, outcome: Outcome, room_bytes: int) -> None:
        """Count one in."""
        self.results[outcome.result] += 1
        self.spent_s += outcome.seconds
        self.worst_s = max(self.worst_s, outcome.seconds)
        if outcome.cpu_seconds > self.worst_cpu_s:
            self.worst_cpu_s, self.slowest = outcome.cpu_seconds, number
        if outcome.over > self.worst_over:
            self.worst_over, self.largest = outcome.over, number
        if outcome.resident_bytes is not None and outcome.resident_bytes > self.worst_resident:
            self.worst_resident, self.most_resident = outcome.resident_bytes, number
        if outcome.wrong:
            self.faults.append(f"{number}: {outcome.wrong}")
        if outcome.over > room_bytes:
            self.faults.append(
                f"{number}: {outcome.peak_bytes:,} bytes for {outcome.size:,} ({outcome.result})"
            )
        if outcome.cpu_seconds > MOST_S:
            self.slow.append(f"{number}: {outcome.cpu_seconds:.2f} s ({outcome.result})")


def in_memory() -> Path | None:
    """Where files are in memory, if there is such a place."""
    return Path("/dev/shm") if os.access("/dev/shm", os.W_OK) else None


def random_for(kind: str, seed: int, number: int) -> Random:
    """What an input is made from."""
    return Random(f"{kind}/{seed}/{number}")


def main() -> int:
    """Run the inputs; 1 where something is wrong."""
    options = _options()
    torch.set_num_threads(1)
    faulthandler.enable()
    warnings.simplefilter("ignore")
    logging.disable()
    folder = Path(tempfile.mkdtemp(prefix="quantchat-fuzz-", dir=in_memory()))
    os.environ["RUST_BACKTRACE"] = "0"
    if options.only is not None:
        return _one(options.kind, options.seed, options.only, folder / "input")
    started = time.perf_counter()
    tallies = {}
    tracemalloc.start()
    for name in KINDS if options.kind is None else [options.kind]:
        count = options.inputs
        if options.kind is None:
            count = options.inputs * KINDS[name].share // 100
        tallies[name] = many(name, options.seed, count, folder / "input", watched=True)
        _say(name, tallies[name])
    shutil.rmtree(folder)
    total = sum(tally.results.total() for tally in tallies.values())
    faults = sum(len(tally.faults) + len(tally.slow) for tally in tallies.values())
    sys.stdout.write(f"{total} inputs in {time.perf_counter() - started:.0f} s, {faults} faults\n")
    return 1 if faults else 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Damage model files and see what their readers do."
    )
    parser.add_argument("--inputs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--kind", choices=list(KINDS))
    parser.add_argument("--only", type=int, help="the number of one input of --kind")
    return parser.parse_args()


def many(name: str, seed: int, count: int, folder: Path, *, watched: bool = False) -> Tally:
    """The first `count` inputs of a kind; `watched`: one that hangs ends the process, its files left."""
    kind, tally = KINDS[name], Tally()
    with contextlib.suppress(Exception):  # imports are paid for here
        run(KINDS["files beside it"], fuzz_kinds.sound_tokenizer(), folder)
        run(kind, kind.make(random_for(name, seed, count)), folder)
    for number in range(count):
        if number % 2000 == 0:
            gc.collect()
        files = kind.make(random_for(name, seed, number))
        if watched:
            (folder.parent / "number").write_text(f"{name} {number}\n")
            faulthandler.dump_traceback_later(HANG_S, exit=True)
        outcome = run(kind, files, folder)
        if watched:
            faulthandler.cancel_dump_traceback_later()
        tally.add(number, outcome, kind.room_bytes)
    return tally


def _one(name: str, seed: int, number: int, folder: Path) -> int:
    kind = KINDS[name]
    files = kind.make(random_for(name, seed, number))
    lay(files, folder)
    sys.stdout.write(f"{folder}\n")
    try:
        kind.use(folder)
    except BaseException:
        traceback.print_exc()
        return 1
    return 0


def _say(name: str, tally: Tally) -> None:
    write = sys.stdout.write
    results = ", ".join(f"{count} {result}" for result, count in tally.results.most_common())
    write(f"{name}: {tally.results.total()} inputs, {results}\n")
    write(
        f"  worst {tally.worst_s:.3f} s, CPU {tally.worst_cpu_s:.3f} s (input {tally.slowest}); "
        f"peak {tally.worst_over:+,} bytes over twice the size (input {tally.largest}); "
        f"resident {tally.worst_resident:,} (input {tally.most_resident}); {tally.spent_s:.0f} s\n"
    )
    faults = tally.faults + tally.slow
    kinds = Counter(fault.partition(": ")[2][:60] for fault in faults)
    for fault, count in kinds.most_common(SHOWN):
        example = next(line for line in faults if fault in line)
        write(f"  FAULT x{count}: input {example}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
