"""A model ready to answer: decoder, cache, tokenizer, and the plan they were made under."""

from __future__ import annotations

import psutil
import torch

from quantchat.engine.pages import PageAllocator
from quantchat.engine.runner import EagerRunner, Runner
from quantchat.errors import DeviceMemoryError
from quantchat.events import ModelInfo
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
        self.max_rows = MAX_ROWS
        self.steps_ahead = 1 if plan.graph else 0

    def make_runner(self) -> Runner:
        """The runner that the plan asks for."""
        if self.plan.graph:
            from quantchat.engine.graph_runner import GraphRunner

            return GraphRunner(self.decoder, self.pool, context_tokens=self.plan.context_tokens)
        threads = self.plan.threads if self.plan.device == "cpu" else 0
        return EagerRunner(self.decoder, self.pool, threads=threads)

    def reset_pages(self) -> None:
        """Forget all cached content, after a failure left it in doubt."""
        self.pages = PageAllocator(self.pool.pages, self.pool.page_tokens)

    def out_of_memory(self, what: str) -> DeviceMemoryError:
        """The error for an allocation that failed while this model ran."""
        device = self.decoder.ops.device
        if device.type == "cuda":
            torch.cuda.empty_cache()
            free, _ = torch.cuda.mem_get_info(device)
        else:
            free = psutil.virtual_memory().available
        return DeviceMemoryError(what, needed_bytes=self.plan.fit.workspace_bytes, free_bytes=free)
