"""A model ready to answer: decoder, cache, tokenizer, and the plan they were made under."""

from __future__ import annotations

import psutil
import torch

from quantchat.engine.pages import PageAllocator
from quantchat.engine.runner import EagerRunner, Runner
from quantchat.engine.ways_out import ways_out
from quantchat.errors import DeviceMemoryError
from quantchat.events import ModelInfo
from quantchat.hardware.card_counters import CardCounters, counters_of
from quantchat.hardware.execution import ExecutionPlan
from quantchat.model.decoder import Decoder
from quantchat.ops.kv_pool import KvPool
from quantchat.tokenizer import Tokenizer

MAX_ROWS = 8
"""Answers written at the same time by one model."""


class LoadedModel:
    """Everything that one slot holds. The engine thread is its only user."""

    def __init__(
        self,
        *,
        info: ModelInfo,
        plan: ExecutionPlan,
        decoder: Decoder,
        pool: KvPool,
        tokenizer: Tokenizer,
    ) -> None:
        self.info = info
        self.plan = plan
        self.decoder = decoder
        self.pool = pool
        self.tokenizer = tokenizer
        self.pages = PageAllocator(pool.pages, pool.page_tokens)
        self.counters: CardCounters | None = None
        """What the driver counts of the card; None on the CPU and where it counts nothing."""
        if plan.device == "cuda":
            self.counters = counters_of(plan.gpu_index)
        self.max_rows = MAX_ROWS
        self.steps_ahead = 1 if plan.graph else 0
        self.failed_runners = 0
        """Runners that were given up after a failed step."""

    def read_bytes(self, context_tokens: int) -> int:
        """What a decode step of one answer reads behind so many tokens: weights and KV."""
        spec = self.decoder.spec
        seen = sum(
            min(context_tokens, spec.window(layer) or context_tokens)
            for layer in range(spec.layers)
        )
        return self.decoder.read_bytes + self.pool.token_bytes * seen // spec.layers

    def joules(self) -> float | None:
        """The card's energy counter; None where the driver does not tell."""
        return None if self.counters is None else self.counters.joules()

    def use_device(self) -> None:
        """Make the plan's card this thread's own: kernels are launched on the current one."""
        if self.plan.device == "cuda":
            torch.cuda.set_device(self.plan.gpu_index)

    def make_runner(self) -> Runner:
        """The runner that the plan asks for."""
        self.use_device()
        graph = self.plan.graph and self.decoder.capturable
        self.steps_ahead = 1 if graph else 0
        if graph:
            from quantchat.engine.graph_runner import GraphRunner

            return GraphRunner(self.decoder, self.pool, context_tokens=self.plan.context_tokens)
        if self.plan.triton:
            from quantchat.engine.device_picker import card_picker

            return EagerRunner(self.decoder, self.pool, picker=card_picker(self.decoder))
        threads = self.plan.threads if self.plan.device == "cpu" else 0
        return EagerRunner(self.decoder, self.pool, threads=threads)

    def reset_pages(self) -> None:
        """Forget all cached content, after a failure left it in doubt."""
        self.pages = PageAllocator(self.pool.pages, self.pool.page_tokens)

    def make_plain_runner(self) -> Runner:
        """One op at a time, without the memory that captured graphs take."""
        self.steps_ahead = 0
        return EagerRunner(self.decoder, self.pool)

    def out_of_memory(self, what: str, *, free_bytes: int, asked_bytes: int) -> DeviceMemoryError:
        """The error for an allocation that failed while this model ran."""
        decoder = self.decoder
        held = decoder.weight_bytes + decoder.copy_bytes + self.pool.nbytes
        return DeviceMemoryError(
            what,
            needed_bytes=max(asked_bytes, self.plan.fit.workspace_bytes),
            free_bytes=free_bytes,
            asked_bytes=asked_bytes,
            ways=ways_out(
                self.plan,
                decoder.spec,
                budget_bytes=free_bytes + held,
                ram_free_bytes=psutil.virtual_memory().available,
            ),
        )
