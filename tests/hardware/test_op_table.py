"""The table against the ops that it speaks of."""

from __future__ import annotations

import pytest
from machines import ZEN3, ZEN5, machine

from quantchat.hardware.op_table import (
    CPU_COPY_ROWS,
    GEMV_ROWS,
    STORED_TYPES,
    runs_as_stored,
    stored_growth,
)
from quantchat.hardware.plan import PlanRequest, plan
from quantchat.shapes import SHAPES


def test_row_limits_are_those_of_the_ops() -> None:
    from quantchat.kernels.w8a16 import tiles as int8_tiles
    from quantchat.kernels.wna16 import tiles as int4_tiles

    from quantchat.ops.linear_cpu import COPY_ROWS

    assert CPU_COPY_ROWS == COPY_ROWS
    assert GEMV_ROWS == int4_tiles.MAX_ROWS == int8_tiles.MAX_ROWS


def test_lowest_sm_is_that_of_the_kernels() -> None:
    from quantchat.kernels._launch import LOWEST_ASM_SM, LOWEST_DOT_SM

    assert (LOWEST_ASM_SM, LOWEST_DOT_SM) == (75, 80)


@pytest.mark.parametrize("name", sorted(STORED_TYPES))
def test_stored_types_become_what_the_table_says(name: str) -> None:
    import numpy as np
    import torch
    from ggml_quantize import quantize

    from quantchat.checkpoints.ggml.dequantize import dequantize
    from quantchat.quant.ggml import stored_from_ggml
    from quantchat.quant.tensor import DenseWeight, Int4GroupWeight, Int8ChannelWeight

    row = STORED_TYPES[name]
    n, k = 16, 4096
    values = np.random.default_rng(3).normal(size=(n, k)).astype(np.float32)
    kinds = {"int4": Int4GroupWeight, "int8": Int8ChannelWeight, "dense": DenseWeight}
    if row.route == "dense":
        dtype = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}[name]
        raw = torch.from_numpy(values).to(dtype).view(torch.uint8).flatten()
    else:
        raw = torch.from_numpy(np.ascontiguousarray(quantize(values, name))).view(-1)
    weight, error = stored_from_ggml(raw, name, (n, k))
    assert isinstance(weight, kinds[row.route])
    if row.route == "dense":
        return
    assert (error == 0) == row.exact
    assert weight.nbytes / raw.nbytes == pytest.approx(row.growth, rel=0.07)
    if row.exact:
        dense = dequantize(raw.view(n, -1), name)
        assert torch.allclose(weight.dequantize(torch.float32), dense, atol=2e-2)


@pytest.mark.parametrize("scheme", ["fp16", "int8", "int4", "fp8", "w8a8"])
@pytest.mark.parametrize("isa", [ZEN3, ZEN5])
def test_cpu_kernels_are_those_that_the_cpu_linear_picks(scheme: str, isa: frozenset[str]) -> None:
    import torch

    from quantchat.ops.linear_cpu import cpu_linear
    from quantchat.quant.rounding import fp8_channel, int4_group, int8_channel
    from quantchat.quant.tensor import DenseWeight

    made = plan(machine(isa=isa), SHAPES["smollm2-135m"], PlanRequest(scheme=scheme))
    values = torch.randn(32, 64, generator=torch.Generator().manual_seed(1))
    weight = {
        "fp16": lambda: DenseWeight(values.bfloat16()),
        "int8": lambda: int8_channel(values),
        "w8a8": lambda: int8_channel(values),
        "fp8": lambda: fp8_channel(values),
        "int4": lambda: int4_group(values, 64),
    }[scheme]()
    dtypes = {"bfloat16": torch.bfloat16, "float32": torch.float32}
    op = cpu_linear(
        weight,
        None,
        dtype=dtypes[made.compute_dtype],
        copy_dtype=None if made.copy_dtype is None else dtypes[made.copy_dtype],
        activations=made.activations,
    )
    rows = [choice for choice in made.ops if choice.op == "linear"]
    assert (
        op.kernel
        in {
            "torch bf16 matmul": ("dense bfloat16", "fp8 values in bfloat16"),
            "torch packed int8": ("packed int8", "packed int8, int8 products"),
            "torch packed int4": ("packed int4",),
        }[rows[0].kernel]
    )
    products = [choice for choice in rows if "copy" in choice.kernel or "of codes" in choice.kernel]
    assert (len(products) == 1) == (op.copy_bytes > 0)


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
