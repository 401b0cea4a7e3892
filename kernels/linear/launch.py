"""Host side of the decode linears: weights as the kernel takes them, checks, launch.

Safe inside CUDA graph capture: shapes and host facts only, torch.empty, no synchronisation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton

from .._launch import check_activation, check_out, launch_options, sm_count, sm_version
from .codes import DENSE, FP8, INT4, INT8
from .gemv import linear_kernel
from .pack import Int4Tiles
from .reference import PARTIAL_COLUMNS
from .tiles import LinearShape, Tile, tile_for

MAX_ROWS = 64
LOWEST_SM = 80
"""Asynchronous copies and mma.m16n8k16 with bf16 begin here."""
CODE_NAMES = ("int4", "int8", "fp8", "dense")
COLUMN_ROWS = 8
"""Tokens that one program works on."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class RowWeight:
    """A matrix [N, K] as rows: int8 or uint8 (E4M3 bits) codes with fp32 scale [N], or 16-bit."""

    codes: torch.Tensor
    scale: torch.Tensor | None

    @property
    def rows(self) -> int:
        """N."""
        return self.codes.shape[0]

    @property
    def columns(self) -> int:
        """K."""
        return self.codes.shape[1]

    @property
    def nbytes(self) -> int:
        """Bytes of codes and scales."""
        return self.codes.nbytes + (0 if self.scale is None else self.scale.nbytes)


Weight = Int4Tiles | RowWeight


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NextNorm:
    """Where a residual linear leaves what the norm after it needs."""

    gamma: torch.Tensor
    """[N] in the activations' dtype."""
    h: torch.Tensor
    """[M, N]: residual times gamma."""
    squares: torch.Tensor
    """fp32 [M, ceil(N / 16)]: partial sums of squares of the residual."""


def code_of(weight: Weight) -> int:
    """Which stored form the kernel is built for."""
    if isinstance(weight, Int4Tiles):
        return int(INT4.value)
    kinds = {torch.int8: INT8, torch.uint8: FP8, torch.float16: DENSE, torch.bfloat16: DENSE}
    return int(kinds[weight.codes.dtype].value)


def shape_of(weight: Weight, *, gated: bool, one_row: bool) -> LinearShape:
    """What the tile of a weight is chosen by."""
    return LinearShape(
        code=CODE_NAMES[code_of(weight)],
        group_size=weight.group_size if isinstance(weight, Int4Tiles) else 0,
        outputs=weight.rows,
        columns=weight.columns,
        gated=gated,
        one_row=one_row,
    )


def linear(
    x: torch.Tensor,
    weight: Weight,
    *,
    tile: Tile | None = None,
    bias: torch.Tensor | None = None,
    squares: torch.Tensor | None = None,
    eps: float = 0.0,
    gated: bool = False,
    residual: torch.Tensor | None = None,
    following: NextNorm | None = None,
    out: torch.Tensor | None = None,
    out_dtype: torch.dtype | None = None,
    dependent: bool = False,
) -> torch.Tensor:
    """x [M, K] times a stored weight [N, K] -> [M, N], or [M, N / 2] where gated; M <= 64.

    x, residual, bias and the result are all fp16 or all bf16, or the result is `out_dtype`.
    `squares` fp32 [M, ceil(K / 16)] divides the product by the root mean square of what x was
    before gamma. `residual` [M, N] is added to and, where `out` is None, overwritten; then
    `following` is filled. `dependent` starts the kernel while the one before it still runs (SM 90
    and up).
    """
    check_activation(x)
    rows, columns = x.shape
    assert 1 <= rows <= MAX_ROWS, f"linear takes 1 to {MAX_ROWS} rows, not {rows}"
    assert columns == weight.columns, f"x has {columns} columns, the weight {weight.columns}"
    assert columns % 8 == 0
    code = code_of(weight)
    outputs = weight.rows // 2 if gated else weight.rows
    scales: torch.Tensor | None
    if isinstance(weight, Int4Tiles):
        assert weight.gated == gated
        words, scales, group = weight.words, weight.pairs.view(torch.int32), weight.group_size
    else:
        assert columns % 16 == 0 or weight.scale is None
        assert weight.codes.is_contiguous()
        words, scales, group = weight.codes.view(torch.int32), weight.scale, 0
    if squares is not None:
        check_out(squares, (rows, -(-columns // PARTIAL_COLUMNS)), torch.float32)
    assert (residual is None) == (following is None)
    if residual is not None and following is not None:
        check_out(residual, (rows, outputs), x.dtype)
        check_out(following.h, (rows, outputs), x.dtype)
        check_out(following.squares, (rows, -(-outputs // PARTIAL_COLUMNS)), torch.float32)
        out = residual if out is None else out
    out_dtype = x.dtype if out_dtype is None else out_dtype
    assert out_dtype == x.dtype or residual is None
    if out is None:
        out = torch.empty(rows, outputs, dtype=out_dtype, device=x.device)
    check_out(out, (rows, outputs), out_dtype)
    if tile is None:
        shape = shape_of(weight, gated=gated, one_row=rows == 1)
        tile = tile_for(shape, sm_version(x.device))
    tiles = -(-outputs // (8 if gated else 16))
    grid = (min(tiles, sm_count(x.device) * tile.programs), triton.cdiv(rows, COLUMN_ROWS))
    linear_kernel[grid](
        x.view(torch.int32),
        words,
        scales,
        bias,
        squares,
        residual,
        None if following is None else following.gamma,
        out,
        None if following is None else following.h,
        None if following is None else following.squares,
        rows,
        outputs,
        eps,
        K=columns,
        CODE=code,
        GROUP=group,
        BF16=x.dtype == torch.bfloat16,
        ONE=rows == 1,
        NORMED=squares is not None,
        HAS_BIAS=bias is not None,
        GATED=gated,
        RESIDUAL=residual is not None,
        PDL=dependent,
        W=tile.warps,
        UG=tile.blocks,
        STAGES=tile.stages,
        num_warps=tile.warps,
        **launch_options(dependent),
    )
    return out
