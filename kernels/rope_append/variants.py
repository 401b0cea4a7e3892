"""The kernels of this package in the configurations of models, to compile ahead of time."""

from __future__ import annotations

from .._variants import POINTEE, Variant
from .append import rope_append_kernel
from .formats import ROTATED, VECTORS, KvFormat
from .read import read_kernel
from .turn import turn_kernel


def _append(
    heads: int, kv_heads: int, head_dim: int, dtype: str, kv: KvFormat, norm: bool
) -> Variant:
    pointer = POINTEE[dtype]
    k_format, v_format = VECTORS[kv]
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
            "K_KV": k_format,
            "V_KV": v_format,
            "ROTATES": kv in ROTATED,
            "HEAD_NORM": norm,
        },
        warps=1,
    )


def _turn(heads: int, kv_heads: int, head_dim: int, dtype: str, norm: bool, pdl: bool) -> Variant:
    pointer = POINTEE[dtype]
    signature = {
        "qkv_ptr": pointer,
        "positions_ptr": "*i32",
        "cos_ptr": "*fp32",
        "sin_ptr": "*fp32",
        "out_ptr": pointer,
        "eps": "fp32",
    }
    weights = ("q_weight_ptr", "k_weight_ptr")
    left_out: dict[str, object] = {} if norm else dict.fromkeys(weights)
    return Variant(
        name=f"turn-{heads}x{kv_heads}x{head_dim}-{dtype}-norm{norm:d}",
        kernel=turn_kernel,
        signature=signature | (dict.fromkeys(weights, pointer) if norm else {}),
        constexprs=left_out
        | {
            "HQ": heads,
            "HK": kv_heads,
            "D": head_dim,
            "ROTARY_HALF": head_dim // 2,
            "HEAD_NORM": norm,
            "PDL": pdl,
        },
        warps=1,
        dependent=pdl,
    )


def _read(kv_heads: int, head_dim: int, dtype: str, kv: KvFormat) -> Variant:
    padded = 1 << (head_dim - 1).bit_length()
    return Variant(
        name=f"read-{kv_heads}x{head_dim}-{dtype}-{kv}",
        kernel=read_kernel,
        signature={
            "k_cache_ptr": "*u8",
            "v_cache_ptr": "*u8",
            "k_params_ptr": "*fp16",
            "v_params_ptr": "*fp16",
            "pages_ptr": "*i64",
            "out_ptr": POINTEE[dtype],
            "first": "i32",
            "vectors": "i32",
        },
        constexprs={
            "HK": kv_heads,
            "PAGE_TOKENS": 16,
            "D": head_dim,
            "DP": padded,
            "R": 2048 // padded,
            "K_KV": VECTORS[kv][0],
            "V_KV": VECTORS[kv][1],
        },
        fused=False,
    )


def variants() -> tuple[Variant, ...]:
    """Every configuration that must compile."""
    return (
        _append(9, 3, 64, "fp16", "16bit", False),
        _append(32, 8, 128, "bf16", "int8", True),
        _append(32, 32, 80, "fp16", "int4", False),
        _append(12, 12, 96, "fp16", "k8v4", True),
        _append(32, 8, 128, "fp16", "int4r", False),
        _append(8, 4, 256, "bf16", "fp8", True),
        _turn(32, 8, 128, "fp16", False, True),
        _turn(8, 4, 256, "bf16", True, False),
        _read(8, 128, "fp16", "k8v4"),
        _read(32, 80, "bf16", "fp8"),
    )
