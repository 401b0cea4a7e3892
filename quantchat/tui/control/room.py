"""The machine as it is once the loaded model has made room for another."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

from quantchat.tui.control.schemes import Held

if TYPE_CHECKING:
    from quantchat.hardware.facts import Facts


def with_room(facts: Facts, held: Held | None) -> Facts:
    """Facts with what is held counted as free; as they are where nothing is."""
    if held is None:
        return facts
    if held.device == "cpu":
        free = min(facts.cpu.ram_free_bytes + held.size_bytes, facts.cpu.ram_total_bytes)
        return dataclasses.replace(facts, cpu=dataclasses.replace(facts.cpu, ram_free_bytes=free))
    gpus = list(facts.gpus)
    for at, gpu in enumerate(gpus):
        if gpu.name == held.device_name:
            free = min(gpu.free_bytes + held.size_bytes, gpu.total_bytes)
            gpus[at] = dataclasses.replace(gpu, free_bytes=free)
            break
    return dataclasses.replace(facts, gpus=tuple(gpus))
