"""Which kernel family runs each op on a card, and why: one table for what the engine does.

Owns the words and the row limits; pure. The engine's dispatch reads the same limits.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from quantchat.hardware.op_choice import OpChoice, OpTarget
from quantchat.hardware.stored_types import stored_growth as stored_growth
from quantchat.hardware.stored_types import stored_type
from quantchat.quant.scheme import OUTLIER_THRESHOLD, ActivationFormat, WeightFormat

FEW_ROWS: Mapping[str, int] = MappingProxyType(
    {
        "int4": 64,
        "int8": 48,
        "fp8": 48,
        "dense": 8,
        "table4": 64,
        "progressive4": 48,
    }
)
"""From SM 80 on: most rows that weights are read for as stored; above, the library is faster.

Measured on an H100 with the linears of Llama-3.1-8B; tables as int4, which costs the same above;
progressive4 by the bytes that its int8 codes take to make and to read."""
MANY_ROWS: Mapping[str, int] = MappingProxyType({"int4": 384, "int8": 384})
"""From SM 80 on: up to so many rows a second kernel multiplies 16-bit inputs with weights as stored;
above, the library on weights made dense is faster.

Measured on an H100 with the linears of Llama-3.1-8B: 8.3 ms for int4 and 128 rows against the
library's 12.9, 10.6 against 13.8 for 256, 17.3 against 16.4 for 512; int8 alike."""
WIDE_ROWS: Mapping[str, int] = MappingProxyType({"int4": 1024})
"""The same on cards of SM version WIDE_SM, by a kernel of warpgroup products.

Measured on an H100 in fp16: 6.5 ms for 256 rows, the library's product alone 6.6; 11.3 against 10.0
for 512, 22.5 against 19.2 for 1024, before the 6.8 that making the weights dense takes."""
WIDE_SM = 90
FUSED_ROWS = 8
"""From SM 80 on: up to this many rows no norm runs by itself."""
LOWEST_KERNEL_SM = 75
"""First card of our Triton kernels."""
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
STATIC_REASON = "twice the rate of 16 bits; one scale a linear, fixed by calibration"

EXPERTS = "experts"
BANKED = frozenset({"int4", "int8", "dense"})
"""Stored forms of experts, as FEW_ROWS names them, that one launch chooses between."""
UNGATED = frozenset({"gelu activation", "an MLP without gate"})
"""Departures of a spec by which the activation is a launch of its own."""
TABLE_FORMATS: frozenset[WeightFormat] = frozenset({"codebook4", "lut4", "lut3"})
"""Codes that are looked up."""
CODES: Mapping[WeightFormat, str] = MappingProxyType(
    {
        "int4_group": "int4",
        "int8_channel": "int8",
        "fp8_channel": "fp8",
        "dense": "dense",
        "codebook4": "table4",
        "lut4": "table4",
        "lut3": "table4",
        "progressive4": "progressive4",
    }
)
"""Stored formats as FEW_ROWS names them."""


