"""Decode attention in the configurations of models, to compile ahead of time."""

from __future__ import annotations

from .._variants import POINTEE, Variant
from .decode import combine_splits_kernel, decode_attention_kernel
from .splits import splits_for


def _decode(
    heads: int, kv_heads: int, head_dim: int, dtype: str, int8: bool, windowed: bool, dot: bool
) -> Variant:
    pointer = POINTEE[dtype]
    cache = "*u8" if int8 else pointer
    splits = splits_for(1, heads, kv_heads, head_dim, 8192, 90 if dot else 75, 132)
    group = 1 << (heads // kv_heads - 1).bit_length()
    return Variant(
        name=f"decode-{heads}x{kv_heads}x{head_dim}-{dtype}-int8{int8:d}-dot{dot:d}",
        kernel=decode_attention_kernel,
        signature={
            "q_ptr": pointer,
            "k_ptr": cache,
            "v_ptr": cache,
            "k_params_ptr": "*fp16",
            "v_params_ptr": "*fp16",
            "table_ptr": "*i32",
            "lengths_ptr": "*i32",
            "out_ptr": pointer,
            "partial_ptr": "*fp32",
            "stats_ptr": "*fp32",
            "scale_log2": "fp32",
            "window": "i32",
            "table_stride": "i32",
        },
        constexprs={
            "HQ": heads,
            "HK": kv_heads,
            "D": head_dim,
            "DP": 1 << (head_dim - 1).bit_length(),
            "GP": max(16, group) if dot else group,
            "T": splits.tile_tokens,
            "PAGE": 64,
            "SPLITS": splits.count,
            "INT8": int8,
            "WINDOWED": windowed,
            "USE_DOT": dot,
        },
        warps=splits.warps,
        stages=splits.stages,
        lowest_sm=80 if dot else 75,
        highest_sm=120 if dot else 75,
    )


def _combine(heads: int, head_dim: int, dtype: str) -> Variant:
    return Variant(
        name=f"combine-{heads}x{head_dim}-{dtype}",
        kernel=combine_splits_kernel,
        signature={
            "partial_ptr": "*fp32",
            "stats_ptr": "*fp32",
            "lengths_ptr": "*i32",
            "out_ptr": POINTEE[dtype],
            "window": "i32",
        },
        constexprs={
            "HQ": heads,
            "D": head_dim,
            "DP": 1 << (head_dim - 1).bit_length(),
            "T": 32,
            "SPLITS": 33,
            "SP": 64,
            "WINDOWED": True,
        },
    )


def variants() -> tuple[Variant, ...]:
    """Every configuration that must compile."""
    return (
        _decode(32, 8, 128, "bf16", False, False, True),
        _decode(32, 8, 128, "fp16", True, True, True),
        _decode(8, 4, 256, "bf16", True, False, True),
        _decode(9, 3, 64, "fp16", False, False, False),
        _decode(14, 2, 64, "fp16", True, True, False),
        _decode(32, 8, 128, "fp16", True, False, False),
        _combine(32, 128, "bf16"),
        _combine(32, 80, "fp16"),
    )
