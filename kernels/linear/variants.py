"""Decode linears in the configurations that models run them in, to compile ahead of time."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

from .._variants import LOWEST_DEPENDENT_SM, POINTEE, SM_VERSIONS, Variant
from .dequantize import linear_dequantize_kernel
from .gemv import BLOCKS, linear_kernel
from .grouped_variants import grouped_variants
from .launch import CODES, LOWEST_SM
from .many_variants import many_variants
from .table_dequantize import SCALES, table_dequantize_kernel
from .tiles import FORMS, LinearShape, Tile, tile_for
from .tuned import TUNED

_TABLE_FORMS = (("codebook4", 0), ("nested4", 0), ("lut4", 0), ("lut3", 0))
_STACK_BYTES = 16
"""Several rows: tiles that spill a register or two were measured to be the fastest all the same."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """A linear of a layer, or the head: its matrix and what is folded into it."""

    outputs: int
    columns: int
    normed: bool = False
    biased: bool = False
    gated: bool = False
    gelu: bool = False
    residual: bool = False
    wide: bool = False
    """Results in fp32."""
    prepared: bool = False
    """Inputs come with a scale each; two-level weights, which have one for each row."""
    sparse: bool = False
    """Sums of sparse entries are added."""
    scaled: bool = False
    """Results are multiplied by a scale each."""
    share: int = 0
    """Slots of a row, each with an expert of its own; or BLOCKS."""


_TUNED_PARTS = (
    _Part(outputs=6144, columns=4096, normed=True),
    _Part(outputs=4096, columns=4096, residual=True),
    _Part(outputs=28672, columns=4096, normed=True, gated=True),
    _Part(outputs=4096, columns=14336, residual=True),
    _Part(outputs=128256, columns=4096, normed=True, wide=True),
)
_PREPARED_PARTS = (
    _Part(outputs=6144, columns=4096, prepared=True),
    _Part(outputs=4096, columns=4096, prepared=True, residual=True),
    _Part(outputs=28672, columns=4096, prepared=True, gated=True),
    _Part(outputs=4096, columns=14336, prepared=True, residual=True),
)
_SPARSE_PARTS = (
    _Part(outputs=6144, columns=4096, normed=True, sparse=True),
    _Part(outputs=4096, columns=4096, residual=True, sparse=True),
    _Part(outputs=28672, columns=4096, normed=True, gated=True, sparse=True),
    _Part(outputs=4096, columns=14336, residual=True, sparse=True),
)
_AWKWARD_PARTS = (
    _Part(outputs=1152, columns=896, normed=True, biased=True),
    _Part(outputs=3072, columns=640, normed=True, gated=True),
    _Part(outputs=576, columns=1536, residual=True),
    _Part(outputs=18432, columns=2304, gated=True, gelu=True),
    _Part(outputs=49152, columns=3072, normed=True, wide=True),
)


def _linear(
    form: tuple[str, int], part: _Part, dtype: str, *, one: bool, tile: Tile, sms: tuple[int, ...]
) -> Variant:
    code, group = form
    pdl = min(sms) >= LOWEST_DEPENDENT_SM
    value = POINTEE[dtype]
    channel = code in ("int8", "fp8") or part.prepared
    pointers = {
        "x_ptr": "*i32",
        "w_ptr": "*i32",
        "s_ptr": "*i32" if code in ("int4", "codebook4", "nested4", "lut3") else None,
        "channel_ptr": "*fp32" if channel else None,
        "table_ptr": "*i32" if form in _TABLE_FORMS else None,
        "nested_values_ptr": "*fp32" if code == "nested4" else None,
        "nested_pairs_ptr": "*i64" if code == "nested4" else None,
        "bias_ptr": value if part.biased else None,
        "squares_ptr": "*fp32" if part.normed else None,
        "row_scale_ptr": "*fp32" if part.prepared or part.scaled else None,
        "extra_ptr": "*fp32" if part.sparse else None,
        "chosen_ptr": "*i32" if part.share else None,
        "residual_ptr": value if part.residual else None,
        "gamma_ptr": value if part.residual else None,
        "y_ptr": "*fp32" if part.wide else value,
        "h_ptr": value if part.residual else None,
        "squares_out_ptr": "*fp32" if part.residual else None,
    }
    signature = {name: kind for name, kind in pointers.items() if kind is not None}
    signature |= {"outputs": "i32", "eps": "fp32", "w_quads": "i32", "s_quads": "i32"} | (
        {} if one else {"rows": "i32"}
    )
    left_out: dict[str, object] = {name: None for name, kind in pointers.items() if kind is None}
    names = (
        "normed",
        "biased",
        "gated",
        "gelu",
        "residual",
        "wide",
        "prepared",
        "sparse",
        "scaled",
    )
    epilogue = "-".join(name for name in names if getattr(part, name)) + f"-share{part.share}"
    return Variant(
        name=(
            f"{code}-g{group}-{part.outputs}x{part.columns}-{dtype}-{epilogue}-one{one:d}"
            f"-{tile.warps}x{tile.blocks}x{tile.stages}"
        ),
        kernel=linear_kernel,
        signature=signature,
        constexprs=left_out
        | ({"rows": 1} if one else {})
        | {
            "K": part.columns,
            "CODE": CODES[code],
            "GROUP": group,
            "BF16": dtype == "bf16",
            "ONE": one,
            "SHARE": part.share,
            "CHANNEL": channel,
            "NORMED": part.normed,
            "ROW_SCALED": part.prepared or part.scaled,
            "EXTRA": part.sparse,
            "HAS_BIAS": part.biased,
            "GATED": part.gated,
            "GELU": part.gelu,
            "RESIDUAL": part.residual,
            "PDL": pdl,
            "W": tile.warps,
            "UG": tile.blocks,
            "STAGES": tile.stages,
        },
        warps=tile.warps,
        only_sms=sms,
        divisible=("outputs",),
        most_stack_bytes=0 if one else _STACK_BYTES,
        dependent=pdl,
    )


def _shape(form: tuple[str, int], part: _Part, *, one: bool) -> LinearShape:
    code, group = form
    return LinearShape(
        code=code,
        group_size=group,
        outputs=part.outputs,
        columns=part.columns,
        gated=part.gated,
        one_row=one,
    )


def _fits(form: tuple[str, int], part: _Part) -> bool:
    return form[1] == 0 or part.columns % form[1] == 0


def _parts_of(code: str) -> tuple[_Part, ...]:
    """Linears of an 8B model as a decode step of that code runs them; tables are never the head's."""
    if code in ("lut4", "lut3"):
        return _SPARSE_PARTS
    return _TUNED_PARTS[:4] if code in ("codebook4", "nested4") else _TUNED_PARTS


