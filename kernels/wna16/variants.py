"""W4A16 kernels in the configurations that models run them in, to compile ahead of time."""

from __future__ import annotations

from .._variants import POINTEE, Variant
from .dequantize import wna16_dequantize_kernel
from .dot import wna16_dot_kernel
from .gemv import wna16_gemv_kernel
from .tiles import Tile, tile_for

_CASES = (
    # rows, outputs, columns, group size, dtype, asm, bias and residual
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
    epilogue: bool,
    pdl: bool,
) -> Variant:
    tile = tile_for(rows, outputs, columns, group, 75, bf16=dtype == "bf16")
    assert isinstance(tile, Tile)
    return Variant(
        name=f"gemv-{rows}x{outputs}x{columns}-g{group}-{dtype}-asm{asm:d}-pdl{pdl:d}",
        kernel=wna16_gemv_kernel,
        signature={
            "x_ptr": "*i32",
            "w_ptr": "*i32",
            "s_ptr": "*fp16",
            "o_ptr": "*fp16",
            "bias_ptr": POINTEE[dtype],
            "residual_ptr": POINTEE[dtype],
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
            "HAS_BIAS": epilogue,
            "HAS_RESIDUAL": epilogue,
            "PDL": pdl,
        },
        warps=tile.warps,
        lowest_sm=90 if pdl else 75,
        highest_sm=75 if rows > 4 else 120,
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


def _dot(columns: int, group: int, dtype: str, outputs: int, warps: int) -> Variant:
    return Variant(
        name=f"dot-{columns}-g{group}-{dtype}-{outputs}",
        kernel=wna16_dot_kernel,
        signature={
            "x_ptr": "*i32",
            "w_ptr": "*i32",
            "s_ptr": "*fp16",
            "o_ptr": "*fp16",
            "bias_ptr": POINTEE[dtype],
            "residual_ptr": POINTEE[dtype],
            "y_ptr": POINTEE[dtype],
            "rows": "i32",
            "N": "i32",
        },
        constexprs={
            "K": columns,
            "GROUP": group,
            "MP": 16,
            "BN": outputs,
            "KW": 64,
            "BF16": dtype == "bf16",
            "USE_ASM": True,
            "HAS_BIAS": True,
            "HAS_RESIDUAL": True,
        },
        warps=warps,
        lowest_sm=80,
    )


def variants() -> tuple[Variant, ...]:
    """Every configuration that must compile."""
    return (
        *(_gemv(*case, pdl=False) for case in _CASES),
        _gemv(*_CASES[0], pdl=True),
        _dot(4096, 128, "bf16", 32, 2),
        _dot(576, 64, "fp16", 32, 2),
        _dequantize(32, "fp16"),
        _dequantize(128, "bf16"),
    )