def card_ops(target: OpTarget) -> tuple[OpChoice, ...]:
    """The rows of a card, in the order a token meets them."""
    return (
        *_gpu_linears(target),
        *plain_blocks(target),
        *_experts(target),
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


def captures(target: OpTarget) -> bool:
    """Whether a decode step on a card with kernels reads nothing back."""
    if EXPERTS not in target.departures:
        return True
    if target.sm < LOWEST_TENSOR_SM or target.activations != "16bit":
        return False
    return _gate_rides(target) and _codes(target) <= BANKED


def _experts(target: OpTarget) -> tuple[OpChoice, ...]:
    """The rows of experts."""
    if EXPERTS not in target.departures:
        return ()
    few = f"1-{FUSED_ROWS}"
    if not target.triton or not captures(target):
        why = "which ones a token takes is read back"
        return (OpChoice(op="experts", rows=few, kernel="linear by linear", reason=why),)
    found = "a launch finds its weights by the router"
    ordered = "rows are put in the order of their experts; each block of them reads one's weights"
    return (
        OpChoice(op="experts", rows=few, kernel="linear, chosen on the device", reason=found),
        OpChoice(op="experts", rows=f">{FUSED_ROWS}", kernel="triton, grouped", reason=ordered),
    )


def plain_blocks(target: OpTarget) -> tuple[OpChoice, ...]:
    """The row of blocks that are run one op at a time, none for Llama's."""
    if not target.departures:
        return ()
    ours = target.triton and target.sm >= LOWEST_KERNEL_SM
    return (
        OpChoice(
            op="norms and sums",
            rows="any",
            kernel="triton, one launch" if ours else "torch, one op at a time",
            reason=f"this model's blocks: {', '.join(target.departures)}",
        ),
    )


def _no_kernels(target: OpTarget) -> str:
    """Why our kernels do not run, in a few words."""
    if target.sm < LOWEST_KERNEL_SM:
        return f"no Triton kernels below SM {LOWEST_KERNEL_SM}"
    return "triton is not installed"


def _gate_rides(target: OpTarget) -> bool:
    """Whether the linear of gate and up applies the activation."""
    return UNGATED.isdisjoint(target.departures)


def _gpu_row_ops(target: OpTarget) -> tuple[OpChoice, ...]:
    ours = target.triton and target.sm >= LOWEST_KERNEL_SM
    rows = {"norm with residual": "any", "rope with cache write": "any", "gated activation": "any"}
    if target.departures:
        del rows["norm with residual"]
    if ours:
        rows["rope with cache write"] = ">1"
        if target.sm >= LOWEST_TENSOR_SM:
            if not target.departures:
                rows["norm with residual"] = f">{FUSED_ROWS}"
            if _gate_rides(target):
                rows["gated activation"] = f">{min(FEW_ROWS[code] for code in _codes(target))}"
    prepared = (
        OpChoice(
            op="inputs to int8",
            rows="any",
            kernel="triton, one launch",
            reason="one scale a token" + outliers_in_words(target),
        ),
    )
    return (prepared if target.all_rows else ()) + tuple(
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
    return {CODES[target.weights]}


def _gpu_linears(target: OpTarget) -> tuple[OpChoice, ...]:
    if target.weights != "stored":
        return (
            *_gpu_linear("linear", target.weights, target, target.activations),
            *_gpu_linear("head", target.head, target, "16bit"),
        )
    formats: dict[str, WeightFormat] = {"int4": "int4_group", "int8": "int8_channel"}
    if target.triton and target.sm >= LOWEST_TENSOR_SM:
        formats |= {"fp8": "fp8_channel", "table4": "codebook4", "progressive4": "progressive4"}
    return tuple(
        choice
        for name in sorted(target.stored_types)
        for choice in _gpu_linear(
            f"linear {name}", formats.get(stored_type(name).route, "dense"), target, "16bit"
        )
    )


def outliers_in_words(target: OpTarget) -> str:
    """Which inputs are not rounded, as the end of a sentence; empty where all are."""
    if target.activations != "int8_outliers":
        return ""
    return f"; inputs of {OUTLIER_THRESHOLD:g} and above stay in 16 bits, token by token"


def few_rows(code: str, activations: ActivationFormat) -> int:
    """Most rows for which a card reads weights as stored, code as FEW_ROWS names it.

    Where inputs of more rows are rounded, this says from which row on they are; schemes that round
    them always (int8_outliers, progressive4) go by speed alone.
    """
    if activations in ("16bit", "int8_outliers") or code == "progressive4":
        return FEW_ROWS[code]
    return CARD_ROWS


def stored_rows(code: str, activations: ActivationFormat, sm: int) -> int:
    """Most rows for which some kernel of an SM version reads weights as stored."""
    few = few_rows(code, activations)
    if activations not in ("16bit", "int8_outliers"):
        return few
    if sm == WIDE_SM and code in WIDE_ROWS:
        return WIDE_ROWS[code]
    return MANY_ROWS.get(code, few)


def _gpu_linear(
    op: str, weights: WeightFormat, target: OpTarget, activations: ActivationFormat
) -> tuple[OpChoice, ...]:
    sparse = target.sparse and weights in TABLE_FORMATS
    if target.triton and target.sm >= LOWEST_TENSOR_SM:
        few = few_rows(CODES[weights], activations)
        stored = stored_rows(CODES[weights], activations, target.sm)
        between = (
            OpChoice(
                op=op,
                rows=f"{few + 1}-{stored}",
                kernel="triton, weights as stored",
                reason="making weights dense would take longer than the product"
                + ("; inputs are rounded and put back" if activations == "int8_outliers" else ""),
            ),
        )
        return (
            OpChoice(
                op=op,
                rows=f"1-{few}",
                kernel="tensor-core kernel, weights as stored",
                reason=(
                    "few rows are bound by weight bytes"
                    + _folded_in(op, target)
                    + ("; entries kept apart come from a kernel of their own" if sparse else "")
                ),
            ),
            *(between if stored > few else ()),
            _many_rows(op, stored, weights, activations, target, sparse=sparse),
        )
    if weights == "dense":
        return (
            OpChoice(
                op=op, rows="any", kernel="cuBLAS", reason="16-bit weights: nothing to unpack"
            ),
        )
    if not target.triton or target.sm < LOWEST_KERNEL_SM:
        held = f"{_no_kernels(target)}: the values are held in 16 bits"
        return (OpChoice(op=op, rows="any", kernel="cuBLAS", reason=held),)
    if weights in TABLE_FORMATS or weights == "progressive4":
        held = (
            f"the kernel that reads its codes needs SM {LOWEST_TENSOR_SM}: values held in 16 bits"
        )
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


def _folded_in(op: str, target: OpTarget) -> str:
    """What a linear of few rows does besides, as the end of a sentence."""
    if target.departures:
        return "; the gate in the same launch" if op != "head" and _gate_rides(target) else ""
    norm = f"; up to {FUSED_ROWS} with the norm in the same launch"
    return norm + ("" if op == "head" else ", gate and residual too: five launches a layer")


def _many_rows(
    op: str,
    few: int,
    weights: WeightFormat,
    activations: ActivationFormat,
    target: OpTarget,
    *,
    sparse: bool,
) -> OpChoice:
    rows = f">{few}"
    if weights == "dense":
        why = "many rows are bound by arithmetic: the library's product"
        return OpChoice(op=op, rows=rows, kernel="cuBLAS", reason=why)
    if weights == "progressive4" and activations == "int8":
        why = "codes are expanded to the int8 codes that they stand for: twice the rate of 16 bits"
        return OpChoice(op=op, rows=rows, kernel="expand + int8 product", reason=why)
    if activations in PRODUCTS:
        why = STATIC_REASON if target.static else PRODUCT_REASON
        return OpChoice(op=op, rows=rows, kernel=PRODUCTS[activations], reason=why)
    return OpChoice(
        op=op,
        rows=rows,
        kernel="dequantize + cuBLAS",
        reason="many rows are bound by arithmetic, where the library's product wins"
        + ("; entries kept apart are added first" if sparse else "")
        + ("; inputs are rounded and put back" if activations == "int8_outliers" else ""),
    )


def _gpu_decode_attention(target: OpTarget) -> OpChoice:
    if target.triton and not captures(target):
        return OpChoice(
            op="attention, decode",
            rows="1",
            kernel="gathered pages + torch SDPA",
            reason="steps with experts are launched op by op",
        )
    if target.triton and target.sm >= LOWEST_KERNEL_SM:
        return OpChoice(
            op="attention, decode",
            rows="1",
            kernel="triton split-KV paged",
            reason=(
                "norms, turns and stores the new token, reads pages in place, split along the "
                "context to fill the card"
                + (f"; {target.kv} is decoded in the kernel" if target.kv != "16bit" else "")
                + ("; q and k are turned in a launch before" if target.kv == "int4r" else "")
                + ("" if target.sm >= 80 else "; sums without tl.dot, no tensor cores on SM 75")
            ),
        )
    return OpChoice(
        op="attention, decode",
        rows="1",
        kernel="gathered pages + torch SDPA",
        reason=_no_kernels(target),
    )
