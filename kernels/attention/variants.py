"""Decode attention in the configurations of models, to compile ahead of time."""

from __future__ import annotations

from .._variants import POINTEE, Variant
from ..rope_append.formats import KvFormat
from .attend_kernel import attend_kernel
from .splits import splits_for


def _attend(
    heads: int,
    kv_heads: int,
    head_dim: int,
    dtype: str,
    kv: KvFormat,
    *,
    rows: int = 1,
    norm: bool = False,
    windowed: bool = False,
    lowest_sm: int = 80,
    highest_sm: int = 120,
) -> Variant:
    pointer = POINTEE[dtype]
    cache = pointer if kv == "16bit" else "*u8"
    splits = splits_for(rows, heads, kv_heads, head_dim, 8192, kv, sm=lowest_sm, sms=132)
    group = heads // kv_heads
    padded = 1 << (head_dim - 1).bit_length()
    combined = 1 << (splits.count - 1).bit_length()
    rows_of_q = 1 << (group - 1).bit_length()
    dependent = lowest_sm >= 90
    return Variant(
        name=f"attend-{heads}x{kv_heads}x{head_dim}-{dtype}-{kv}-rows{rows}-sm{lowest_sm}",
        kernel=attend_kernel,
        signature={
            "qkv_ptr": pointer,
            "positions_ptr": "*i32",
            "lengths_ptr": "*i32",
            "slots_ptr": "*i64",
            "table_ptr": "*i32",
            "cos_ptr": "*fp32",
            "sin_ptr": "*fp32",
            "q_weight_ptr": pointer,
            "k_weight_ptr": pointer,
            "k_ptr": cache,
            "v_ptr": cache,
            "k_params_ptr": "*fp16",
            "v_params_ptr": "*fp16",
            "out_ptr": pointer,
            "partial_ptr": "*fp32",
            "stats_ptr": "*fp32",
            "arrived_ptr": "*i32",
            "eps": "fp32",
            "scale_log2": "fp32",
            "window": "i32",
            "table_stride": "i32",
            "capacity": "i32",
        },
        constexprs={
            "HQ": heads,
            "HK": kv_heads,
            "D": head_dim,
            "DP": padded,
            "GP": max(16, rows_of_q) if splits.use_dot else rows_of_q,
            "ROTARY_HALF": head_dim // 2,
            "T": splits.tile_tokens,
            "PAGE": 16,
            "SPLITS": splits.count,
            "SP": combined,
            "GC": splits.heads_at_once(group, combined, padded),
            "KV": kv,
            "HEAD_NORM": norm,
            "WINDOWED": windowed,
            "USE_DOT": splits.use_dot,
            "USE_ASM": True,
            "FP8_UNIT": lowest_sm >= 89,
            "EARLY": dependent,
            "PDL": dependent,
        },
        warps=splits.warps,
        lowest_sm=lowest_sm,
        highest_sm=highest_sm,
        options=splits.options() | ({"launch_pdl": True} if dependent else {}),
    )


def variants() -> tuple[Variant, ...]:
    """Every configuration that must compile."""
    return (
        _attend(32, 8, 128, "bf16", "16bit", lowest_sm=90),
        _attend(32, 8, 128, "fp16", "int8", lowest_sm=90),
        _attend(32, 8, 128, "bf16", "fp8", lowest_sm=90, norm=True),
        _attend(32, 8, 128, "fp16", "int4", lowest_sm=90, windowed=True),
        _attend(28, 4, 128, "bf16", "int8", rows=8, norm=True, windowed=True),
        _attend(8, 4, 256, "bf16", "int8", norm=True),
        _attend(32, 32, 80, "fp16", "int4"),
        _attend(12, 12, 96, "bf16", "16bit", windowed=True),
        _attend(9, 3, 64, "fp16", "fp8", highest_sm=86),
        _attend(9, 3, 64, "fp16", "16bit", lowest_sm=75, highest_sm=75),
        _attend(32, 8, 128, "fp16", "int8", lowest_sm=75, highest_sm=75),
        _attend(14, 2, 64, "fp16", "int4", lowest_sm=75, highest_sm=75, windowed=True),
        _attend(8, 4, 256, "fp16", "fp8", lowest_sm=75, highest_sm=75, norm=True),
    )