def _tuned() -> list[Variant]:
    """Every tile that is in the table of a card."""
    found = []
    for sm, code, group, one in TUNED:
        for part, dtype in zip(_parts_of(code), itertools.cycle(POINTEE), strict=False):
            tile = tile_for(_shape((code, group), part, one=one), sm)
            found.append(_linear((code, group), part, dtype, one=one, tile=tile, sms=(sm,)))
    return found


def _prepared() -> list[Variant]:
    """Two-level int4 at 8B shapes on SM 90, one row."""
    found = []
    for part, dtype in zip(_PREPARED_PARTS, itertools.cycle(POINTEE), strict=False):
        tile = tile_for(_shape(("int4", 128), part, one=True), LOWEST_DEPENDENT_SM)
        found.append(
            _linear(("int4", 128), part, dtype, one=True, tile=tile, sms=(LOWEST_DEPENDENT_SM,))
        )
    return found


def _ruled() -> list[Variant]:
    """Tiles by the rule: every form in both dtypes for one row and several, epilogues in turn."""
    found = []
    for number, form in enumerate(FORMS):
        for turn, (dtype, one) in enumerate(itertools.product(POINTEE, (True, False))):
            part = next(
                part
                for part in itertools.islice(
                    itertools.cycle(_AWKWARD_PARTS), number + turn, number + turn + 5
                )
                if _fits(form, part)
            )
            shape = _shape(form, part, one=one)
            by_tile: dict[tuple[Tile, bool], list[int]] = {}
            for place, sm in enumerate(SM_VERSIONS):
                # SM 90 has the widest range of instructions; others take every form in turn.
                if sm < LOWEST_SM or (sm != LOWEST_DEPENDENT_SM and (number + turn + place) % 4):
                    continue
                key = (tile_for(shape, sm), sm >= LOWEST_DEPENDENT_SM)
                by_tile.setdefault(key, []).append(sm)
            found += [
                _linear(form, part, dtype, one=one, tile=tile, sms=tuple(sms))
                for (tile, _), sms in by_tile.items()
            ]
    return found


