"""From a loaded model to one at work: kernels fitted to the card, steps captured, memory counted.

Runs in the engine's thread, beside the slot's old model; whatever it raises leaves that as it is.
"""

from __future__ import annotations

from collections.abc import Callable

from quantchat.engine.load_job import LoadJob
from quantchat.engine.model import LoadedModel
from quantchat.engine.runtime import Runtime
from quantchat.events import Event


def open_model(job: LoadJob, model: LoadedModel, emit: Callable[[Event], None]) -> Runtime:
    """The model ready to answer in its slot."""
    if job.request.tune and model.plan.graph:
        from quantchat.engine.tuning import tune_tiles

        if tune_tiles(model, report=job.report, cancelled=job.cancelled.is_set):
            from quantchat.engine.warming import compile_ahead

            # Linears of prompts have new tiles too.
            compile_ahead(model, job.report, job.cancelled.is_set)
        job.report("warm", 0, 1, "")
    runtime = Runtime(job.request.slot, model, emit)
    runtime.memory()
    return runtime
