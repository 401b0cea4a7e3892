"""Rows of many experts times their own weights, each of which is read once for a block of rows.

Rows stand by expert, as grouped_order.py has them; weights lie one behind the other in memory, as
int4 tiles, int8 rows or 16-bit rows, and are made dense in registers. Owns the products of 16 rows a
block and more; eight are gemv.py's.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

import torch
import triton
import triton.language as tl

from .._launch import PLAIN_SM, ceil_div, check_activation, check_out, launch, sm_version
from .grouped_order import Order
from .launch import RowWeight
from .many import WIDE_SMS
from .pack import TILE_ROWS, UNIT_COLUMNS, Int4Tiles
from .reference import Gate

INT4 = tl.constexpr(0)
INT8 = tl.constexpr(1)
DENSE = tl.constexpr(2)


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupedTile:
    """What a program computes, and how; `outputs` counts rows of the weight."""

    outputs: int
    depth: int
    warps: int = 4
    stages: int = 3


BlockRows: TypeAlias = tuple[tuple[int, int], ...]
"""Up to so many rows of an expert in the mean, rows of a block."""
_ANY = sys.maxsize
_BLOCK_ROWS: Mapping[int, BlockRows] = MappingProxyType(
    {
        INT4.value: ((44, 8), (_ANY, 128)),
        INT8.value: ((6, 8), (12, 16), (24, 32), (_ANY, 64)),
        DENSE.value: ((2, 8), (12, 16), (24, 32), (_ANY, 64)),
    }
)
"""Measured on an H100 with the experts of Qwen3-30B-A3B; eight are gemv.py's."""
_WIDE_ROWS: BlockRows = ((20, 8), (48, 64), (_ANY, 128))
"""The same where more than eight are grouped_wide.py's."""
GroupedWeight: TypeAlias = Int4Tiles | RowWeight


