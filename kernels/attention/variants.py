"""Decode attention in the configurations of models, to compile ahead of time."""

from __future__ import annotations

from .._launch import power_of_2
from .._variants import LOWEST_DEPENDENT_SM, POINTEE, Variant
from ..rope_append.formats import ROTATED, VECTORS, KvFormat, VectorFormat
from . import fragment_launch
from .attend_kernel import attend_kernel
from .fragment_kernel import fragment_attend_kernel
from .splits import heads_of_part, parts_of, splits_for

_WORD_PARAMS: dict[VectorFormat, str] = {
    "16bit": "",
    "fp8": "*fp16",
    "int8": "*i32",
    "int4": "*i32",
}
_BOTH = {
    "positions_ptr": "*i32",
    "lengths_ptr": "*i32",
    "slots_ptr": "*i64",
    "table_ptr": "*i32",
    "cos_ptr": "*fp32",
    "sin_ptr": "*fp32",
    "partial_ptr": "*fp32",
    "stats_ptr": "*fp32",
    "arrived_ptr": "*i32",
    "eps": "fp32",
    "scale_log2": "fp32",
    "cap_log2": "fp32",
    "window": "i32",
    "table_stride": "i32",
    "capacity": "i32",
}


def _with_optional(
    given: dict[str, str], optional: dict[str, str], *, norm: bool, params: bool
) -> tuple[dict[str, str], dict[str, object]]:
    """Signature, and None for the pointers that a launch leaves out."""
    left_out: dict[str, object] = {}
    for name, kind in optional.items():
        if norm if "weight" in name else params:
            given[name] = kind
        else:
            left_out[name] = None
    return given, left_out


def _fragments(
    heads: int,
    kv_heads: int,
    head_dim: int,
    dtype: str,
    kv: KvFormat,
    *sms: int,
    rows: int = 1,
    norm: bool = False,
    windowed: bool = False,
    capped: bool = False,
    most_stack_bytes: int | None = None,
) -> Variant:
    """On tensor cores, as cards of those SM versions run it."""
    pdl = min(sms) >= LOWEST_DEPENDENT_SM
    splits = splits_for(rows, heads, kv_heads, head_dim, 8192, kv, sm=min(sms), sms=132)
    assert splits.alone, "this shape takes the plain path"
    value = POINTEE[dtype]
    cache = value if kv == "16bit" else "*u8"
    signature = _BOTH | {
        "qkv_ptr": "*i32",
        "k_ptr": "*i32",
        "v_ptr": "*i32",
        "k_store_ptr": cache,
        "v_store_ptr": cache,
        "new_ptr": value,
        "out_ptr": value,
    }
    optional = dict.fromkeys(("q_weight_ptr", "k_weight_ptr"), "*i32")
    optional |= dict.fromkeys(("k_params_ptr", "v_params_ptr"), _WORD_PARAMS[VECTORS[kv][0]])
    signature, left_out = _with_optional(signature, optional, norm=norm, params=kv != "16bit")
    return Variant(
        name=(
            f"fragments-{heads}x{kv_heads}x{head_dim}-{dtype}-{kv}-rows{rows}"
            f"-norm{norm:d}-window{windowed:d}-cap{capped:d}"
        ),
        kernel=fragment_attend_kernel,
        signature=signature,
        constexprs=left_out
        | fragment_launch.constants(
            heads,
            kv_heads,
            head_dim,
            0 if kv in ROTATED else head_dim // 2,
            16,
            kv,
            splits,
            bf16=dtype == "bf16",
            norm=norm,
            windowed=windowed,
            capped=capped,
            sm=min(sms),
            dependent=pdl,
        ),
        warps=splits.warps,
        only_sms=sms,
        most_stack_bytes=most_stack_bytes,
        dependent=pdl,
    )


