"""Bytes that a decode step must move, and the floor that a bandwidth puts under its time."""

from __future__ import annotations

from quantchat.model.families import ModelSource


def read_file_bytes(source: ModelSource) -> int:
    """What one decode step reads of a model run as its file stores it."""
    entries = [source.checkpoint.tensors[name] for name in source.names.values()]
    held = sum(entry.nbytes for entry in entries)
    if source.spec.tied_head:
        return held
    return held - source.checkpoint.tensors[source.names["embed"]].nbytes


def step_bytes(
    read_bytes: int,
    kv_bytes_per_token: int,
    prompt_tokens: int,
    *,
    first_step: int,
    decode_steps: int,
    rows: int,
) -> float:
    """Mean bytes of some decode steps after a prompt: step i (from 1) reads prompt + i tokens a row.

    Weights are read once a step for all rows, the cache once for each.
    """
    context = prompt_tokens + first_step + (decode_steps - 1) / 2
    return read_bytes + rows * kv_bytes_per_token * context


def floor_s(bytes_per_step: float, gb_per_s: float) -> float:
    """The least time that the bytes take at a bandwidth."""
    return bytes_per_step / (gb_per_s * 1e9)