def _experts() -> list[Variant]:
    """Slots of experts, down scaled by the router, and blocks of rows that share an expert."""
    forms = (("int4", 128), ("int4", 64), ("int8", 0), ("dense", 0))
    blocks = int(BLOCKS.value)
    parts = (
        _Part(outputs=1536, columns=2048, gated=True, share=8),
        _Part(outputs=2048, columns=768, scaled=True, wide=True, share=1),
        _Part(outputs=1536, columns=2048, gated=True, share=blocks),
        _Part(outputs=2048, columns=768, share=blocks),
    )
    found = []
    for (form, part), dtype, sm in zip(
        itertools.product(forms, parts),
        itertools.cycle(POINTEE),
        itertools.cycle((LOWEST_DEPENDENT_SM, LOWEST_SM, 120)),
        strict=False,
    ):
        one = part.share != blocks
        tile = tile_for(_shape(form, part, one=one), sm)
        found.append(_linear(form, part, dtype, one=one, tile=tile, sms=(sm,)))
    return found


def _several() -> list[Variant]:
    """Several rows of prepared inputs, and with sparse sums."""
    parts = (
        (("int4", 64), _Part(outputs=576, columns=1536, prepared=True, residual=True)),
        (("lut4", 0), _Part(outputs=3072, columns=640, normed=True, gated=True, sparse=True)),
    )
    return [
        _linear(
            form,
            part,
            "bf16",
            one=False,
            tile=tile_for(_shape(form, part, one=False), LOWEST_SM),
            sms=(LOWEST_SM,),
        )
        for form, part in parts
    ]


def _dequantize(
    columns: int, group: int, dtype: str, gated: bool, *, channel: bool = False
) -> Variant:
    pointers = {"w_ptr": "*i32", "s_ptr": "*i32", "y_ptr": {**POINTEE, "int8": "*i8"}[dtype]}
    left_out: dict[str, object] = {} if channel else {"channel_ptr": None}
    return Variant(
        name=f"dequantize-{columns}-g{group}-{dtype}-gated{gated:d}-channel{channel:d}",
        kernel=linear_dequantize_kernel,
        signature=pointers | ({"channel_ptr": "*fp32"} if channel else {}) | {"outputs": "i32"},
        constexprs=left_out
        | {"K": columns, "GROUP": group, "GATED": gated, "CHANNEL": channel, "UNITS": 4},
    )


def _dequantize_table(code: str, columns: int, dtype: str, gated: bool) -> Variant:
    nested, plain = code == "nested4", code == "codebook4"
    pointers = {
        "w_ptr": "*i32",
        "top_ptr": "*i32" if code == "lut3" else None,
        "planes_ptr": "*u8",
        "s_ptr": "*fp32" if plain else "*u8" if nested else None,
        "values_ptr": "*fp32" if nested else None,
        "pairs_ptr": "*fp32" if nested else None,
        "y_ptr": POINTEE[dtype],
    }
    signature = {name: kind for name, kind in pointers.items() if kind is not None}
    left_out: dict[str, object] = {name: None for name, kind in pointers.items() if kind is None}
    return Variant(
        name=f"dequantize-{code}-{columns}-{dtype}-gated{gated:d}",
        kernel=table_dequantize_kernel,
        signature=signature | {"outputs": "i32"},
        constexprs=left_out
        | {
            "K": columns,
            "BITS": 3 if code == "lut3" else 4,
            "SCALES": SCALES[code],
            "GATED": gated,
            "BF16": dtype == "bf16",
            "UNITS": 4,
        },
        lowest_sm=LOWEST_SM,
    )


def variants() -> tuple[Variant, ...]:
    """Every configuration that must compile."""
    return (
        *_tuned(),
        *_prepared(),
        *_ruled(),
        *_several(),
        *_experts(),
        _dequantize(14336, 128, "fp16", False),
        _dequantize(4096, 128, "bf16", True),
        _dequantize(576, 64, "bf16", False),
        _dequantize(608, 32, "fp16", True),
        _dequantize(1536, 64, "bf16", False, channel=True),
        _dequantize(4096, 128, "int8", True),
        *many_variants(),
        *grouped_variants(),
        _dequantize_table("codebook4", 4096, "fp16", True),
        _dequantize_table("nested4", 14336, "bf16", False),
        _dequantize_table("lut4", 576, "fp16", False),
        _dequantize_table("lut3", 576, "bf16", True),
    )
