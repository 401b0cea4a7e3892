"""How fast one sequence will be written, before a model is loaded; pure.

A step reads the weights and the cache once, at the rate that the device reads, and loses some time
in each layer between its kernels. Both tables are measured; nothing else is known of a machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from quantchat.hardware.execution import ExecutionPlan
from quantchat.hardware.linears import read_share
from quantchat.hardware.memory import table_bytes
from quantchat.quant.scheme import WeightFormat
from quantchat.spec import DecoderSpec

SPEED_CONTEXT_TOKENS = 1024
"""Tokens in the cache that predictions are made for: a few turns of a chat."""

CARD_LAYER_S: Mapping[WeightFormat, float] = MappingProxyType(
    {
        "dense": 17.1e-6,
        "int8_channel": 16.9e-6,
        "fp8_channel": 21.3e-6,
        "int4_group": 12.1e-6,
        "stored": 12.1e-6,
        "codebook4": 39e-6,
        "lut4": 49.9e-6,
        "lut3": 34e-6,
        "progressive4": 15.1e-6,
    }
)
"""Time of a layer's five launches in which memory is idle.

An H100's steps of Llama-3.1-8B less the time of their bytes at 3109 GB/s, a layer's share:
BENCHMARKS.md, "A decode step" and "The other formats". Codebooks in the middle of both kinds of
scales; squeezellm and qoq less their launches between linears."""
CARD_LAUNCH_S = 1.8e-6
"""One kernel more in a layer, from there."""
CARD_LEAST_LAYER_S = 25e-6
"""A layer takes no less, however small: the starter model as stored, 1268.8 tok/s, from there."""
CPU_LAYER_S = 220e-6
CPU_READ_SHARE = 0.8
"""The starter model's steps on two cores, in BENCHMARKS.md, "Speed on the CPU": within an eighth of
them in every scheme."""
ROUNDED_LINEARS = 4
"""Linears of a layer whose inputs are rounded, or that have entries kept apart, by a kernel each."""


def predicted_tok_per_s(
    plan: ExecutionPlan,
    spec: DecoderSpec,
    *,
    read_bytes_per_s: float | None,
    context_tokens: int = SPEED_CONTEXT_TOKENS,
) -> float | None:
    """Tokens a second behind `context_tokens`; None where the device is not known well enough.

    `read_bytes_per_s`: what the device reads. Torch's own ops on a card are not predicted.
    """
    if not read_bytes_per_s or (plan.device == "cuda" and not plan.triton):
        return None
    tokens = min(context_tokens, plan.context_tokens)
    # A table of its own is looked up, not read.
    table = table_bytes(spec, plan.scheme)
    weights = (plan.fit.weight_bytes - table) * read_share(spec)
    read = weights + tokens * plan.fit.kv_bytes_per_token
    if plan.device == "cpu":
        step_s = read / (CPU_READ_SHARE * read_bytes_per_s) + spec.layers * CPU_LAYER_S
    else:
        more = plan.all_rows + (plan.scheme.sparse_share > 0)
        layer_s = CARD_LAYER_S[plan.scheme.weights] + more * ROUNDED_LINEARS * CARD_LAUNCH_S
        step_s = read / read_bytes_per_s + spec.layers * layer_s
        step_s = max(step_s, spec.layers * CARD_LEAST_LAYER_S)
    return 1 / step_s
