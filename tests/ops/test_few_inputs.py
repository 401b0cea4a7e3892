"""Inputs rounded before a card's linears: which are, how often, and what the linear is told."""

from __future__ import annotations

import pytest

pytest.importorskip("triton")

import torch
from quantchat.kernels.linear.launch import RowWeight
from quantchat.kernels.linear.reference import linear as linear_reference
from quantchat.kernels.linear.reference import squares_of
from quantchat.kernels.quantize import reference

from quantchat.ops import few_inputs, linear_tiles, triton_ops
from quantchat.ops.few_inputs import FewInputs, InputRounding, run_rows
from quantchat.ops.linear import StackedLinear
from quantchat.ops.linear_cuda import cuda_linear
from quantchat.ops.linear_tiles import TileLinear, tile_linear
from quantchat.ops.stream import Stream
from quantchat.ops.triton_ops import TritonOps
from quantchat.quant.rounding import int8_channel
from quantchat.quant.scheme import ActivationFormat
from quantchat.quant.tensor import DenseWeight, StoredWeight
from quantchat.shapes import SHAPES

COLUMNS, OUTPUTS = 96, 48


class Launches:
    """Counts of the kernels that torch stands in for."""

    def __init__(self) -> None:
        self.prepared = 0
        self.rounded = 0
        self.scaled: list[bool] = []


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> Launches:
    count = Launches()

    def few(
        x: torch.Tensor, weight: RowWeight, *, row_scale: torch.Tensor | None, **options: object
    ) -> torch.Tensor:
        count.scaled.append(row_scale is not None)
        dense = weight.codes.float()
        if weight.scale is not None:
            dense = dense * weight.scale[:, None]
        squares, eps, gated = options["squares"], options["eps"], options["gated"]
        assert squares is None or isinstance(squares, torch.Tensor)
        assert isinstance(eps, float) and (row_scale is None or (squares is None and eps == 0))
        y = linear_reference(x, dense, squares=squares, eps=eps)
        y = y if row_scale is None else y * row_scale[:, None]
        if gated:
            gate, up = y.chunk(2, dim=-1)
            y = torch.nn.functional.silu(gate) * up
        out = options["out"]
        return y.to(x.dtype) if out is None else out.copy_(y)  # type: ignore[attr-defined,no-any-return]

    def prepare(
        x: torch.Tensor, *, dependent: bool, **options: object
    ) -> tuple[torch.Tensor, torch.Tensor]:
        count.prepared += 1
        assert dependent
        return reference.prepare_rows(x, **options)  # type: ignore[arg-type]

    def rounded(x: torch.Tensor, *, threshold: float | None) -> torch.Tensor:
        count.rounded += 1
        return reference.round_rows(x, threshold=threshold)

    def between(
        x: torch.Tensor, weight: RowWeight, *, bias: torch.Tensor | None = None
    ) -> torch.Tensor:
        assert weight.scale is not None
        y = x.float() @ (weight.codes * weight.scale[:, None]).t()
        return (y if bias is None else y + bias.float()).to(x.dtype)

    def dense(codes: torch.Tensor, scale: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
        return reference.dequantize_weight(codes, scale, dtype)

    monkeypatch.setattr(linear_tiles, "linear", few)
    monkeypatch.setattr(linear_tiles, "linear_many", between)
    monkeypatch.setattr(linear_tiles, "dequantize_weight", dense)
    monkeypatch.setattr(few_inputs, "prepare_rows", prepare)
    monkeypatch.setattr(few_inputs, "round_rows", rounded)
    return count


def made(weight: StoredWeight, *, gated: bool = False) -> TileLinear:
    op = tile_linear(
        weight,
        None,
        dtype=torch.float16,
        gated=gated,
        activations="int8_outliers",
        dependent=True,
    )
    assert op is not None
    return op


def outlying(rows: int) -> torch.Tensor:
    x = torch.randn(rows, COLUMNS)
    x[:, 5] = 30
    return x.half()


def truth(x: torch.Tensor, weight: StoredWeight) -> torch.Tensor:
    prepared, scale = reference.prepare_rows(x.float(), threshold=6.0)
    return prepared * scale[:, None] @ weight.dequantize(torch.float32).t()


def close(got: torch.Tensor, wanted: torch.Tensor, limit: float = 2e-3) -> None:
    assert float((got.float() - wanted).norm() / wanted.norm()) < limit


def test_int8_weights_alone_get_rounded_inputs(launches: Launches) -> None:
    torch.manual_seed(1)
    rounding = InputRounding.of("int8_outliers")
    weight = int8_channel(torch.randn(OUTPUTS, COLUMNS))
    eight, dense = made(weight), made(DenseWeight(torch.randn(OUTPUTS, COLUMNS)))
    for op, scaled in ((eight, True), (dense, False)):
        x = outlying(3)
        run_rows(op, x, rounding, True)
        assert launches.scaled.pop() is scaled
    close(run_rows(eight, x, rounding, True), truth(x, weight))
    run_rows(eight, x, None, True)
    assert launches.scaled[-1] is False


def test_many_rows_are_put_back_and_multiplied_in_16_bits(launches: Launches) -> None:
    weight = int8_channel(torch.randn(OUTPUTS, COLUMNS))
    op = made(weight)
    for rows in (op.few_rows + 1, op.stored_rows + 1):
        x = outlying(rows)
        close(run_rows(op, x, InputRounding.of("int8_outliers"), True), truth(x, weight))
    assert launches.rounded == 2 and not launches.prepared and not launches.scaled


def test_stacked_linears_share_their_rounded_inputs(launches: Launches) -> None:
    weights = [int8_channel(torch.randn(OUTPUTS, COLUMNS)) for _ in range(3)]
    residual = outlying(2) * 3
    inputs = FewInputs(
        residual, squares_of(residual), 1e-5, InputRounding.of("int8_outliers"), True
    )
    normed = residual.float() / (residual.float().square().mean(-1, keepdim=True) + 1e-5).sqrt()
    for weight in weights:
        close(inputs.through(made(weight)), truth(normed, weight))
    assert launches.prepared == 1 and launches.scaled == [True] * 3


@pytest.mark.parametrize("all_rows", [False, True])
def test_every_linear_of_a_layer_but_never_the_head(
    all_rows: bool, launches: Launches, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(3)
    for module in (triton_ops, few_inputs):
        monkeypatch.setattr(module, "sm_version", lambda device: 90, raising=False)
    activations: ActivationFormat = "int8_outliers"
    spec = SHAPES["smollm2-135m"]
    ops = TritonOps(
        spec,
        device=torch.device("cpu"),
        dtype=torch.float16,
        dependent_launch=True,
        activations=activations,
        all_rows=all_rows,
    )
    weight = int8_channel(torch.randn(OUTPUTS, COLUMNS))
    op, wide = made(weight), made(int8_channel(torch.randn(2 * OUTPUTS, COLUMNS)), gated=True)
    residual = outlying(1) * 3
    stream = Stream(residual=residual, scaled=residual, squares=squares_of(residual))
    norm = torch.ones(COLUMNS)
    stacked = StackedLinear([op, op, op])
    one = ops.project(stream, norm, op)
    assert torch.equal(ops.project(stream, norm, stacked), torch.cat([one] * 3, dim=-1))
    ops.gate(stream, norm, wide, op)
    assert launches.prepared == (3 if all_rows else 0)
    assert launches.scaled == [all_rows] * 5
    normed = (
        residual.float() / (residual.float().square().mean(-1, keepdim=True) + spec.norm_eps).sqrt()
    )
    wanted = normed @ weight.dequantize(torch.float32).t()
    close(ops.head_logits(stream, norm, op), wanted)
    assert launches.scaled[-1] is False
    if all_rows:
        close(one, truth(normed, weight))
        stream.residual = torch.zeros(1, OUTPUTS).half()
        ops.advance(stream, outlying(1), op, torch.ones(OUTPUTS))
        assert launches.scaled[-1] is True and stream.pending is None


def test_shapes_that_no_kernel_takes_are_rounded_by_the_op(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = int8_channel(torch.randn(OUTPUTS, 97))
    op = cuda_linear(
        weight,
        None,
        dtype=torch.float32,
        gated=False,
        activations="int8_outliers",
        all_rows=True,
        dependent=False,
    )
    x = torch.randn(2, 97) * 3
    close(op(x), truth(x, weight), 1e-5)
    assert run_rows(op, x, InputRounding.of("int8_outliers"), False).equal(op(x))
