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
from quantchat.quant.scheme import ActivationFormat, WeightFormat

FEW_ROWS: Mapping[str, int] = MappingProxyType({"int4": 64, "int8": 48, "fp8": 48, "dense": 8})
"""From SM 80 on: most rows that weights are read for as stored; above, the library is faster.

Measured on an H100 with the linears of Llama-3.1-8B."""
FUSED_ROWS = 8
"""From SM 80 on: up to this many rows no norm runs by itself."""
LOWEST_TENSOR_SM = 80
"""First card of the tensor-core kernel of few rows."""
GEMV_ROWS = 8
"""Below SM 80: up to this many rows the weights are read packed, above they are dequantized."""
CPU_COPY_ROWS = 8
"""On a processor: from this many rows on a dense copy, where one is kept, beats packed codes."""

CARD_ROWS = 16
"""On a card: from one row more on, 8-bit weights are multiplied with 8-bit inputs."""
PRODUCTS: Mapping[ActivationFormat, str] = MappingProxyType(
    {"fp8": "quantize + fp8 product", "int8": "quantize + int8 product"}
)
PRODUCT_REASON = "twice the rate of 16 bits; one scale a token, mostly made by the op before"

_CODES: Mapping[WeightFormat, str] = MappingProxyType(
    {"int4_group": "int4", "int8_channel": "int8", "fp8_channel": "fp8", "dense": "dense"}
)
"""Stored formats as FEW_ROWS names them."""

StoredRoute: TypeAlias = Literal["int4", "int8", "dense"]


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredType:
    """How the blocks of one GGUF tensor type become a stored format."""

    route: StoredRoute
    exact: bool
    """False where the blocks are rounded once more."""
    growth: float
    """Bytes in memory over bytes in the file."""


STORED_TYPES: Mapping[str, StoredType] = MappingProxyType(
    {
        "F32": StoredType(route="dense", exact=True, growth=1.0),
        "F16": StoredType(route="dense", exact=True, growth=1.0),
        "BF16": StoredType(route="dense", exact=True, growth=1.0),
        "Q4_0": StoredType(route="int4", exact=True, growth=5 / 4.5),
        "Q4_1": StoredType(route="int4", exact=True, growth=1.0),
        "Q4_K": StoredType(route="int4", exact=True, growth=5 / 4.5),
        "Q8_0": StoredType(route="int8", exact=False, growth=1.0),
        "Q6_K": StoredType(route="int8", exact=False, growth=8 / 6.5625),
        "Q5_1": StoredType(route="int8", exact=False, growth=8 / 6),
        "Q5_0": StoredType(route="int8", exact=False, growth=8 / 5.5),
        "Q5_K": StoredType(route="int8", exact=False, growth=8 / 5.5),
        "IQ4_NL": StoredType(route="int8", exact=False, growth=8 / 4.5),
        "IQ4_XS": StoredType(route="int8", exact=False, growth=8 / 4.25),
        "Q3_K": StoredType(route="int8", exact=False, growth=8 / 3.4375),
        "Q2_K": StoredType(route="int8", exact=False, growth=8 / 2.625),
    }
)
"""GGUF tensor types as the loader places them; bits per weight from ggml's block layouts."""

OTHER_TYPE = StoredType(route="int8", exact=False, growth=4.0)
"""A type without a row: read through its dense values."""


def stored_type(name: str) -> StoredType:
    """The row of a tensor type."""
    return STORED_TYPES.get(name, OTHER_TYPE)


def stored_growth(names: frozenset[str]) -> float:
    """Upper bound of memory over file bytes for a file of those types."""
    return max((stored_type(name).growth for name in names), default=1.0)


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
    activations: ActivationFormat
    """What the inputs of the decoder's linears are rounded to for many rows; never the head's."""
    kv: KvFormat
    group_size: int
    stored_types: frozenset[str]


def runs_as_stored(names: frozenset[str]) -> bool:
    """Whether the file's own blocks are worth running: 4-bit ones exactly, or 8-bit throughout."""
    rows = {name: stored_type(name) for name in names}
    if any(row.route == "int4" for row in rows.values()):
        return True
    return {name for name, row in rows.items() if row.route != "dense"} == {"Q8_0"}


def choose_ops(target: OpTarget) -> tuple[OpChoice, ...]:
    """The table's rows for this target, in the order a token meets them."""
    return _gpu_ops(target) if target.sm else _cpu_ops(target)


def _gpu_ops(target: OpTarget) -> tuple[OpChoice, ...]:
    return (
        *_gpu_linears(target),
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
        *_gpu_row_ops(target),
    )


