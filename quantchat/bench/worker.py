"""The process of one engine: `python -m quantchat.bench.worker`, JSON lines in and out.

One process each, so that thread pools, caches and peak memory of engines stay apart; between its
runs it waits for a line and uses no CPU. The first line is the job.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any, TextIO

from quantchat.bench.contest import BenchEngine, Job
from quantchat.errors import QuantchatError


def main() -> None:
    """Serve one parent until it closes the pipe."""
    # Libraries print to stdout; the answers go where they cannot.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    serve(sys.stdin, answers)


def serve(orders: TextIO, answers: TextIO) -> None:
    """Load what the first line says, then carry out one order a line."""

    def say(**fields: Any) -> None:
        answers.write(json.dumps(fields) + "\n")
        answers.flush()

    def fail(error: Exception) -> None:
        if isinstance(error, QuantchatError):
            say(ok=False, message=error.message, hint=error.hint)
        else:
            say(ok=False, message=f"{type(error).__name__}: {str(error)[:400]}", hint="")

    first = json.loads(orders.readline())
    try:
        if first["do"] == "ceilings":
            from quantchat.bench.ceilings import measure

            say(ok=True, ceilings=asdict(measure(first["device"], first["threads"])))
            return
        if first["do"] == "kernels":
            from quantchat.bench.kernel_gate import check
            from quantchat.bench.kernel_scope import Scope

            parts = first["parts"]
            scope = Scope(
                dtypes=tuple(first["dtypes"]), parts=None if parts is None else frozenset(parts)
            )
            say(ok=True, gate=asdict(check(scope, first["share"], first["shares"])))
            return
        if first["do"] == "folder":
            from quantchat.bench.random_folder import filled_folder

            say(ok=True, folder=str(filled_folder(first["shape"])))
            return
        if first["do"] == "pack":
            from quantchat.bench.random_folder import fill_packed, random_folder
            from quantchat.requests import LoadRequest

            folder = str(random_folder(first["shape"]))
            fill_packed(first["shape"], LoadRequest(**{**first["request"], "model": folder}))
            say(ok=True, folder=folder)
            return
        from quantchat.bench.memory import forget_peak

        engine = ENGINES[first["job"]["kind"]](Job.from_json(first["job"]))
        forget_peak(engine.facts.device)
        say(ok=True, facts=asdict(engine.facts))
    except Exception as error:
        fail(error)
        return
    for line in orders:
        try:
            say(ok=True, **_obey(engine, json.loads(line)))
        except Exception as error:  # one case may be too much for an engine that does the others
            fail(error)


def _obey(engine: BenchEngine, order: dict[str, Any]) -> dict[str, Any]:
    if order["do"] == "peak":
        return {"peak_bytes": engine.peak_bytes()}
    return {"times": asdict(engine.run(order["prompt"], order["tokens"], order["rows"]))}


def _own(job: Job) -> BenchEngine:
    import torch

    from quantchat.bench.own import OwnEngine

    torch.inference_mode().__enter__()
    return OwnEngine(job)


def _transformers(job: Job) -> BenchEngine:
    from quantchat.bench.peer_transformers import TransformersEngine

    return TransformersEngine(job)


def _llama_cpp(job: Job) -> BenchEngine:
    from quantchat.bench.peer_llama_cpp import LlamaCppEngine

    return LlamaCppEngine(job)


ENGINES: dict[str, Callable[[Job], BenchEngine]] = {
    "quantchat": _own,
    "transformers": _transformers,
    "bitsandbytes": _transformers,
    "torchao": _transformers,
    "llama.cpp": _llama_cpp,
}

if __name__ == "__main__":
    main()
