"""Every GPU kernel against its torch reference on fresh random data and poisoned outputs.

Owns cases and their tolerances; the kernel benchmark and the GPU tests run them. A case that
fails means that no timing is worth printing.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch

from quantchat.bench.kernel_scope import OLD_CARDS, Scope
from quantchat.bench.record import KernelGate
from quantchat.shapes import SHAPES

TOLERANCE = {torch.float16: 1.5e-3, torch.bfloat16: 4e-3}
"""Largest ||out - reference|| / ||reference||; one rounding of the result gives a third of it."""
_POISON = float("nan")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One kernel call on one shape."""

    name: str
    run: Callable[[], list[tuple[torch.Tensor, torch.Tensor]]]
    """Runs kernel and reference; pairs of result and truth."""
    tolerance: float
    part: str = ""
    """What has to be in use for the case to matter, as scopes name it; empty: it always does."""

    def error(self) -> float:
        """Largest relative error over the results; NaN where something was not written."""
        worst = 0.0
        for result, truth in self.run():
            wide = truth.double()
            error = float((result.double() - wide).norm() / wide.norm().clamp_min(1e-30))
            if math.isnan(error):
                return error
            worst = max(worst, error)
        return worst


def _poisoned(*shape: int, dtype: torch.dtype, device: torch.device) -> torch.Tensor:
    return torch.full(shape, _POISON, dtype=dtype, device=device)


