"""int4 roundings side by side: the same groups and head, filled in different ways.

Owns the two baselines that ours has to beat, and the study that says by how much.
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
from quantchat.quant.rounding import Int4Rounding, int4_group
from quantchat.quant.tensor import Int4GroupWeight, int4_group_weight

HQQ_ITERATIONS = 20
HQQ_P = 0.7
HQQ_BETA = 10.0
HQQ_KAPPA = 1.01
SLICE_ELEMENTS = 1 << 17


def nearest(
    weight: torch.Tensor, group_size: int, importance: torch.Tensor | None = None, /
) -> Int4GroupWeight:
    """Round to nearest between each group's smallest and largest weight. weight [N, K]."""

    def fit(w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        low, high = w.aminmax(dim=-1, keepdim=True)
        scale = ((high - low) / 15).clamp_min(1e-7).half().float()
        offset = low.half().float()
        return ((w - offset) / scale).round_().clamp_(0, 15), scale, offset

    return _by_slices(weight, group_size, fit)


def hqq(
    weight: torch.Tensor, group_size: int, importance: torch.Tensor | None = None, /
) -> Int4GroupWeight:
    """Half-quadratic quantization (Badri and Shaji 2023): the zero point moves, the scale stays."""

    def fit(w: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        low, high = w.aminmax(dim=-1, keepdim=True)
        span = high - low
        inverse = torch.where(span > 1e-4, 15 / span.clamp_min(1e-9), 1.0).clamp_max(2e4)
        zero = -low * inverse
        beta = HQQ_BETA
        for _ in range(HQQ_ITERATIONS):
            q = (w * inverse + zero).round_().clamp_(0, 15)
            error = w - (q - zero) / inverse
            size = error.abs()
            shrunk = (size - size.clamp_min(1e-8).pow(HQQ_P - 1) / beta).relu_() * error.sign()
            zero = (q - (w - shrunk) * inverse).mean(dim=-1, keepdim=True)
            beta *= HQQ_KAPPA
        q = (w * inverse + zero).round_().clamp_(0, 15)
        return q, 1 / inverse, -zero / inverse

    return _by_slices(weight, group_size, fit)


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


def _by_slices(
    weight: torch.Tensor,
    group_size: int,
    fit: Callable[[torch.Tensor], tuple[torch.Tensor, torch.Tensor, torch.Tensor]],
) -> Int4GroupWeight:
    k = weight.shape[1]
    assert k % group_size == 0
    codes: list[torch.Tensor] = []
    scales: list[torch.Tensor] = []
    offsets: list[torch.Tensor] = []
    for w in torch.split(weight.float(), max(1, SLICE_ELEMENTS // k)):
        q, scale, offset = fit(w.view(w.shape[0], -1, group_size))
        codes.append(q.to(torch.uint8).view(w.shape[0], k))
        scales.append(scale.squeeze(-1))
        offsets.append(offset.squeeze(-1))
    return int4_group_weight(torch.cat(codes), torch.cat(scales), torch.cat(offsets), group_size)
