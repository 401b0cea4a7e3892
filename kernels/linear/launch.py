"""Host side of the decode linears: weights as the kernel takes them, checks, launch.

Safe inside CUDA graph capture: shapes and host facts only, torch.empty, no synchronisation.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from .._launch import ceil_div, check_activation, check_out, launch, sm_count, sm_version
from .codes import CODEBOOK4, DENSE, FP8, INT4, INT8, LUT3, LUT4, NESTED4
from .gemv import BLOCKS, linear_kernel
from .pack import Int4Tiles
from .reference import PARTIAL_COLUMNS, Gate
from .table_pack import TableTiles
from .tiles import LinearShape, Tile, tile_for

MAX_ROWS = 64
LOWEST_SM = 80
"""Asynchronous copies and mma.m16n8k16 with bf16 begin here."""
CODES = {
    "int4": int(INT4.value),
    "int8": int(INT8.value),
    "fp8": int(FP8.value),
    "dense": int(DENSE.value),
    "codebook4": int(CODEBOOK4.value),
    "nested4": int(NESTED4.value),
    "lut4": int(LUT4.value),
    "lut3": int(LUT3.value),
}
"""What the kernel is built for, by the names that tiles are chosen by."""
CODE_NAMES = ("int4", "progressive4", "int8", "fp8", "dense", "table4")
"""Stored forms as limits of rows are kept by."""
COLUMN_ROWS = 8
"""Tokens that one program works on."""
_MOST_WALK = 16
"""Tiles that a program of a block's takes, so that many blocks have no more programs than needed."""
_WAVES = 3
"""Times that blocks' programs fill the card, where there are few blocks."""


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


Weight = Int4Tiles | RowWeight | TableTiles


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class NextNorm:
    """Where a residual linear leaves what the norm after it needs."""

    gamma: torch.Tensor
    """[N] in the activations' dtype."""
    h: torch.Tensor
    """[M, N]: residual times gamma."""
    squares: torch.Tensor
    """fp32 [M, ceil(N / 16)]: partial sums of squares of the residual."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Chosen:
    """Which of several weights, one behind the other in memory, each result is made with."""

    experts: torch.Tensor
    """int32 [S]: on the device, by slot."""
    share: int
    """Slots that belong to one row of x."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Grouped:
    """Rows of x in blocks of at most COLUMN_ROWS that share an expert."""

    blocks: torch.Tensor
    """int32 [3, blocks]: expert, or below 0 where there are no rows; first row, the one behind."""


def code_of(weight: Weight) -> str:
    """Name of what the kernel is built for."""
    if isinstance(weight, Int4Tiles):
        return "int4"
    if isinstance(weight, TableTiles):
        return weight.code
    return {torch.int8: "int8", torch.uint8: "fp8"}.get(weight.codes.dtype, "dense")


def form_of(weight: Weight) -> str:
    """Which of CODE_NAMES a weight is."""
    if isinstance(weight, TableTiles):
        return "table4"
    if isinstance(weight, Int4Tiles) and weight.channel is not None:
        return "progressive4"
    return code_of(weight)


