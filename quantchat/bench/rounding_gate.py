"""The gate's cases of rounded inputs, sparse entries and 8-bit products.

Owns random rows with outliers and random sparse matrices whose rows differ in length.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from quantchat.bench.kernel_gate import TOLERANCE, Case
from quantchat.kernels._launch import sm_version
from quantchat.kernels.linear.reference import squares_of
from quantchat.kernels.quantize import reference
from quantchat.kernels.quantize.matmul import LOWEST_SM, scaled_matmul
from quantchat.kernels.quantize.prepare import prepare_rows, round_rows
from quantchat.kernels.quantize.reference import CodeFormat
from quantchat.kernels.quantize.rows import LOWEST_CAST_SM, quantize_rows
from quantchat.kernels.sparse import reference as sparse_reference
from quantchat.kernels.sparse.add import add_sparse
from quantchat.kernels.sparse.product import sparse_product
from quantchat.quant.scheme import OUTLIER_THRESHOLD

Pairs = list[tuple[torch.Tensor, torch.Tensor]]
ROWS = ((1, 576), (8, 4096), (3, 14336), (65, 896), (2, 28672))
SPARSE = ((6144, 4096), (577, 576), (4096, 14336), (9, 64))
SHARE = 0.0045
"""Of entries kept apart, as SqueezeLLM has it."""
TOKENS = (1, 2, 8, 33, 64)
PRODUCTS = (
    (17, 6144, 4096),
    (256, 577, 576),
    (300, 4096, 1152),
    (225, 8200, 1152),
    (70, 4096, 8208),
    (65, 96, 14336),
    (600, 577, 144),
    (1030, 6144, 1152),
)
SPARSE_TOLERANCE = 1e-5
EXACT = 1e-4
"""Codes may differ in ties alone."""
_EPS = 1e-5
_GIVEN = 0.02


def rounding_cases(device: torch.device, dtype: torch.dtype) -> Iterator[Case]:
    """Every kernel on awkward and on real shapes."""
    sm = sm_version(device)
    for rows, columns in ROWS:
        for threshold in (None, OUTLIER_THRESHOLD):
            outliers = "" if threshold is None else ", outliers"
            yield Case(
                name=f"prepare {rows}x{columns}{outliers}",
                run=partial(_prepared, rows, columns, threshold, device, dtype, sm),
                tolerance=TOLERANCE[dtype],
                part="int8 inputs",
            )
        yield Case(
            name=f"given scale {rows}x{columns}",
            run=partial(_given, rows, columns, device, dtype),
            tolerance=EXACT,
        )
    for outputs, columns in SPARSE:
        yield Case(
            name=f"sparse product {outputs}x{columns}",
            run=partial(_sparse, outputs, columns, device, dtype, sm),
            tolerance=SPARSE_TOLERANCE,
            part="lut4",
        )
        yield Case(
            name=f"sparse into dense {outputs}x{columns}",
            run=partial(_added, outputs, columns, device, dtype),
            tolerance=TOLERANCE[dtype],
            part="lut4",
        )
    forms: tuple[CodeFormat, ...] = ("int8", "fp8") if sm >= LOWEST_CAST_SM else ("int8",)
    for rows, outputs, columns in PRODUCTS if sm >= LOWEST_SM else ():
        for form in forms:
            yield Case(
                name=f"{form} product {rows}x{outputs}x{columns}",
                run=partial(_product, rows, outputs, columns, form, device, dtype),
                tolerance=TOLERANCE[dtype],
                part=f"{form} inputs",
            )


def _outlying(rows: int, columns: int, device: torch.device, dtype: torch.dtype) -> torch.Tensor:
    x = torch.randn(rows, columns, device=device)
    x[:, ::97] *= 20
    return x.to(dtype)


def _prepared(
    rows: int,
    columns: int,
    threshold: float | None,
    device: torch.device,
    dtype: torch.dtype,
    sm: int,
) -> Pairs:
    x = _outlying(rows, columns, device, dtype)
    pairs: Pairs = []
    for squares in (None, squares_of(x)):
        out = torch.full_like(x, torch.nan)
        scale = torch.full((rows,), torch.nan, device=device)
        prepare_rows(
            x,
            squares=squares,
            eps=_EPS,
            threshold=threshold,
            out=out,
            scale=scale,
            dependent=sm >= 90,
        )
        codes, truth = reference.prepare_rows(x, squares=squares, eps=_EPS, threshold=threshold)
        pairs += [(scale, truth), (out.double() * scale[:, None], codes.double() * truth[:, None])]
    put_back = round_rows(x, threshold=threshold, out=torch.full_like(x, torch.nan))
    return [*pairs, (put_back, reference.round_rows(x, threshold=threshold))]


def _given(rows: int, columns: int, device: torch.device, dtype: torch.dtype) -> Pairs:
    x = torch.randn(rows, columns, device=device).to(dtype)
    given = torch.tensor(_GIVEN, device=device)
    pairs: Pairs = []
    forms: tuple[CodeFormat, ...] = ("int8", "fp8")
    for form in forms:
        codes, scale = quantize_rows(x, form, given=given)
        truth, scales = reference.quantize_rows(x, form, given)
        pairs += [(codes.float(), truth.float()), (scale, scales)]
    return pairs


def _entries(outputs: int, columns: int, device: torch.device) -> tuple[torch.Tensor, ...]:
    """A sparse matrix whose longest rows hold a fifth of all columns."""
    share = torch.full((outputs, 1), SHARE, device=device)
    share[:: max(1, outputs // 7)] = 0.2
    share[1] = 0
    chosen = torch.rand(outputs, columns, device=device) < share
    ends = chosen.sum(1).cumsum(0)
    starts = torch.cat((ends.new_zeros(1), ends)).to(torch.int32)
    places = chosen.nonzero()[:, 1].to(torch.int32)
    return starts, places, torch.randn(len(places), device=device).half()


def _sparse(outputs: int, columns: int, device: torch.device, dtype: torch.dtype, sm: int) -> Pairs:
    entries = _entries(outputs, columns, device)
    pairs: Pairs = []
    for tokens in TOKENS:
        x = torch.randn(tokens, columns, device=device).to(dtype)
        out = torch.full((tokens, outputs), torch.nan, device=device)
        sparse_product(x, *entries, out=out, dependent=sm >= 90)
        pairs.append((out, sparse_reference.sparse_product(x, *entries)))
    return pairs


def _added(outputs: int, columns: int, device: torch.device, dtype: torch.dtype) -> Pairs:
    entries = _entries(outputs, columns, device)
    dense = torch.randn(outputs, columns, device=device).to(dtype)
    truth = sparse_reference.add_sparse(dense, *entries)
    return [(add_sparse(dense, *entries), truth)]


def _product(
    rows: int,
    outputs: int,
    columns: int,
    form: CodeFormat,
    device: torch.device,
    dtype: torch.dtype,
) -> Pairs:
    codes, row_scale = quantize_rows(_outlying(rows, columns, device, dtype), form)
    weight, scale = quantize_rows(torch.randn(outputs, columns, device=device).to(dtype), form)
    exact = codes.double() @ weight.double().t() * row_scale[:, None] * scale
    pairs: Pairs = []
    for bias in (None, torch.randn(outputs, device=device).to(dtype)):
        out = torch.full((rows, outputs), torch.nan, dtype=dtype, device=device)
        scaled_matmul(codes, row_scale, weight, scale, dtype=dtype, bias=bias, out=out)
        pairs.append((out, exact if bias is None else exact + bias.double()))
    return pairs
