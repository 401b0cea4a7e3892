"""Random decode steps over scattered, poisoned pages, and the gate's cases of attention.

What a step must not read is NaN or a code of NaN, so a kernel that reads it fails its comparison.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import torch

from quantchat.bench.kernel_gate import TOLERANCE, Case
from quantchat.kernels.attention import reference
from quantchat.kernels.rope_append import reference as append_reference
from quantchat.kernels.rope_append.formats import (
    FORMATS,
    PARAMS,
    ROTATED,
    VECTORS,
    KvFormat,
    VectorFormat,
    stored_width,
)

_POISON = float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Heads:
    """Attention shape of a case."""

    heads: int
    kv_heads: int
    head_dim: int
    page_tokens: int = 16
    window: int = 0
    cap: float = 0.0
    norm: bool = False
    rotary_half: int = 0
    """0: half a head."""

    @property
    def label(self) -> str:
        """As in 32/8x128."""
        return f"{self.heads}/{self.kv_heads}x{self.head_dim}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One decode step: the arguments of `attend` by position and by keyword, pages apart."""

    inputs: tuple[torch.Tensor, ...]
    pages: dict[str, torch.Tensor]
    options: dict[str, object]

    def twin(self) -> Step:
        """The same step over pages of its own."""
        pages = {name: part.clone() for name, part in self.pages.items()}
        return Step(inputs=self.inputs, pages=pages, options=self.options)

    def truth(self) -> torch.Tensor:
        """The reference's answer; the pages grow."""
        out: torch.Tensor = reference.attend(*self.inputs, **self.pages, **self.options)
        return out


def poisoned_pages(
    pages: int, shape: Heads, kv: KvFormat, dtype: torch.dtype, device: torch.device
) -> dict[str, torch.Tensor]:
    """Pages by the keyword names of the kernels, unfit to be read."""
    size = (pages, shape.page_tokens, shape.kv_heads)
    made: dict[str, torch.Tensor] = {}
    for name, form in zip(("k", "v"), VECTORS[kv], strict=True):
        width = stored_width(shape.head_dim, form)
        if form == "16bit":
            made[f"{name}_cache"] = torch.full((*size, width), _POISON, dtype=dtype, device=device)
            continue
        made[f"{name}_cache"] = torch.full((*size, width), 255, dtype=torch.uint8, device=device)
        params = torch.full((*size, PARAMS[form]), _POISON, dtype=torch.float16, device=device)
        made[f"{name}_params"] = params
    return made


def _fill(
    pages: dict[str, torch.Tensor], name: str, slots: torch.Tensor, old: torch.Tensor
) -> None:
    flat = pages[f"{name}_cache"].flatten(0, 1)
    if f"{name}_params" not in pages:
        flat[slots] = old
        return
    width, params = flat.shape[-1], pages[f"{name}_params"].flatten(0, 1)
    by_shape: dict[tuple[bool, int], VectorFormat] = {
        (True, 1): "fp8",
        (True, 2): "int8",
        (False, 2): "int4",
    }
    form = by_shape[width == old.shape[-1], params.shape[-1]]
    flat[slots], params[slots] = append_reference.quantize_heads(old, form)


