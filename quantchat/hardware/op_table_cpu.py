"""Which op of torch's runs each linear on a processor, and why; pure."""

from __future__ import annotations

from quantchat.hardware.op_choice import OpChoice, OpTarget
from quantchat.hardware.op_table import (
    CARD_ROWS,
    CPU_COPY_ROWS,
    TABLE_FORMATS,
    outliers_in_words,
    plain_blocks,
)
from quantchat.hardware.stored_types import stored_type
from quantchat.hardware.target import ComputeDtype
from quantchat.quant.scheme import ActivationFormat, WeightFormat


def cpu_ops(target: OpTarget) -> tuple[OpChoice, ...]:
    """The rows of a processor, in the order a token meets them."""
    if target.weights == "stored":
        linears = _stored(target)
    else:
        linears = (
            *_linears(target),
            # The head sees a row or a few: it never gets a copy.
            *_linear("head", target.head, target.group_size, None),
        )
    return (
        *linears,
        *plain_blocks(target),
        OpChoice(
            op="attention",
            rows="any",
            kernel="torch SDPA",
            reason="over the pages in place where they form one run, else gathered"
            + (f"; {target.kv} is decoded on the way" if target.kv != "16bit" else ""),
        ),
    )


def _linears(target: OpTarget) -> tuple[OpChoice, ...]:
    """The decoder's."""
    if target.all_rows:
        return _rounded(target)
    if target.activations == "16bit":
        return _linear("linear", target.weights, target.group_size, target.copy)
    return _8bit(target.activations, target.copy, static=target.static)


def _linear(
    op: str, weights: WeightFormat, group_size: int, copy: ComputeDtype | None
) -> tuple[OpChoice, ...]:
    if weights == "dense":
        return _with_copy(op, "torch bf16 matmul", "half the bytes of fp32", copy)
    if weights == "fp8_channel":
        return _with_copy(op, "torch bf16 matmul", "fp8 values held as bf16, which is exact", copy)
    if weights in TABLE_FORMATS:
        why = "no CPU op looks codes up in tables: their values held as bf16"
        return _with_copy(op, "torch bf16 matmul", why, copy)
    kernel, reason = (
        ("torch packed int4", f"4-bit codes read packed, group {group_size}")
        if weights == "int4_group"
        else ("torch packed int8", "8-bit codes read packed, one scale a row")
    )
    return _with_copy(op, kernel, reason, copy)


def _rounded(target: OpTarget) -> tuple[OpChoice, ...]:
    """Linears whose inputs are rounded to int8 however few there are."""
    why = "inputs rounded to int8 first, one scale a token" + outliers_in_words(target)
    many = ""
    if target.copy is not None:
        many = f"torch {'fp32' if target.copy == 'float32' else 'bf16'} matmul of codes"
    elif target.activations == "int8" and target.int8_units:
        many = "torch int8 product"
    few = OpChoice(
        op="linear",
        rows=f"1-{CPU_COPY_ROWS - 1}" if many else "any",
        kernel="torch packed int8",
        reason=f"8-bit codes read packed; {why}",
    )
    if not many:
        return (few,)
    return few, OpChoice(op="linear", rows=f">={CPU_COPY_ROWS}", kernel=many, reason=why)


def _8bit(
    activations: ActivationFormat, copy: ComputeDtype | None, *, static: bool
) -> tuple[OpChoice, ...]:
    """Linears of 8-bit weights whose many-row products take 8-bit inputs."""
    name = "fp32" if copy == "float32" else "bf16"
    if activations == "fp8":
        few = _linear("linear", "fp8_channel", 0, copy)
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
            reason=f"inputs rounded to int8, one scale a {'linear' if static else 'token'}"
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


def _stored(target: OpTarget) -> tuple[OpChoice, ...]:
    rows: list[OpChoice] = []
    for name in sorted(target.stored_types - {"F32"}):  # F32: norms and biases
        op = f"linear {name}"
        row = stored_type(name)
        if row.route == "dense":
            rows += _linear(op, "dense", 0, target.copy)
        elif row.route == "int4":
            why = "the file's groups, code for code"
            rows += _with_copy(op, "torch packed int4", why, target.copy)
        elif row.route == "int8":
            why = (
                "the file's codes, one scale a row"
                if row.exact
                else "no packed op reads these blocks: rounded to int8, one scale a row"
            )
            rows += _with_copy(op, "torch packed int8", why, target.copy)
        else:
            rows += _linear(op, "codebook4" if row.route == "table4" else "dense", 0, target.copy)
    return tuple(rows)
