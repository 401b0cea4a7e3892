"""Failures of loads in words: from an exception, and the plan under which it came, to an error."""

from __future__ import annotations

import logging

import psutil
import torch

from quantchat.engine.device_errors import Trouble, first_line, forget_frames, trouble_of
from quantchat.engine.memory import free_bytes, give_back
from quantchat.engine.recovery import LOST_HINT
from quantchat.engine.ways_out import ways_out
from quantchat.errors import (
    DeviceError,
    DeviceLostError,
    DeviceMemoryError,
    EngineError,
    QuantchatError,
)
from quantchat.hardware.execution import ExecutionPlan
from quantchat.requests import TO_CPU, LoadRequest
from quantchat.spec import DecoderSpec

logger = logging.getLogger(__name__)


def load_problem(error: Exception, request: LoadRequest) -> QuantchatError:
    """What to tell of a load that failed; the frames of the exception are let go of."""
    if not isinstance(error, QuantchatError):
        logger.error("loading %s failed", request.model, exc_info=error)
    forget_frames(error)
    if isinstance(error, QuantchatError):
        return error
    trouble = trouble_of(error)
    if trouble is not None:
        return _plain_device_error(trouble)
    return EngineError(
        f"loading failed: {type(error).__name__}: {first_line(str(error))}", hint="see the log"
    )


def device_error(trouble: Trouble, plan: ExecutionPlan, spec: DecoderSpec) -> QuantchatError:
    """The error of a device that failed while the plan was carried out."""
    if trouble.kind != "memory":
        return _plain_device_error(trouble)
    give_back(workspaces=False)
    device = torch.device("cpu") if plan.device == "cpu" else torch.device("cuda", plan.gpu_index)
    free = free_bytes(device)
    return DeviceMemoryError(
        f"{plan.scheme.title} weights and a context of {plan.context_tokens} tokens",
        needed_bytes=max(plan.fit.needed_bytes, trouble.asked_bytes),
        free_bytes=free,
        asked_bytes=trouble.asked_bytes,
        ways=ways_out(
            plan,
            spec,
            budget_bytes=free,
            ram_free_bytes=psutil.virtual_memory().available,
        ),
    )


def _plain_device_error(trouble: Trouble) -> QuantchatError:
    if trouble.kind == "lost":
        return DeviceLostError(f"the card failed: {trouble.reason}", hint=LOST_HINT, ways=(TO_CPU,))
    if trouble.kind == "busy":
        hint = f"{trouble.hint}, or load the model on the device cpu"
        return DeviceError(f"the card cannot be used: {trouble.reason}", hint=hint, ways=(TO_CPU,))
    if trouble.kind == "memory":
        return DeviceError(
            f"not enough memory: {trouble.reason}",
            hint="choose a lower scheme (int4), int8 KV, a shorter context, or the device cpu",
        )
    return DeviceError(
        f"the card failed: {trouble.reason}",
        hint="try again, or load the model on the device cpu (see the log)",
        ways=(TO_CPU,),
    )