def shape_of(weight: Weight, *, gated: bool, one_row: bool) -> LinearShape:
    """What the tile of a weight is chosen by."""
    return LinearShape(
        code=code_of(weight),
        group_size=weight.group_size if isinstance(weight, Int4Tiles) else 0,
        outputs=weight.rows,
        columns=weight.columns,
        gated=gated,
        one_row=one_row,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Operands:
    """A weight as the kernel's arguments."""

    words: torch.Tensor
    beside: torch.Tensor | None = None
    """What a block has besides words."""
    channel: torch.Tensor | None = None
    table: torch.Tensor | None = None
    nested_values: torch.Tensor | None = None
    nested_pairs: torch.Tensor | None = None


def _operands(weight: Weight, gated: bool, dtype: torch.dtype) -> _Operands:
    if isinstance(weight, RowWeight):
        assert weight.columns % 16 == 0 or weight.scale is None
        assert weight.codes.is_contiguous()
        return _Operands(words=weight.codes.view(torch.int32), channel=weight.scale)
    assert weight.gated == gated
    if isinstance(weight, Int4Tiles):
        pairs = weight.pairs.view(torch.int32)
        return _Operands(words=weight.words, beside=pairs, channel=weight.channel)
    assert weight.dtype == dtype, f"the table is in {weight.dtype}, x in {dtype}"
    beside = weight.top if weight.scales is None else weight.scales.view(torch.int32)
    if weight.nested is None:
        return _Operands(words=weight.words, beside=beside, table=weight.planes)
    return _Operands(
        words=weight.words,
        beside=beside,
        table=weight.planes,
        nested_values=weight.nested.values,
        nested_pairs=weight.nested.pairs.view(torch.int64),
    )


def _quads(words: torch.Tensor | None) -> int:
    """Groups of four words that one expert's weights take."""
    if words is None:
        return 0
    assert words.numel() % 4 == 0
    return words.numel() // 4


def _numbers(chosen: Chosen | Grouped | None) -> torch.Tensor | None:
    if chosen is None:
        return None
    return chosen.experts if isinstance(chosen, Chosen) else chosen.blocks


def _share(chosen: Chosen | Grouped | None) -> int:
    if chosen is None:
        return 0
    return chosen.share if isinstance(chosen, Chosen) else int(BLOCKS.value)


def linear(
    x: torch.Tensor,
    weight: Weight,
    *,
    tile: Tile | None = None,
    bias: torch.Tensor | None = None,
    squares: torch.Tensor | None = None,
    eps: float = 0.0,
    row_scale: torch.Tensor | None = None,
    extra: torch.Tensor | None = None,
    chosen: Chosen | Grouped | None = None,
    gated: bool = False,
    gate: Gate = "silu",
    residual: torch.Tensor | None = None,
    following: NextNorm | None = None,
    out: torch.Tensor | None = None,
    out_dtype: torch.dtype | None = None,
    dependent: bool = False,
) -> torch.Tensor:
    """x [M, K] times a stored weight [N, K] -> [M, N], or [M, N / 2] where gated; M <= 64.

    Gated outputs are `gate` of the upper half of N times the lower. x, residual, bias and the
    result are all fp16 or all bf16, or the result is `out_dtype`. `squares` fp32 [M, ceil(K / 16)]
    divides the product by the root mean square of what x was before gamma; `row_scale` fp32 [M]
    multiplies it instead. `extra` fp32 [M, weight rows] is added to the product before either and
    before the weight's scales by row. `residual` [M, N] is added to and, where `out` is None,
    overwritten; then `following` is filled. `dependent` starts the kernel while the one before it
    still runs (SM 90 and up). With `chosen` the weight is the first of many alike, and the result
    [S, ...] has a row for each slot; `row_scale` is fp32 [S] then. With `Grouped` rows are
    multiplied block by block.
    """
    check_activation(x)
    rows, columns = x.shape
    if chosen is not None:
        assert squares is None and extra is None and residual is None and bias is None
        assert not isinstance(weight, TableTiles)
    if isinstance(chosen, Chosen):
        check_out(chosen.experts, (rows * chosen.share,), torch.int32)
        rows *= chosen.share
    elif chosen is not None:
        assert row_scale is None
        check_out(chosen.blocks, (3, chosen.blocks.shape[1]), torch.int32)
    assert chosen is not None or 1 <= rows <= MAX_ROWS, (
        f"linear takes 1 to {MAX_ROWS} rows, not {rows}"
    )
    assert columns == weight.columns, f"x has {columns} columns, the weight {weight.columns}"
    assert columns % 8 == 0
    outputs = weight.rows // 2 if gated else weight.rows
    operands = _operands(weight, gated, x.dtype)
    assert squares is None or row_scale is None
    if row_scale is not None:
        check_out(row_scale, (rows,), torch.float32)
    if extra is not None:
        check_out(extra, (rows, weight.rows), torch.float32)
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
    one = not isinstance(chosen, Grouped) and (rows == 1 or chosen is not None)
    if tile is None:
        shape = shape_of(weight, gated=gated, one_row=one)
        tile = tile_for(shape, sm_version(x.device))
    tiles = -(-outputs // (8 if gated else 16))
    across = sm_count(x.device) * tile.programs
    programs = rows if chosen is not None else ceil_div(rows, COLUMN_ROWS)
    if isinstance(chosen, Grouped):
        programs = chosen.blocks.shape[1]
        across = max(ceil_div(across * _WAVES, programs), ceil_div(tiles, _MOST_WALK))
    grid = (min(tiles, across), programs, 1)
    launch(
        linear_kernel,
        grid,
        x.view(torch.int32),
        operands.words,
        operands.beside,
        operands.channel,
        operands.table,
        operands.nested_values,
        operands.nested_pairs,
        bias,
        squares,
        row_scale,
        extra,
        _numbers(chosen),
        residual,
        None if following is None else following.gamma,
        out,
        None if following is None else following.h,
        None if following is None else following.squares,
        1 if one else max(rows, 2),
        outputs,
        eps,
        0 if chosen is None else _quads(operands.words),
        0 if chosen is None else _quads(operands.beside),
        K=columns,
        CODE=CODES[code_of(weight)],
        GROUP=weight.group_size if isinstance(weight, Int4Tiles) else 0,
        BF16=x.dtype == torch.bfloat16,
        ONE=one,
        SHARE=_share(chosen),
        CHANNEL=operands.channel is not None,
        NORMED=squares is not None,
        ROW_SCALED=row_scale is not None,
        EXTRA=extra is not None,
        HAS_BIAS=bias is not None,
        GATED=gated,
        GELU=gate == "gelu_tanh",
        RESIDUAL=residual is not None,
        PDL=dependent,
        W=tile.warps,
        UG=tile.blocks,
        STAGES=tile.stages,
        warps=tile.warps,
        dependent=dependent,
    )
    return out
