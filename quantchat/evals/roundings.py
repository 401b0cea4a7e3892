"""int4 roundings side by side: the same groups and head, filled in different ways.

Owns the study that says by how much ours beats the two baselines.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import torch

from quantchat.engine.loading import build_pool
from quantchat.evals.divergence import Divergence, summarize
from quantchat.evals.reference import run_reference
from quantchat.evals.study import score
from quantchat.evals.subject import Subject
from quantchat.evals.text import Passages
from quantchat.model.loader import load_decoder
from quantchat.model.weights import WeightRecipe
from quantchat.ops.torch_ops import TorchOps
from quantchat.quant.hqq import hqq, nearest
from quantchat.quant.rounding import Int4Rounding, int4_group
from quantchat.quant.tensor import Int4GroupWeight


def unweighted(
    weight: torch.Tensor, group_size: int, importance: torch.Tensor | None = None, /
) -> Int4GroupWeight:
    """Ours with every input taken as equal."""
    return int4_group(weight, group_size)


ROUNDINGS: Mapping[str, Int4Rounding] = MappingProxyType(
    {"nearest": nearest, "hqq": hqq, "unweighted": unweighted, "int4": int4_group}
)


def compare_roundings(
    subject: Subject,
    passages: Passages,
    *,
    names: tuple[str, ...],
    group_size: int,
    cancelled: Callable[[], bool],
) -> dict[str, Divergence]:
    """Divergence of each rounding from the dense weights, all computed in float32 on the CPU."""
    dense = subject.plan("fp16", "16bit", "cpu", passages.longest_tokens)
    chunk = dense.prefill_chunk_tokens
    decoder = subject.float32_decoder(dense, lambda phase, done, total: None, cancelled)
    pool = build_pool(decoder, dense)
    base = run_reference(
        decoder, pool, passages, chunk_tokens=chunk, cancelled=cancelled, on_tokens=lambda n: None
    )
    scheme = subject.plan("int4", "16bit", "cpu", passages.longest_tokens).scheme
    cpu = torch.device("cpu")
    results: dict[str, Divergence] = {}
    for name in names:
        recipe = WeightRecipe(
            scheme=scheme,
            group_size=group_size,
            dtype=torch.float32,
            device=cpu,
            int4=ROUNDINGS[name],
        )
        rounded = load_decoder(
            subject.source,
            TorchOps(subject.source.spec, device=cpu, dtype=torch.float32),
            recipe,
            context_tokens=passages.longest_tokens,
            cache=None,
            on_progress=lambda phase, done, total: None,
            cancelled=cancelled,
        ).decoder
        positions, _ = score(
            rounded,
            pool,
            passages,
            base,
            chunk_tokens=chunk,
            cancelled=cancelled,
            on_tokens=lambda n: None,
        )
        results[name] = summarize(positions)
    return results
