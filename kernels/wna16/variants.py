"""W4A16 kernels in the configurations that models run them in, to compile ahead of time."""

from __future__ import annotations

from .._variants import POINTEE, Variant
from .dequantize import wna16_dequantize_kernel
from .gemv import wna16_gemv_kernel
from .tiles import tile_for

_CASES = (
    # rows, outputs, columns, group size, dtype, asm, bias
    (1, 6144, 4096, 128, "fp16", True, False),
    (1, 4096, 14336, 128, "fp16", False, True),
    (1, 576, 1536, 64, "bf16", True, False),
    (3, 1536, 8960, 64, "fp16", True, True),
    (8, 960, 576, 32, "bf16", False, True),
)


def _gemv(
    rows: int,
    outputs: int,
    columns: int,
    group: int,
    dtype: str,
    asm: bool,
    biased: bool,
) -> Variant:
    tile = tile_for(rows, outputs, columns, group, bf16=dtype == "bf16")
    return Variant(
        name=f"gemv-{rows}x{outputs}x{columns}-g{group}-{dtype}-asm{asm:d}",
        kernel=wna16_gemv_kernel,
        signature={
            "x_ptr": "*i32",
            "w_ptr": "*i32",
            "s_ptr": "*fp16",
            "o_ptr": "*fp16",
            "bias_ptr": POINTEE[dtype],
            "y_ptr": POINTEE[dtype],
            "rows": "i32",
            "N": "i32",
        },
        constexprs={
            "K": columns,
            "GROUP": group,
            "M": 1 << (rows - 1).bit_length(),
            "BN": tile.outputs,
            "G": tile.groups,
            "BF16": dtype == "bf16",
            "USE_ASM": asm,
            "HAS_BIAS": biased,
        },
        warps=tile.warps,
        highest_sm=75,
    )


def _dequantize(group: int, dtype: str) -> Variant:
    return Variant(
        name=f"dequantize-g{group}-{dtype}",
        kernel=wna16_dequantize_kernel,
        signature={
            "w_ptr": "*i32",
            "s_ptr": "*fp16",
            "o_ptr": "*fp16",
            "y_ptr": "*i32",
            "PAIRS": "i32",
            "NG": "i32",
        },
        constexprs={"GROUP": group, "BLOCK": 2048, "BF16": dtype == "bf16"},
    )


def variants() -> tuple[Variant, ...]:
    """Every configuration that must compile."""
    return (
        *(_gemv(*case) for case in _CASES),
        _dequantize(32, "fp16"),
        _dequantize(128, "bf16"),
    )