def make_step(
    lengths: list[int],
    shape: Heads,
    kv: KvFormat,
    dtype: torch.dtype,
    device: torch.device,
    *,
    first_page: int = 1,
) -> Step:
    """Rows of those lengths, the newest token of each in qkv, older ones on scattered pages."""
    page_tokens, kv_heads, head_dim = shape.page_tokens, shape.kv_heads, shape.head_dim
    needed = [-(-length // page_tokens) for length in lengths]
    count = first_page + sum(needed) + 2
    order = (torch.randperm(count - first_page) + first_page).to(device)
    pages = poisoned_pages(count, shape, kv, dtype, device)
    table = torch.zeros(len(lengths), max(needed) + 2, dtype=torch.int32, device=device)
    table += order[-1]
    slots = torch.full((len(lengths),), -1, dtype=torch.int64, device=device)
    start = 0
    for row, length in enumerate(lengths):
        mine = order[start : start + needed[row]]
        start += needed[row]
        table[row, : len(mine)] = mine
        if length == 0:
            continue
        place = torch.arange(length, device=device)
        at = mine[place // page_tokens] * page_tokens + place % page_tokens
        slots[row] = at[-1]
        for name in ("k", "v") if length > 1 else ():
            old = torch.randn(length - 1, kv_heads, head_dim, device=device)
            _fill(pages, name, at[:-1], (old * (0.05 if row % 2 else 1.5)).to(dtype))
    positions = torch.tensor([max(0, n - 1) for n in lengths], dtype=torch.int32, device=device)
    angles = torch.rand(max(lengths) + 1, shape.rotary_half or head_dim // 2, device=device) * 6.28
    width = (shape.heads + 2 * kv_heads) * head_dim
    qkv = torch.randn(len(lengths), width, device=device).to(dtype)
    options: dict[str, object] = {
        "heads": shape.heads,
        "scale": head_dim**-0.5,
        "kv": kv,
        "window": shape.window,
        "cap": shape.cap,
    }
    if shape.norm:
        weights = torch.randn(2, head_dim, device=device).to(dtype)
        options |= {"q_weight": weights[0], "k_weight": weights[1], "eps": 1e-6}
    seq_lens = torch.tensor(lengths, dtype=torch.int32, device=device)
    inputs = (qkv, positions, seq_lens, slots, table, angles.cos(), angles.sin())
    return Step(inputs=inputs, pages=pages, options=options)


def grown(mine: Step, theirs: Step) -> list[tuple[torch.Tensor, torch.Tensor]]:
    """The newest tokens as stored, dequantised, by kernel and reference, and what else there is."""
    slots = mine.inputs[3]
    slots = slots[slots >= 0]
    pairs = []
    for name, form in zip(("k", "v"), VECTORS[mine.options["kv"]], strict=True):
        sides = []
        for step in (mine, theirs):
            stored = step.pages[f"{name}_cache"].flatten(0, 1)[slots]
            if form != "16bit":
                params = step.pages[f"{name}_params"].flatten(0, 1)[slots]
                stored = append_reference.dequantize_heads(stored, params, form, torch.float32)
            sides.append(stored)
        pairs.append((sides[0], sides[1]))
    return pairs


SHAPES = (
    Heads(heads=32, kv_heads=8, head_dim=128),
    Heads(heads=9, kv_heads=3, head_dim=64, page_tokens=64),
    Heads(heads=14, kv_heads=2, head_dim=64, window=700),
    Heads(heads=32, kv_heads=32, head_dim=80, rotary_half=20),
    Heads(heads=8, kv_heads=4, head_dim=256, page_tokens=32, norm=True),
    Heads(heads=16, kv_heads=8, head_dim=256, window=700, cap=50.0),
    Heads(heads=12, kv_heads=12, head_dim=96, window=64),
    Heads(heads=28, kv_heads=4, head_dim=128, norm=True),
    Heads(heads=20, kv_heads=1, head_dim=64),
)
LENGTHS = ([0, 1, 2, 63, 128, 129, 1000, 4097], [9000], [64, 2049])


APPEND_FACTOR: dict[VectorFormat, int] = {"16bit": 1, "fp8": 3, "int8": 1, "int4": 10}
"""A value between two codes may fall to either side: up to a step of its vector."""


def attention_cases(device: torch.device, dtype: torch.dtype) -> Iterator[Case]:
    """Decode attention and the append of prompts, in every KV format that the heads can have."""
    for shape in SHAPES:
        for kv in FORMATS:
            if not has_format(shape, kv):
                continue
            yield Case(
                name=f"attend {shape.label} {kv}",
                run=partial(_attend, shape, kv, dtype, device),
                tolerance=TOLERANCE[dtype],
                part=f"{kv} KV",
            )
            yield Case(
                name=f"rope_append {shape.label} {kv}",
                run=partial(_append, shape, kv, dtype, device),
                tolerance=TOLERANCE[dtype] * max(APPEND_FACTOR[form] for form in VECTORS[kv]),
                part=f"{kv} KV",
            )


def has_format(shape: Heads, kv: KvFormat) -> bool:
    """Whether heads of that size can be kept so: rotation wants powers of two."""
    return kv not in ROTATED or shape.head_dim & (shape.head_dim - 1) == 0


def _attend(
    shape: Heads, kv: KvFormat, dtype: torch.dtype, device: torch.device
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    from quantchat.kernels.attention.attend import attend

    pairs = []
    for lengths in LENGTHS:
        mine = make_step(lengths, shape, kv, dtype, device)
        theirs = mine.twin()
        truth = theirs.truth()
        out = torch.full_like(truth, _POISON)
        attend(*mine.inputs, **mine.pages, **mine.options, out=out)
        pairs.append((out, truth))
    return pairs


def _append(
    shape: Heads, kv: KvFormat, dtype: torch.dtype, device: torch.device
) -> list[tuple[torch.Tensor, torch.Tensor]]:
    from quantchat.kernels.rope_append import append

    tokens, context, pages = 37, 5000, 3
    width = (shape.heads + 2 * shape.kv_heads) * shape.head_dim
    qkv = torch.randn(tokens, width, device=device).to(dtype)
    positions = torch.randint(0, context, (tokens,), dtype=torch.int32, device=device)
    half = shape.rotary_half or shape.head_dim // 2
    angles = torch.rand(context, half, device=device) * 6.28
    slots = torch.randperm(pages * shape.page_tokens, device=device)[:tokens]
    slots[5] = -1
    options: dict[str, object] = {"heads": shape.heads, "kv": kv}
    if shape.norm:
        weights = torch.randn(2, shape.head_dim, device=device).to(dtype)
        options |= {"q_weight": weights[0], "k_weight": weights[1], "eps": 1e-6}
    mine = Step(
        inputs=(qkv, positions, qkv, slots),
        pages=poisoned_pages(pages, shape, kv, dtype, device),
        options=options,
    )
    theirs = mine.twin()
    out = torch.full((tokens, shape.heads, shape.head_dim), _POISON, dtype=dtype, device=device)
    common = (qkv, positions, angles.cos(), angles.sin(), slots)
    append.rope_append(*common, **mine.pages, **options, out=out)
    truth = append_reference.rope_append(*common, **theirs.pages, **options)
    return [(out, truth), *grown(mine, theirs)]
