"""The rope and append kernel in the configurations of models, to compile ahead of time."""

from __future__ import annotations

from .._variants import POINTEE, Variant
from .append import rope_append_kernel
from .formats import KvFormat


def _append(
    heads: int, kv_heads: int, head_dim: int, dtype: str, kv: KvFormat, norm: bool
) -> Variant:
    pointer = POINTEE[dtype]
    cache = pointer if kv == "16bit" else "*u8"
    return Variant(
        name=f"append-{heads}x{kv_heads}x{head_dim}-{dtype}-{kv}-norm{norm:d}",
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
            "DP": 1 << (head_dim - 1).bit_length(),
            "ROTARY_HALF": head_dim // 2,
            "KV": kv,
            "HEAD_NORM": norm,
        },
        warps=1,
    )


def variants() -> tuple[Variant, ...]:
    """Every configuration that must compile."""
    return (
        _append(9, 3, 64, "fp16", "16bit", False),
        _append(32, 8, 128, "bf16", "int8", True),
        _append(32, 32, 80, "fp16", "int4", False),
        _append(8, 4, 256, "bf16", "fp8", True),
    )
