"""Plans for the memory there will be: a slot's old model may have to go before the new one comes.

The old model answers until the new one is ready wherever both fit.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch

from quantchat.hardware.execution import ExecutionPlan, PlanRequest
from quantchat.hardware.facts import Facts
from quantchat.hardware.memory import RESERVE_SHARE
from quantchat.hardware.plan import plan as make_plan
from quantchat.hardware.probe import probe
from quantchat.spec import DecoderSpec

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """What the slot's old model holds, and how to have it go first where both do not fit."""

    device: Literal["cpu", "cuda"]
    gpu_index: int
    held_bytes: int
    make: Callable[[], None]


def plan_in(spec: DecoderSpec, wish: PlanRequest, room: Room | None) -> ExecutionPlan:
    """The plan for the memory there will be; the old model goes first where it must."""
    facts = _with_reserve(probe())
    if room is None:
        return make_plan(facts, spec, wish)
    emptied = make_plan(_with_room(facts, room), spec, wish)
    free = _free_bytes(facts, emptied)
    same_device = (emptied.device, emptied.gpu_index) == (room.device, room.gpu_index)
    if not same_device or emptied.fit.needed_bytes <= free * (1 - RESERVE_SHARE):
        return make_plan(facts, spec, wish)
    logger.info("the model does not fit beside the one that is loaded")
    room.make()
    return make_plan(_with_reserve(probe()), spec, wish)


def _with_reserve(facts: Facts) -> Facts:
    """What torch holds on cards without using it counts as free."""
    if not torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        return facts
    gpus = tuple(
        replace(
            gpu,
            free_bytes=gpu.free_bytes
            + torch.cuda.memory_reserved(gpu.index)
            - torch.cuda.memory_allocated(gpu.index),
        )
        for gpu in facts.gpus
    )
    return replace(facts, gpus=gpus)


def _with_room(facts: Facts, room: Room) -> Facts:
    if room.device == "cpu":
        free = facts.cpu.ram_free_bytes + room.held_bytes
        return replace(facts, cpu=replace(facts.cpu, ram_free_bytes=free))
    gpus = tuple(
        replace(gpu, free_bytes=gpu.free_bytes + room.held_bytes)
        if gpu.index == room.gpu_index
        else gpu
        for gpu in facts.gpus
    )
    return replace(facts, gpus=gpus)


def _free_bytes(facts: Facts, plan: ExecutionPlan) -> int:
    if plan.device == "cpu":
        return facts.cpu.ram_free_bytes
    return next(gpu.free_bytes for gpu in facts.gpus if gpu.index == plan.gpu_index)
