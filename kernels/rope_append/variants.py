"""The rope and append kernel in the configurations of models, to compile ahead of time."""

from __future__ import annotations

from .._variants import POINTEE, Variant
from .append import rope_append_kernel


def _append(
    heads: int, kv_heads: int, head_dim: int, dtype: str, int8: bool, norm: bool
) -> Variant:
    pointer = POINTEE[dtype]
    cache = "*u8" if int8 else pointer
    return Variant(
        name=f"append-{heads}x{kv_heads}x{head_dim}-{dtype}-int8{int8:d}-norm{norm:d}",
        kernel=rope_append_kernel,
        signature={
            "qkv_ptr": pointer,
            "positions_ptr": "*i32",
            "cos_ptr": "*fp32",
            "sin_ptr": "*fp32",
            "slots_ptr": "*i64",
            "q_out_ptr": pointer,
            "k_cache_ptr": cache,
            "v_cache_ptr": cache,
            "k_params_ptr": "*fp16",
            "v_params_ptr": "*fp16",
            "q_weight_ptr": pointer,
            "k_weight_ptr": pointer,
            "eps": "fp32",
        },
        constexprs={
            "HQ": heads,
            "HK": kv_heads,
            "D": head_dim,
            "HALF": 1 << (head_dim // 2 - 1).bit_length(),
            "ROTARY_HALF": head_dim // 2,
            "INT8": int8,
            "HEAD_NORM": norm,
        },
        warps=1,
    )


def variants() -> tuple[Variant, ...]:
    """Every configuration that must compile."""
    return (
        _append(9, 3, 64, "fp16", False, False),
        _append(32, 8, 128, "bf16", True, True),
        _append(32, 32, 80, "fp16", True, False),
    )
