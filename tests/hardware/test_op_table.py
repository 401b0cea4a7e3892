"""The table against the ops that it speaks of."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
import torch
from machines import ZEN3, ZEN5, machine

from quantchat.hardware.op_table import (
    CARD_ROWS,
    CPU_COPY_ROWS,
    FEW_ROWS,
    FUSED_ROWS,
    GEMV_ROWS,
    LOWEST_TENSOR_SM,
    MANY_ROWS,
    WIDE_ROWS,
)
from quantchat.hardware.plan import PlanRequest, plan
from quantchat.hardware.stored_types import STORED_TYPES, runs_as_stored, stored_growth
from quantchat.quant.codebook_rounding import nf4, nf4_dq
from quantchat.quant.progressive_rounding import progressive
from quantchat.quant.rounding import fp8_channel, int4_group, int8_channel
from quantchat.quant.sparse_rounding import lut_weight
from quantchat.quant.tensor import DenseWeight, StoredWeight
from quantchat.shapes import SHAPES


def test_row_limits_are_those_of_the_ops() -> None:
    from quantchat.kernels.linear.launch import CODE_NAMES, MAX_ROWS
    from quantchat.kernels.w8a16 import tiles as int8_tiles
    from quantchat.kernels.wna16 import tiles as int4_tiles

    from quantchat.engine.warming import PROMPTS
    from quantchat.ops import triton_ops
    from quantchat.ops.linear_8bit import INT8_LOWEST_ROWS
    from quantchat.ops.linear_cpu import COPY_ROWS

    assert CPU_COPY_ROWS == COPY_ROWS
    assert GEMV_ROWS == int4_tiles.MAX_ROWS == int8_tiles.MAX_ROWS
    assert set(FEW_ROWS) == set(CODE_NAMES) and max(FEW_ROWS.values()) <= MAX_ROWS
    assert all(most > FEW_ROWS[code] for code, most in MANY_ROWS.items())
    assert all(most > MANY_ROWS[code] for code, most in WIDE_ROWS.items())
    stored = {*FEW_ROWS.values(), *MANY_ROWS.values(), *WIDE_ROWS.values()}
    limits = sorted({1, FUSED_ROWS, CARD_ROWS, *stored})
    for low, high in itertools.pairwise((0, *limits, 2048)):
        assert any(low < count <= high for count in PROMPTS), f"{low + 1} to {high} rows"
    assert INT8_LOWEST_ROWS <= CARD_ROWS + 1
    assert triton_ops.FUSED_ROWS == FUSED_ROWS <= min(FEW_ROWS.values())


def test_lowest_sm_is_that_of_the_kernels() -> None:
    from quantchat.kernels._launch import LOWEST_ASM_SM, LOWEST_DOT_SM
    from quantchat.kernels.linear.launch import LOWEST_SM

    assert (LOWEST_ASM_SM, LOWEST_DOT_SM) == (75, 80)
    assert LOWEST_TENSOR_SM == LOWEST_SM


@pytest.mark.parametrize("name", sorted(STORED_TYPES))
def test_stored_types_become_what_the_table_says(name: str) -> None:
    import numpy as np
    import torch
    from ggml_quantize import quantize

    from quantchat.checkpoints.ggml.dequantize import dequantize
    from quantchat.quant.ggml import stored_from_ggml
    from quantchat.quant.tensor import (
        DenseWeight,
        Fp8ChannelWeight,
        Int4GroupWeight,
        Int8ChannelWeight,
    )

    row = STORED_TYPES[name]
    n, k = 16, 4096
    values = np.random.default_rng(3).normal(size=(n, k)).astype(np.float32)
    kinds = {
        "int4": Int4GroupWeight,
        "int8": Int8ChannelWeight,
        "fp8": Fp8ChannelWeight,
        "dense": DenseWeight,
    }
    if row.route == "dense":
        dtype = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[name]
        raw = torch.from_numpy(values).to(dtype).view(torch.uint8).flatten()
    else:
        raw = torch.from_numpy(np.ascontiguousarray(quantize(values, name))).view(-1)
    weight, error = stored_from_ggml(raw, name, (n, k))
    assert isinstance(weight, kinds[row.route])
    if row.route == "dense":
        return
    assert (error < 2e-3) == row.exact
    assert weight.nbytes / raw.nbytes == pytest.approx(row.growth, rel=0.07)
    if row.exact:
        dense = dequantize(raw.view(n, -1), name)
        assert torch.allclose(weight.dequantize(torch.float32), dense, atol=2e-2)


WEIGHTS: dict[str, Callable[[torch.Tensor], StoredWeight]] = {
    "fp16": lambda values: DenseWeight(values.bfloat16()),
    "int8": int8_channel,
    "w8a8": int8_channel,
    "fp8": fp8_channel,
    "int4": lambda values: int4_group(values, 64),
    "nf4": nf4,
    "nf4-dq": nf4_dq,
    "squeezellm": lambda values: lut_weight(values, None, 4, 0.02),
    "squeezellm-3": lambda values: lut_weight(values, None, 3, 0.02),
    "llm-int8": int8_channel,
    "qoq": lambda values: progressive(values, 64),
    "qoq-channel": lambda values: progressive(values, 0),
}
"""Scheme -> its rounding."""


@pytest.mark.parametrize("scheme", WEIGHTS)
@pytest.mark.parametrize("isa", [ZEN3, ZEN5])
def test_cpu_kernels_are_those_that_the_cpu_linear_picks(scheme: str, isa: frozenset[str]) -> None:
    from quantchat.ops.linear_cpu import cpu_linear

    made = plan(machine(isa=isa), SHAPES["smollm2-135m"], PlanRequest(scheme=scheme))
    weight = WEIGHTS[scheme](torch.randn(32, 64, generator=torch.Generator().manual_seed(1)))
    dtypes = {"bfloat16": torch.bfloat16, "float32": torch.float32}
    op = cpu_linear(
        weight,
        None,
        dtype=dtypes[made.compute_dtype],
        copy_dtype=None if made.copy_dtype is None else dtypes[made.copy_dtype],
        activations=made.activations,
        all_rows=made.all_rows,
    )
    rows = [choice for choice in made.ops if choice.op == "linear"]
    assert (
        op.kernel
        in {
            "torch bf16 matmul": ("dense bfloat16", "fp8 values in bfloat16"),
            "torch packed int8": (
                "packed int8",
                "packed int8, int8 products",
                "packed int8, rounded inputs",
            ),
            "torch packed int4": ("packed int4",),
        }[rows[0].kernel]
    )
    products = [choice for choice in rows if "copy" in choice.kernel or "of codes" in choice.kernel]
    assert (len(products) == 1) == (op.copy_bytes > 0)


@pytest.mark.parametrize("name", ["T4", "A100", "4060Ti", "H100", "5090"])
@pytest.mark.parametrize("scheme", WEIGHTS)
def test_card_kernels_are_those_that_the_card_linear_picks(
    name: str, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from quantchat.ops import linear_8bit, linear_cuda, linear_tiles
    from quantchat.ops.linear_tiles import TileLinear

    card = machine(name)
    sm = card.gpus[0].sm
    if scheme == "fp8" and sm < LOWEST_TENSOR_SM:
        pytest.skip("not planned there")
    monkeypatch.setattr(linear_cuda, "sm_version", lambda device: sm)
    monkeypatch.setattr(linear_8bit, "sm_version", lambda device: sm)
    monkeypatch.setattr(linear_tiles, "sm_version", lambda device: sm)
    made = plan(card, SHAPES["smollm2-135m"], PlanRequest(scheme=scheme))
    weight = WEIGHTS[scheme](torch.randn(32, 64, generator=torch.Generator().manual_seed(1)))
    op = linear_cuda.cuda_linear(
        weight,
        None,
        dtype={"float16": torch.float16, "bfloat16": torch.bfloat16}[made.compute_dtype],
        gated=False,
        activations=made.activations,
        all_rows=made.all_rows,
        dependent=made.dependent_launch,
    )
    rows = {choice.rows: choice.kernel for choice in made.ops if choice.op == "linear"}
    few, many = next(iter(rows.values())), [*rows.values()][-1]
    assert isinstance(op, TileLinear) == few.startswith("tensor-core")
    if isinstance(op, TileLinear):
        between = [f"{op.few_rows + 1}-{op.stored_rows}"] if op.stored_rows > op.few_rows else []
        assert list(rows) == [f"1-{op.few_rows}", *between, f">{op.stored_rows}"]
        assert not between or (op.codes_read is None and op.code in MANY_ROWS)
        products = {None: ("cuBLAS", "dequantize + cuBLAS")}
        products |= {form: (f"quantize + {form} product",) for form in ("int8", "fp8")}
        if made.scheme.weights == "progressive4":
            products["int8"] = ("expand + int8 product",)
        assert many in products[op.codes_read]
    else:
        assert few == ("cuBLAS" if op.kernel.startswith("dense") else op.kernel)


def test_what_is_worth_running_as_stored() -> None:
    assert runs_as_stored(frozenset({"Q4_1", "Q8_0", "F32"}))
    assert runs_as_stored(frozenset({"Q4_K", "Q6_K", "F32"}))
    assert runs_as_stored(frozenset({"Q8_0", "F32"}))
    assert not runs_as_stored(frozenset({"Q6_K", "Q8_0", "F32"}))
    assert not runs_as_stored(frozenset({"F16", "F32"}))
    assert not runs_as_stored(frozenset())
    assert stored_growth(frozenset({"Q4_1", "Q8_0", "F32"})) == 1
    assert stored_growth(frozenset({"Q4_K", "Q6_K"})) == pytest.approx(1.219, abs=1e-3)
    assert stored_growth(frozenset({"Q4_K", "IQ1_S"})) == 4