def int4_weights(
    outputs: int, columns: int, group: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random words, scale and offset of a linear."""
    words = torch.randint(
        -(2**31), 2**31, (outputs, columns // 8), dtype=torch.int32, device=device
    )
    scale = torch.rand(outputs, columns // group, device=device) * 0.01 + 0.001
    zero = torch.rand(outputs, columns // group, device=device) * 15
    return words, scale.half(), (-scale * zero).half()


def int8_weights(
    outputs: int, columns: int, device: torch.device
) -> tuple[torch.Tensor, torch.Tensor]:
    """Random codes and scale of a linear."""
    codes = torch.randint(-128, 128, (outputs, columns), dtype=torch.int8, device=device)
    return codes, torch.rand(outputs, device=device) * 0.001 + 0.0001


def _linear_cases(device: torch.device, dtype: torch.dtype) -> Iterator[Case]:
    from quantchat.kernels.quantize.dense import dequantize_weight
    from quantchat.kernels.quantize.reference import dequantize_weight as dense_reference
    from quantchat.kernels.w8a16 import gemv as w8_gemv
    from quantchat.kernels.w8a16 import reference as w8_reference
    from quantchat.kernels.wna16 import dequantize as w4_dequantize
    from quantchat.kernels.wna16 import gemv as w4_gemv
    from quantchat.kernels.wna16 import reference as w4_reference

    def inputs(rows: int, outputs: int, columns: int) -> tuple[torch.Tensor, ...]:
        x = torch.randn(rows, columns, device=device).to(dtype)
        bias = torch.randn(outputs, device=device).to(dtype)
        return x, bias, _poisoned(rows, outputs, dtype=dtype, device=device)

    def int4(
        rows: int, outputs: int, columns: int, group: int
    ) -> list[tuple[torch.Tensor, torch.Tensor]]:
        weights = int4_weights(outputs, columns, group, device)
        x, bias, out = inputs(rows, outputs, columns)
        bare = torch.full_like(out, _POISON)
        w4_gemv.gemv(x, *weights, group_size=group, out=bare)
        w4_gemv.gemv(x, *weights, group_size=group, bias=bias, out=out)
        truth = w4_reference.gemv(x, *weights, group_size=group)
        added = w4_reference.gemv(x, *weights, group_size=group, bias=bias)
        return [(bare, truth), (out, added)]

    def int8(rows: int, outputs: int, columns: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        weights = int8_weights(outputs, columns, device)
        x, bias, out = inputs(rows, outputs, columns)
        bare = torch.full_like(out, _POISON)
        w8_gemv.gemv(x, *weights, out=bare)
        w8_gemv.gemv(x, *weights, bias=bias, out=out)
        truth = w8_reference.gemv(x, *weights)
        return [(bare, truth), (out, w8_reference.gemv(x, *weights, bias=bias))]

    def dense(outputs: int, columns: int, group: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        out = _poisoned(outputs, columns, dtype=dtype, device=device)
        if group:
            int4_parts = int4_weights(outputs, columns, group, device)
            truth = w4_reference.dequantize(*int4_parts, group, dtype)
            return [(w4_dequantize.dequantize(*int4_parts, group, dtype, out=out), truth)]
        int8_parts = int8_weights(outputs, columns, device)
        truth = dense_reference(*int8_parts, dtype)
        return [(dequantize_weight(*int8_parts, dtype, out=out), truth)]

    shapes = (
        *((1, 6144, 4096, 128), (1, 4096, 14336, 128), (1, 1537, 8960, 128), (1, 896, 4864, 64)),
        *((1, 960, 576, 64), (1, 49152, 576, 32), (2, 3072, 3072, 128), (3, 577, 1536, 32)),
        *((4, 5120, 2560, 128), (5, 640, 18944, 128), (8, 4096, 4096, 128), (7, 33, 640, 64)),
    )
    for rows, outputs, columns, group in shapes:
        tolerance = TOLERANCE[dtype]
        shape = f"{rows}x{outputs}x{columns}"
        yield Case(
            name=f"int4 g{group} {shape}",
            run=partial(int4, rows, outputs, columns, group),
            tolerance=tolerance,
            part=OLD_CARDS,
        )
        yield Case(
            name=f"int8 {shape}",
            run=partial(int8, rows, outputs, columns),
            tolerance=tolerance,
            part=OLD_CARDS,
        )
    for outputs, columns, group in (
        (577, 1536, 128),
        (960, 576, 64),
        (99, 4864, 32),
        (513, 608, 0),
    ):
        yield Case(
            name=f"dequantize g{group} {outputs}x{columns}",
            run=partial(dense, outputs, columns, group),
            tolerance=TOLERANCE[dtype] / 10,
        )


def _row_cases(device: torch.device, dtype: torch.dtype) -> Iterator[Case]:
    from quantchat.kernels.activation import reference as activation_reference
    from quantchat.kernels.activation.rows import activate
    from quantchat.kernels.norm import reference as norm_reference
    from quantchat.kernels.norm.rows import norm_rows

    def norm(rows: int, columns: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        x, residual = torch.randn(2, rows, columns, device=device).to(dtype)
        weight = torch.randn(columns, device=device).to(dtype)
        out, second, total = _poisoned(3, rows, columns, dtype=dtype, device=device)
        norm_rows(x, weight, 1e-5, out=out)
        norm_rows(x, weight, 1e-5, residual=residual, out=second, total=total)
        truth = norm_reference.add_rms_norm(x, residual, weight, 1e-5)
        return [
            (out, norm_reference.rms_norm(x, weight, 1e-5)),
            (second, truth[0]),
            (total, truth[1]),
        ]

    def gated(rows: int, width: int) -> list[tuple[torch.Tensor, torch.Tensor]]:
        x = torch.randn(rows, 2 * width, device=device).to(dtype)
        out = _poisoned(rows, width, dtype=dtype, device=device)
        return [(activate(x, "silu", out=out), activation_reference.gated(x, "silu"))]

    for rows, columns in ((1, 576), (3, 4096), (65, 8192), (2, 18944)):
        yield Case(
            name=f"norm {rows}x{columns}",
            run=partial(norm, rows, columns),
            tolerance=TOLERANCE[dtype],
        )
        yield Case(
            name=f"silu_mul {rows}x{columns}",
            run=partial(gated, rows, columns),
            tolerance=TOLERANCE[dtype],
        )


def cases(device: torch.device, dtype: torch.dtype) -> Iterator[Case]:
    """Every kernel on awkward and on real shapes, in one dtype of activations."""
    from quantchat.bench.attention_gate import attention_cases
    from quantchat.bench.ops_gate import linear_cases, sampling_cases
    from quantchat.bench.rounding_gate import rounding_cases
    from quantchat.ops.triton_ops import TritonOps

    sm_90 = torch.cuda.get_device_capability(device) >= (9, 0)
    # Linears do not look at the model's shape.
    ops = TritonOps(SHAPES["llama-3.1-8b"], device=device, dtype=dtype, dependent_launch=sm_90)
    yield from linear_cases(ops)
    yield from sampling_cases(device, dtype)
    yield from _linear_cases(device, dtype)
    yield from _row_cases(device, dtype)
    yield from rounding_cases(device, dtype)
    yield from attention_cases(device, dtype)


def check(scope: Scope, share: int = 0, shares: int = 1) -> KernelGate:
    """Run every case of the scope on the current card, or one of several shares of them."""
    device = torch.device("cuda", torch.cuda.current_device())
    failures: list[str] = []
    total = 0
    for dtype in (getattr(torch, name) for name in scope.dtypes):
        chosen = [case for case in cases(device, dtype) if scope.takes(case.part)]
        for case in chosen[share::shares]:
            total += 1
            torch.manual_seed(20)
            error = case.error()
            if not error <= case.tolerance:
                failures.append(f"{case.name} {dtype}: {error:.2e} > {case.tolerance:.1e}")
    return KernelGate(cases=total, failures=tuple(failures))