def _gpu_row_ops(target: OpTarget) -> tuple[OpChoice, ...]:
    ours = target.triton and target.sm >= 75
    rows = {"norm with residual": "any", "rope with cache write": "any", "gated activation": "any"}
    if ours:
        rows["rope with cache write"] = ">1"
        if target.sm >= LOWEST_TENSOR_SM:
            rows["norm with residual"] = f">{FUSED_ROWS}"
            rows["gated activation"] = f">{min(FEW_ROWS[code] for code in _codes(target))}"
    return tuple(
        OpChoice(
            op=op,
            rows=count,
            kernel="triton, one launch" if ours else "torch, several launches",
            reason="nothing between reads and writes goes through memory"
            + ("" if count == "any" else "; fewer rows: part of the kernel beside it")
            if ours
            else "the kernels do not run here",
        )
        for op, count in rows.items()
    )


def _codes(target: OpTarget) -> set[str]:
    """Stored forms of the decoder's linears, as FEW_ROWS names them."""
    if target.weights == "stored":
        return {stored_type(name).route for name in target.stored_types - {"F32"}} or {"dense"}
    return {_CODES[target.weights]}


def _gpu_linears(target: OpTarget) -> tuple[OpChoice, ...]:
    if target.weights != "stored":
        return (
            *_gpu_linear("linear", target.weights, target, target.activations),
            *_gpu_linear("head", target.head, target, "16bit"),
        )
    formats: Mapping[str, WeightFormat] = {"int4": "int4_group", "int8": "int8_channel"}
    return tuple(
        choice
        for name in sorted(target.stored_types)
        for choice in _gpu_linear(
            f"linear {name}", formats.get(stored_type(name).route, "dense"), target, "16bit"
        )
    )


def few_rows(code: str, activations: ActivationFormat) -> int:
    """Most rows for which a card reads weights as stored, code as FEW_ROWS names it."""
    return FEW_ROWS[code] if activations == "16bit" else CARD_ROWS


def _gpu_linear(
    op: str, weights: WeightFormat, target: OpTarget, activations: ActivationFormat
) -> tuple[OpChoice, ...]:
    if target.triton and target.sm >= LOWEST_TENSOR_SM:
        few = few_rows(_CODES[weights], activations)
        return (
            OpChoice(
                op=op,
                rows=f"1-{few}",
                kernel="tensor-core kernel, weights as stored",
                reason=(
                    f"few rows are bound by weight bytes; up to {FUSED_ROWS} with the norm in the "
                    "same launch"
                    + ("" if op == "head" else ", gate and residual too: five launches a layer")
                ),
            ),
            _many_rows(op, few, weights, activations),
        )
    if weights == "dense":
        return (
            OpChoice(
                op=op, rows="any", kernel="cuBLAS", reason="16-bit weights: nothing to unpack"
            ),
        )
    if not target.triton or target.sm < 75:
        why = "triton is not installed" if target.sm >= 75 else "no Triton kernels below SM 75"
        held = f"{why}: the values are held in 16 bits"
        return (OpChoice(op=op, rows="any", kernel="cuBLAS", reason=held),)
    assert weights != "fp8_channel", "fp8 is planned from SM 80 on"
    return (
        OpChoice(
            op=op,
            rows=f"1-{GEMV_ROWS}",
            kernel="triton w4a16 GEMV" if weights == "int4_group" else "triton w8a16 GEMV",
            reason="few rows are bound by weight bytes, so the codes are read packed",
        ),
        OpChoice(
            op=op,
            rows=f">{GEMV_ROWS}",
            kernel="dequantize + cuBLAS",
            reason="tl.dot has no tensor cores on SM 75, the library's fp16 product has",
        ),
    )


def _many_rows(op: str, few: int, weights: WeightFormat, activations: ActivationFormat) -> OpChoice:
    rows = f">{few}"
    if weights == "dense":
        why = "many rows are bound by arithmetic: the library's product"
        return OpChoice(op=op, rows=rows, kernel="cuBLAS", reason=why)
    if activations != "16bit":
        return OpChoice(op=op, rows=rows, kernel=PRODUCTS[activations], reason=PRODUCT_REASON)
    return OpChoice(
        op=op,
        rows=rows,
        kernel="dequantize + cuBLAS",
        reason="many rows are bound by arithmetic, where the library's product wins",
    )


