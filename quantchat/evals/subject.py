"""The model under evaluation: opened once, made into decoders under plan after plan.

Owns what an evaluation changes about a plan. No engine thread: decoders are run directly.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

import torch

from quantchat.calibration.settings import CalibrationSettings
from quantchat.engine.loading import build_decoder, plan_request, read_tokenizer
from quantchat.errors import PlanError
from quantchat.hardware.execution import ExecutionPlan
from quantchat.hardware.plan import plan as make_plan
from quantchat.hardware.probe import probe
from quantchat.hub.local import resolve
from quantchat.model.decoder import Decoder
from quantchat.model.families import ModelSource, open_model
from quantchat.model.loader import LoadedDecoder, OnProgress
from quantchat.model.weights import WeightReader, WeightRecipe
from quantchat.ops.linear import LinearOp
from quantchat.ops.plain import closed_head
from quantchat.ops.select import make_ops
from quantchat.ops.torch_ops import TorchOps
from quantchat.requests import LoadRequest
from quantchat.tokenizer import Tokenizer

FP32_BYTES = 4

OnWork: TypeAlias = Callable[[str, int, int], None]
"""What is under way in words, done, total; (words, 0, 0) where nothing is counted."""


@dataclass(frozen=True, slots=True)
class Subject:
    """An open model on disk."""

    name: str
    path: Path
    source: ModelSource
    tokenizer: Tokenizer

    @property
    def identity(self) -> str:
        """Of the model file, for keys."""
        return self.source.checkpoint.identity()

    def close(self) -> None:
        """Let go of the files."""
        self.source.close()

    def plan(self, scheme: str, kv: str, device: str, context_tokens: int) -> ExecutionPlan:
        """The plan that the engine would follow, for a context; raises PlanError with the reason.

        Without the CPU's dense copies for prefill, so that scoring in chunks runs the very ops
        that decode one token at a time.
        """
        wish = LoadRequest(
            model=self.name, scheme=scheme, kv=kv, device=device, context_tokens=context_tokens
        )
        made = make_plan(probe(), self.source.spec, plan_request(wish, self.source))
        return replace(made, copy_dtype=None)

    def decoder(
        self,
        plan: ExecutionPlan,
        on_progress: OnProgress,
        cancelled: Callable[[], bool],
        calibration: CalibrationSettings | None = None,
    ) -> LoadedDecoder:
        """The decoder of a plan, with its op set; `calibration` None takes the default."""
        return build_decoder(
            self.source,
            plan,
            self.ops(plan),
            on_progress=on_progress,
            cancelled=cancelled,
            calibration=calibration,
        )

    def float32_decoder(
        self, plan: ExecutionPlan, on_progress: OnProgress, cancelled: Callable[[], bool]
    ) -> Decoder:
        """Dense float32 weights under torch's own ops; `plan` must be of a dense scheme."""
        assert plan.scheme.weights == "dense"
        spec = self.source.spec
        needed = (spec.parameters + spec.embedding_parameters) * FP32_BYTES
        if needed > plan.fit.free_bytes:
            raise PlanError(
                f"a float32 reference of {self.name} needs {needed / 2**30:.1f} GiB, "
                f"{plan.fit.free_bytes / 2**30:.1f} GiB are free",
                hint="measure against the 16-bit model: --reference fp16",
            )
        return build_decoder(
            self.source,
            plan,
            self.ops(plan, torch.float32),
            on_progress=on_progress,
            cancelled=cancelled,
        ).decoder

    def ops(self, plan: ExecutionPlan, dtype: torch.dtype | None = None) -> TorchOps:
        """The plan's ops; torch's own in `dtype` where one is given."""
        spec = self.source.spec
        return (
            make_ops(spec, plan)
            if dtype is None
            else TorchOps(spec, device=device_of(plan), dtype=dtype)
        )

    def dense_head(self, plan: ExecutionPlan, ops: TorchOps) -> LinearOp:
        """The head alone, as the dense decoder of `ops` has it; `plan` must be of a dense scheme."""
        assert plan.scheme.weights == "dense"
        recipe = WeightRecipe(scheme=plan.scheme, group_size=0, dtype=ops.dtype, device=ops.device)
        reader, spec = WeightReader(self.source, recipe), self.source.spec
        bias = reader.vector("head.bias") if spec.head_bias else None
        return closed_head(ops.head(reader.head()), spec, bias)


def device_of(plan: ExecutionPlan) -> torch.device:
    """Where a plan's tensors lie."""
    return torch.device("cpu") if plan.device == "cpu" else torch.device("cuda", plan.gpu_index)


def phases(label: str, on_work: OnWork) -> OnProgress:
    """A load's progress as work on `label`."""
    return lambda phase, done, total: on_work(f"{label}: {phase}", done, total)


def open_subject(model: str) -> Subject:
    """Open a model by name or path; raises QuantchatError with what to do."""
    local = resolve(model)
    source = open_model(local.path)
    try:
        name = local.path.name if local.origin in ("file", "folder") else local.name
        return Subject(name, local.path, source, read_tokenizer(source, local.path))
    except BaseException:
        source.close()
        raise
