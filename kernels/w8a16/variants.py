"""W8A16 kernels in the configurations that models run them in, to compile ahead of time."""

from __future__ import annotations

from .._variants import POINTEE, Variant
from .gemv import w8a16_gemv_kernel
from .tiles import tile_for


def _gemv(rows: int, outputs: int, columns: int, dtype: str, asm: bool, biased: bool) -> Variant:
    tile = tile_for(rows, columns)
    return Variant(
        name=f"gemv-{rows}x{outputs}x{columns}-{dtype}-asm{asm:d}",
        kernel=w8a16_gemv_kernel,
        signature={
            "x_ptr": "*i64",
            "w_ptr": "*i32",
            "s_ptr": "*fp32",
            "bias_ptr": POINTEE[dtype],
            "y_ptr": POINTEE[dtype],
            "rows": "i32",
            "N": "i32",
        },
        constexprs={
            "K": columns,
            "M": 1 << (rows - 1).bit_length(),
            "BN": tile.outputs,
            "KW": tile.words,
            "BF16": dtype == "bf16",
            "USE_ASM": asm,
            "HAS_BIAS": biased,
        },
        warps=tile.warps,
        highest_sm=75,
    )


def variants() -> tuple[Variant, ...]:
    """Every configuration that must compile."""
    return (
        _gemv(1, 128256, 4096, "bf16", True, False),
        _gemv(1, 4096, 14336, "fp16", True, True),
        _gemv(2, 49152, 576, "fp16", False, False),
        _gemv(7, 1536, 8960, "bf16", True, True),
    )