def _gpu_decode_attention(target: OpTarget) -> OpChoice:
    if target.triton and target.sm >= 75:
        return OpChoice(
            op="attention, decode",
            rows="1",
            kernel="triton split-KV paged",
            reason=(
                "norms, turns and stores the new token, reads pages in place, split along the "
                "context to fill the card"
                + (f"; {target.kv} is decoded in the kernel" if target.kv != "16bit" else "")
                + ("" if target.sm >= 80 else "; sums without tl.dot, no tensor cores on SM 75")
            ),
        )
    why = "triton is not installed" if target.sm >= 75 else "no Triton kernels below SM 75"
    return OpChoice(
        op="attention, decode", rows="1", kernel="gathered pages + torch SDPA", reason=why
    )


def _cpu_ops(target: OpTarget) -> tuple[OpChoice, ...]:
    if target.weights == "stored":
        linears = _cpu_stored(target)
    else:
        linears = (
            *(
                _cpu_linear("linear", target.weights, target.group_size, target.copy)
                if target.activations == "16bit"
                else _cpu_8bit(target.activations, target.copy)
            ),
            # The head sees a row or a few: it never gets a copy.
            *_cpu_linear("head", target.head, target.group_size, None),
        )
    return (
        *linears,
        OpChoice(
            op="attention",
            rows="any",
            kernel="torch SDPA",
            reason="over the pages in place where they form one run, else gathered"
            + (f"; {target.kv} is decoded on the way" if target.kv != "16bit" else ""),
        ),
    )


def _cpu_linear(
    op: str, weights: WeightFormat, group_size: int, copy: ComputeDtype | None
) -> tuple[OpChoice, ...]:
    if weights == "dense":
        return _with_copy(op, "torch bf16 matmul", "half the bytes of fp32", copy)
    if weights == "fp8_channel":
        return _with_copy(op, "torch bf16 matmul", "fp8 values held as bf16, which is exact", copy)
    kernel, reason = (
        ("torch packed int4", f"4-bit codes read packed, group {group_size}")
        if weights == "int4_group"
        else ("torch packed int8", "8-bit codes read packed, one scale a row")
    )
    return _with_copy(op, kernel, reason, copy)


def _cpu_8bit(activations: ActivationFormat, copy: ComputeDtype | None) -> tuple[OpChoice, ...]:
    """Linears of 8-bit weights whose many-row products take 8-bit inputs."""
    name = "fp32" if copy == "float32" else "bf16"
    if activations == "fp8":
        few = _cpu_linear("linear", "fp8_channel", 0, copy)
        rounded = OpChoice(
            op="linear",
            rows=f">{CARD_ROWS}",
            kernel=f"inputs rounded to fp8 + torch {name} matmul",
            reason="as a card would round them: the same answer, no gain",
        )
        return (*few, rounded)
    return (
        OpChoice(
            op="linear",
            rows=f"1-{CPU_COPY_ROWS - 1}",
            kernel="torch packed int8",
            reason="8-bit codes read packed, one scale a row",
        ),
        OpChoice(
            op="linear",
            rows=f">={CPU_COPY_ROWS}",
            kernel="torch int8 product" if copy is None else f"torch {name} matmul of codes",
            reason="inputs rounded to int8, one scale a token"
            + ("" if copy is None else "; no int8 units here"),
        ),
    )


def _with_copy(
    op: str, kernel: str, reason: str, copy: ComputeDtype | None
) -> tuple[OpChoice, ...]:
    if copy is None:
        return (OpChoice(op=op, rows="any", kernel=kernel, reason=reason),)
    name = "bf16" if copy == "bfloat16" else "fp32"
    return (
        OpChoice(op=op, rows=f"1-{CPU_COPY_ROWS - 1}", kernel=kernel, reason=reason),
        OpChoice(
            op=op,
            rows=f">={CPU_COPY_ROWS}",
            kernel=f"torch {name} matmul on a copy",
            reason=f"many rows are bound by arithmetic, fastest in {name} here",
        ),
    )


def _cpu_stored(target: OpTarget) -> tuple[OpChoice, ...]:
    rows: list[OpChoice] = []
    for name in sorted(target.stored_types - {"F32"}):  # F32: norms and biases
        op = f"linear {name}"
        row = stored_type(name)
        if row.route == "dense":
            rows += _cpu_linear(op, "dense", 0, target.copy)
        elif row.route == "int4":
            why = "the file's groups of 32, code for code"
            rows += _with_copy(op, "torch packed int4", why, target.copy)
        else:
            why = "no packed op reads these blocks: rounded to int8, one scale a row"
            rows += _with_copy(op, "torch packed int8", why, target.copy)
    return tuple(rows)