def _plain(
    heads: int,
    kv_heads: int,
    head_dim: int,
    dtype: str,
    kv: KvFormat,
    *sms: int,
    norm: bool = False,
    windowed: bool = False,
    capped: bool = False,
) -> Variant:
    """In sums, for cards and shapes that the tensor cores' kernel does not take."""
    splits = splits_for(1, heads, kv_heads, head_dim, 8192, kv, sm=min(sms), sms=132)
    assert not splits.alone, "this shape goes to tensor cores"
    value = POINTEE[dtype]
    cache = value if kv == "16bit" else "*u8"
    signature = _BOTH | {"qkv_ptr": value, "k_ptr": cache, "v_ptr": cache, "out_ptr": value}
    optional = dict.fromkeys(("q_weight_ptr", "k_weight_ptr"), value)
    optional |= dict.fromkeys(("k_params_ptr", "v_params_ptr"), "*fp16")
    signature, left_out = _with_optional(signature, optional, norm=norm, params=kv != "16bit")
    share, padded = heads_of_part(heads, kv_heads), power_of_2(head_dim)
    combined = power_of_2(splits.count)
    return Variant(
        name=(
            f"plain-{heads}x{kv_heads}x{head_dim}-{dtype}-{kv}"
            f"-norm{norm:d}-window{windowed:d}-cap{capped:d}"
        ),
        kernel=attend_kernel,
        signature=signature,
        constexprs=left_out
        | {
            "HQ": heads,
            "HK": kv_heads,
            "PARTS": parts_of(heads, kv_heads),
            "D": head_dim,
            "DP": padded,
            "GP": power_of_2(share),
            "ROTARY_HALF": 0 if kv in ROTATED else head_dim // 2,
            "T": splits.tile_tokens,
            "PAGE": 16,
            "SPLITS": splits.count,
            "SP": combined,
            "GC": splits.heads_at_once(share, combined, padded),
            "K_KV": VECTORS[kv][0],
            "V_KV": VECTORS[kv][1],
            "HEAD_NORM": norm,
            "WINDOWED": windowed,
            "CAPPED": capped,
        },
        warps=splits.warps,
        only_sms=sms,
    )


def variants() -> tuple[Variant, ...]:
    """Every configuration that must compile."""
    return (
        # The 8B shape, whose registers must do on the card that it was measured on.
        _fragments(32, 8, 128, "bf16", "16bit", 90, 100, 120, most_stack_bytes=0),
        _fragments(32, 8, 128, "fp16", "int8", 90, 100, 120, most_stack_bytes=0),
        _fragments(32, 8, 128, "bf16", "fp8", 90, 100, 120, most_stack_bytes=0),
        _fragments(32, 8, 128, "fp16", "int4", 90, 100, 120, most_stack_bytes=0),
        _fragments(32, 8, 128, "fp16", "k8v4", 90, 100, 120, most_stack_bytes=0),
        _fragments(32, 8, 128, "bf16", "int4r", 90),
        _fragments(32, 8, 128, "bf16", "int8", 90, norm=True, windowed=True),
        _fragments(32, 8, 128, "fp16", "16bit", 90, rows=8, norm=True),
        _fragments(32, 8, 128, "fp16", "int8", 80, 86, 89),
        _fragments(32, 8, 128, "bf16", "fp8", 80, 86, norm=True),
        _fragments(28, 4, 128, "bf16", "fp8", 89, rows=8, norm=True),
        _fragments(28, 4, 128, "fp16", "int4", 80, 89, windowed=True),
        _fragments(9, 3, 64, "fp16", "16bit", 80, 89),
        _fragments(14, 2, 64, "bf16", "int4", 90, windowed=True),
        _fragments(32, 32, 80, "fp16", "int4", 86),
        _fragments(32, 32, 80, "bf16", "16bit", 90),
        _fragments(32, 32, 80, "bf16", "k8v4", 80, 89, norm=True),
        _fragments(12, 12, 96, "fp16", "int8", 90, rows=4),
        _fragments(8, 4, 256, "bf16", "16bit", 90, norm=True),
        _fragments(8, 4, 256, "fp16", "int8", 80),
        _fragments(8, 4, 256, "bf16", "int8", 90, windowed=True, capped=True),
        _fragments(16, 8, 256, "bf16", "16bit", 80, 89, 100, 120, capped=True),
        _fragments(64, 4, 128, "bf16", "int8", 90, norm=True, most_stack_bytes=0),
        _fragments(71, 1, 64, "bf16", "16bit", 80, 90, 120, most_stack_bytes=0),
        _fragments(48, 1, 128, "fp16", "int8", 86, 89, 100),
        _plain(9, 3, 64, "fp16", "16bit", 75),
        _plain(32, 8, 128, "fp16", "int8", 75),
        _plain(14, 2, 64, "fp16", "int4", 75, windowed=True),
        _plain(32, 32, 80, "fp16", "k8v4", 75),
        _plain(8, 4, 256, "fp16", "fp8", 75, norm=True),
        _plain(8, 4, 256, "fp16", "int8", 75, windowed=True, capped=True),
        _plain(20, 1, 64, "fp16", "int8", 75),
        _plain(8, 2, 512, "bf16", "int8", 90),
    )
