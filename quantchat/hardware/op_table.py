"""Which kernel family runs each op, and why: one table for what the engine does.

Owns the words and the row limits; pure. The engine's dispatch reads the same limits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

from quantchat.hardware.memory import KvFormat
from quantchat.hardware.target import ComputeDtype
from quantchat.quant.scheme import WeightFormat

GEMV_ROWS = 8
"""On a card: up to this many rows the weights are read packed, above they are dequantized."""
CPU_COPY_ROWS = 8
"""On a processor: from this many rows on a dense copy, where one is kept, beats packed codes."""

StoredRoute: TypeAlias = Literal["int4_pack", "int8_pack", "dense"]

STORED_ROUTES: Mapping[str, StoredRoute] = MappingProxyType(
    {
        "Q4_0": "int4_pack",
        "Q4_1": "int4_pack",
        "Q8_0": "int8_pack",
        "F32": "dense",
        "F16": "dense",
        "BF16": "dense",
    }
)
"""GGUF tensor types that the CPU path runs from packed ops or dense; types of other names are
dequantized to 16 bits at load."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OpChoice:
    """One op at one range of rows (tokens times sequences) and the kernel that runs it."""

    op: str
    rows: str
    """As in "1-8", ">8" or "any"."""
    kernel: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OpTarget:
    """What the choice of kernels depends on."""

    sm: int
    """0 on the CPU."""
    triton: bool
    copy: ComputeDtype | None
    """Type of the dense copies that CPU linears keep for many rows."""
    weights: WeightFormat
    head: WeightFormat
    kv: KvFormat
    group_size: int
    stored_types: frozenset[str]


def runs_as_stored(stored_types: frozenset[str]) -> bool:
    """Whether the file has quantized blocks and all its types have a route of their own."""
    routes = {STORED_ROUTES.get(name) for name in stored_types}
    return None not in routes and bool(routes & {"int4_pack", "int8_pack"})


def choose_ops(target: OpTarget) -> tuple[OpChoice, ...]:
    """The table's rows for this target, in the order a token meets them."""
    return _gpu_ops(target) if target.sm else _cpu_ops(target)


def _gpu_ops(target: OpTarget) -> tuple[OpChoice, ...]:
    return (
        *_gpu_linear("linear", target.weights, target),
        *_gpu_linear("head", target.head, target),
        OpChoice(
            op="attention, prefill",
            rows=">1",
            kernel="torch SDPA",
            reason=(
                "the library's flash kernels on SM 80 and newer"
                if target.sm >= 80
                else f"memory-efficient kernel: flash attention needs SM 80, this card is SM {target.sm}"
            ),
        ),
        _gpu_decode_attention(target),
    )


def _gpu_linear(op: str, weights: WeightFormat, target: OpTarget) -> tuple[OpChoice, ...]:
    if weights == "dense":
        return (
            OpChoice(
                op=op, rows="any", kernel="cuBLAS", reason="16-bit weights: nothing to unpack"
            ),
        )
    name = "w4a16" if weights == "int4_group" else "w8a16"
    if not target.triton or target.sm < 75:
        why = "triton is not installed" if target.sm >= 75 else "no Triton kernels below SM 75"
        return (
            OpChoice(op=op, rows="any", kernel="torch dequantize + cuBLAS", reason=f"{why}: slow"),
        )
    return (
        OpChoice(
            op=op,
            rows=f"1-{GEMV_ROWS}",
            kernel=f"triton {name} GEMV",
            reason="few rows are bound by weight bytes, so the codes are read packed",
        ),
        OpChoice(
            op=op,
            rows=f">{GEMV_ROWS}",
            kernel="dequantize + cuBLAS",
            reason=(
                "many rows are bound by arithmetic, where the library's product wins"
                if target.sm >= 80
                else "tl.dot has no tensor cores on SM 75, the library's fp16 product has"
            ),
        ),
    )


def _gpu_decode_attention(target: OpTarget) -> OpChoice:
    if target.triton and target.sm >= 80:
        return OpChoice(
            op="attention, decode",
            rows="1",
            kernel="triton split-KV paged",
            reason=(
                "int8 pages are decoded in the kernel, never copied out"
                if target.kv == "int8"
                else "reads pages in place, split along the context to fill the card"
            ),
        )
    why = "triton is not installed" if target.sm >= 80 else "the Triton kernel needs SM 80"
    return OpChoice(
        op="attention, decode", rows="1", kernel="gathered pages + torch SDPA", reason=why
    )


def _cpu_ops(target: OpTarget) -> tuple[OpChoice, ...]:
    if target.weights == "stored":
        linears = _cpu_stored(target)
    else:
        linears = (
            *_cpu_linear("linear", target.weights, target.group_size, target.copy),
            *_cpu_linear("head", target.head, target.group_size, None),
        )
    return (
        *linears,
        OpChoice(
            op="attention",
            rows="any",
            kernel="torch SDPA",
            reason="over the pages in place where they form one run, else gathered"
            + ("; int8 is decoded on the way" if target.kv == "int8" else ""),
        ),
    )


def _cpu_linear(
    op: str, weights: WeightFormat, group_size: int, copy: ComputeDtype | None
) -> tuple[OpChoice, ...]:
    if weights == "dense":
        return (
            OpChoice(
                op=op, rows="any", kernel="torch bf16 matmul", reason="half the bytes of fp32"
            ),
        )
    kernel, reason = (
        ("torch packed int4", f"4-bit codes read packed, group {group_size}")
        if weights == "int4_group"
        else ("torch packed int8", "8-bit codes read packed, one scale a row")
    )
    return _packed(op, kernel, reason, copy)


def _packed(op: str, kernel: str, reason: str, copy: ComputeDtype | None) -> tuple[OpChoice, ...]:
    if copy is None:
        return (OpChoice(op=op, rows="any", kernel=kernel, reason=reason),)
    name = "bf16" if copy == "bfloat16" else "fp32"
    return (
        OpChoice(op=op, rows=f"1-{CPU_COPY_ROWS - 1}", kernel=kernel, reason=reason),
        OpChoice(
            op=op,
            rows=f">={CPU_COPY_ROWS}",
            kernel=f"torch {name} matmul on a copy",
            reason="many rows are bound by arithmetic, which the dense product does faster",
        ),
    )


def _cpu_stored(target: OpTarget) -> tuple[OpChoice, ...]:
    rows: list[OpChoice] = []
    for name in sorted(target.stored_types - {"F32"}):  # F32: norms and biases
        op = f"linear {name}"
        route = STORED_ROUTES.get(name)
        if route == "int4_pack":
            why = "blocks of 32 become the packed op's groups, code for code"
            rows += _packed(op, "torch packed int4", why, target.copy)
        elif route == "int8_pack":
            why = "blocks of 32 are rounded to one scale a row"
            rows += _packed(op, "torch packed int8", why, target.copy)
        else:
            why = "not quantized in the file" if route else "no packed op reads it: 16 bits at load"
            rows.append(OpChoice(op=op, rows="any", kernel="torch bf16 matmul", reason=why))
    return tuple(rows)