@triton.jit
def _int4_pointers(
    w_ptr, s_ptr, first, tiles, units, GROUP: tl.constexpr, BN: tl.constexpr, PARTS: tl.constexpr
):
    """Where the words of a program's tiles begin, and their pairs; the last tile stands for more."""
    lane_row = tl.arange(0, BN // 2)
    word = tl.arange(0, 16)
    word_tile = tl.minimum(first + lane_row // 8, tiles - 1).to(tl.int64)
    p_w = w_ptr + (word_tile * units * 128 + lane_row % 8 * 16)[:, None] + word[None, :]
    row = tl.arange(0, BN)
    pair_tile = tl.minimum(first + row // 16, tiles - 1).to(tl.int64)
    first_pair = pair_tile * (units * 64 // GROUP) * 16 + row % 8 * 2 + row // 8 % 2
    p_s = s_ptr + first_pair[:, None] + (tl.arange(0, PARTS) * 16)[None, :]
    return p_w, p_s


@triton.jit
def _int4_dense(w, pair, BN: tl.constexpr, PARTS: tl.constexpr, DTYPE: tl.constexpr):
    """Words and pairs of a unit -> weights [BN, 64]."""
    scale = pair.to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)
    offset = (pair >> 16).to(tl.int16).to(tl.float16, bitcast=True).to(tl.float32)
    nibble = 4 * tl.arange(0, 8)
    code = (w[:, :, None] >> nibble[None, None, :]) & 15
    # [tile, r, c, 32-block, step, element, pair, half] to rows of the tile and their k
    code = tl.reshape(code, [BN // 16, 8, 4, 2, 2, 2, 2, 2])
    code = tl.permute(code, [0, 7, 1, 3, 2, 4, 6, 5])
    code = tl.reshape(code, [BN, PARTS, 64 // PARTS])
    dense = code.to(tl.float32) * scale[:, :, None] + offset[:, :, None]
    return tl.reshape(dense.to(DTYPE), [BN, 64])


@triton.jit
def _gate(x, GELU: tl.constexpr):
    """silu, or gelu's tanh form: half of 1 + tanh(u) is the sigmoid of 2 u."""
    u = x
    if GELU:
        u = 1.5957691216057308 * (x + 0.044715 * x * x * x)
    return x / (1.0 + tl.exp(-u))


@triton.jit(do_not_specialize=["blocks"])
def grouped_kernel(
    x_ptr,
    w_ptr,
    s_ptr,
    y_ptr,
    tokens_ptr,
    blocks_ptr,
    blocks,
    outputs,
    tiles,
    K,
    w_step,
    s_step,
    CODE: tl.constexpr,
    GROUP: tl.constexpr,
    GATHERED: tl.constexpr,
    GATED: tl.constexpr,
    GELU: tl.constexpr,
    EVEN_K: tl.constexpr,
    INTERPRETED: tl.constexpr,
    BM: tl.constexpr,
    BN: tl.constexpr,
    BK: tl.constexpr,
):
    """`outputs` counts results, of which GATED takes two rows; `tiles`: 16 rows of the weight each.

    w_step and s_step: elements of one expert. GATHERED: rows of x are found by tokens_ptr, else they
    stand by expert themselves. INTERPRETED: products in fp32, since the interpreter takes bf16 for
    integers.
    """
    BLOCK: tl.constexpr = 128 if GROUP == 128 else 64
    PARTS: tl.constexpr = 64 // GROUP if (CODE == INT4) & (GROUP < 64) else 1
    TOP: tl.constexpr = 8 if GATED else 16
    block = tl.program_id(1)
    expert = tl.load(blocks_ptr + block)
    if expert < 0:
        return
    first = tl.load(blocks_ptr + blocks + block)
    end = tl.load(blocks_ptr + 2 * blocks + block)
    w_ptr += expert.to(tl.int64) * w_step
    if CODE != DENSE:
        s_ptr += expert.to(tl.int64) * s_step
    tile = tl.program_id(0) * (BN // 16)
    m = first + tl.arange(0, BM)
    # Rows and outputs beyond the end repeat others and are not stored: loads need no mask there.
    x_row = tl.minimum(m, end - 1)
    if GATHERED:
        x_row = tl.load(tokens_ptr + x_row)
    row = tl.arange(0, BN)
    n = (tile + row // 16) * TOP + row % TOP
    w_row = n
    if GATED:
        w_row = tl.minimum(n, outputs - 1) + row // 8 % 2 * outputs
    else:
        w_row = tl.minimum(n, outputs - 1)
    units = (K + BLOCK - 1) // BLOCK * (BLOCK // 64)
    k = tl.arange(0, BK)
    p_x = x_ptr + x_row.to(tl.int64)[None, :] * K + k[:, None]
    if CODE == INT4:
        p_w, p_s = _int4_pointers(w_ptr, s_ptr, tile, tiles, units, GROUP, BN, PARTS)
    else:
        p_w = w_ptr + w_row.to(tl.int64)[:, None] * K + k[None, :]
    total = tl.zeros([BN, BM], tl.float32)
    for start in range(0, K, BK):
        if EVEN_K:
            x = tl.load(p_x + start)
        else:
            x = tl.load(p_x + start, mask=k[:, None] < K - start, other=0.0)
        if CODE == INT4:
            words = tl.load(p_w + start * 2)
            pair = tl.load(p_s + start // GROUP * 16)
            w = _int4_dense(words, pair, BN, PARTS, x_ptr.dtype.element_ty)
        elif EVEN_K:
            w = tl.load(p_w + start)
        else:
            w = tl.load(p_w + start, mask=k[None, :] < K - start, other=0)
        if INTERPRETED:
            total = tl.dot(w.to(tl.float32), x.to(tl.float32), total)
        else:
            total = tl.dot(w.to(x_ptr.dtype.element_ty), x, total)
    if CODE == INT8:
        total *= tl.load(s_ptr + w_row)[:, None]
    if GATED:
        halves = tl.permute(tl.reshape(total, [BN // 16, 2, 8, BM]), [0, 2, 3, 1])
        upper, lower = tl.split(halves)
        made = tl.reshape(_gate(upper, GELU) * lower, [BN // 2, BM])
        out = tile * 8 + tl.arange(0, BN // 2)
    else:
        made = total
        out = tile * 16 + row
    p_y = y_ptr + m.to(tl.int64)[None, :] * outputs + out[:, None]
    inside = (m < end)[None, :] & (out < outputs)[:, None]
    tl.store(p_y, made.to(y_ptr.dtype.element_ty), mask=inside)


def grouped_tile(code: int, block_rows: int, sm: int) -> GroupedTile:
    """The tile of a weight's form for blocks of so many rows, on a card of that SM version."""
    deep = code == INT8.value and block_rows <= 32 and sm in WIDE_SMS
    return GroupedTile(outputs=128, depth=128 if deep else UNIT_COLUMNS)


def block_limits(weight: GroupedWeight, *, wide: bool) -> BlockRows:
    """Which blocks the rows of an expert are cut into."""
    return _WIDE_ROWS if wide else _BLOCK_ROWS[code_of(weight)]


def block_rows(limits: BlockRows, slots: int, experts: int) -> int:
    """Rows of a block where so many slots have chosen among so many experts."""
    return next(rows for most, rows in limits if slots <= most * experts)


def every_block(limits: BlockRows, experts: int) -> tuple[int, ...]:
    """Slots for which block_rows gives each of its answers."""
    below = [most * experts for most, _ in limits[:-1]]
    return (*below, below[-1] + 1)


def code_of(weight: GroupedWeight) -> int:
    """Which of INT4, INT8 and DENSE a weight is."""
    if isinstance(weight, Int4Tiles):
        assert weight.channel is None, "two-level weights are expanded"
        return int(INT4.value)
    if weight.scale is None:
        return int(DENSE.value)
    assert weight.codes.dtype == torch.int8
    return int(INT8.value)


def linear_grouped(
    x: torch.Tensor,
    weight: GroupedWeight,
    order: Order,
    *,
    gathered: bool,
    gated: bool = False,
    gate: Gate = "silu",
    out: torch.Tensor | None = None,
    tile: GroupedTile | None = None,
) -> torch.Tensor:
    """x fp16 or bf16 times experts' weights, `weight` the first of them -> [S, N] by place.

    `gathered`: x [T, K] has the rows themselves, else [S, K] stands by place. `gated`: see
    launch.linear; N is half of the weight's rows then. Weights are rounded to x's dtype.
    """
    check_activation(x)
    slots, columns = order.tokens.shape[0], weight.columns
    assert x.shape[1] == columns and (gathered or x.shape[0] == slots)
    outputs = weight.rows // 2 if gated else weight.rows
    if out is None:
        out = torch.empty(slots, outputs, dtype=x.dtype, device=x.device)
    check_out(out, (slots, outputs), x.dtype)
    code = code_of(weight)
    if tile is None:
        tile = grouped_tile(code, order.block_rows, sm_version(x.device))
    tiles = ceil_div(outputs, TILE_ROWS // 2 if gated else TILE_ROWS)
    words: torch.Tensor
    beside: torch.Tensor | None
    if isinstance(weight, Int4Tiles):
        assert weight.gated == gated and tile.depth == UNIT_COLUMNS
        words, beside = weight.words, weight.pairs.view(torch.int32)
        even = weight.words.shape[1] * UNIT_COLUMNS == columns
    else:
        words, beside = weight.codes, weight.scale
        even = columns % tile.depth == 0
        assert words.dtype in (torch.int8, x.dtype)
    blocks = order.blocks.shape[1]
    launch(
        grouped_kernel,
        (ceil_div(tiles, tile.outputs // TILE_ROWS), blocks, 1),
        x,
        words,
        beside,
        out,
        order.tokens if gathered else None,
        order.blocks,
        blocks,
        outputs,
        tiles,
        columns,
        words.numel(),
        0 if beside is None else beside.numel(),
        CODE=code,
        GROUP=weight.group_size if isinstance(weight, Int4Tiles) else 0,
        GATHERED=gathered,
        GATED=gated,
        GELU=gate == "gelu_tanh",
        EVEN_K=even,
        INTERPRETED=sm_version(x.device) == PLAIN_SM,
        BM=order.block_rows,
        BN=tile.outputs,
        BK=tile.depth,
        warps=tile.warps,
        stages=tile.stages,
    )
    return out
