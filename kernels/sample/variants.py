"""Sampling kernels in the configurations of models, to compile ahead of time."""

from __future__ import annotations

from collections.abc import Mapping

from .._variants import Variant
from .greedy import best_kernel
from .stochastic import digit_kernel, draw_kernel
from .workspace import BLOCK, BLOCKS_PER_TABLE, DIGIT_BITS

_LOGITS = {"fp16": "*fp16", "bf16": "*bf16", "fp32": "*fp32"}
_FEEDBACK = {
    "ids_ptr": "*i64",
    "positions_ptr": "*i32",
    "seq_lens_ptr": "*i32",
    "indices_ptr": "*i64",
    "active_ptr": "*i32",
    "ring_ptr": "*i64",
    "ring_rows": "i32",
}


def _variant(
    name: str,
    kernel: object,
    signature: Mapping[str, str],
    constexprs: Mapping[str, object],
    pdl: bool,
) -> Variant:
    return Variant(
        name=f"{name}{'-pdl' if pdl else ''}",
        kernel=kernel,
        signature={**signature, "seen_ptr": "*u8", "penalty_ptr": "*fp32", "V": "i32"},
        constexprs={**constexprs, "B": BLOCK, "PDL": pdl},
        dependent=pdl,
        fused=False,
    )


def _best(logits: str, penalty: bool, feedback: bool, blocks: int, pdl: bool) -> Variant:
    return _variant(
        f"best-{blocks}-{logits}-penalty{penalty:d}-feedback{feedback:d}",
        best_kernel,
        {
            "logits_ptr": _LOGITS[logits],
            "best_ptr": "*fp32",
            "best_ids_ptr": "*i32",
            "top_ptr": "*fp32",
            "top_ids_ptr": "*i32",
            "tables_ptr": "*i64",
            "arrivals_ptr": "*i32",
            "table_words": "i32",
            **_FEEDBACK,
        },
        {"BLOCKS": blocks, "CLEARED": 256, "PENALTY": penalty, "FEEDBACK": feedback},
        pdl,
    )


def _digit(logits: str, penalty: bool, index: int, pdl: bool) -> Variant:
    return _variant(
        f"digit{index}-{logits}-penalty{penalty:d}",
        digit_kernel,
        {
            "logits_ptr": _LOGITS[logits],
            "temperature_ptr": "*fp32",
            "top_k_ptr": "*i64",
            "top_p_ptr": "*fp32",
            "top_ptr": "*fp32",
            "state_ptr": "*i64",
            "tables_ptr": "*i64",
            "arrivals_ptr": "*i32",
            "tables": "i32",
        },
        {
            "KEY_BITS": 32 if penalty or logits == "fp32" else 16,
            "DIGIT": DIGIT_BITS,
            "PASS": index,
            "PER_TABLE": BLOCKS_PER_TABLE,
            "AT_ONCE": 16,
            "PENALTY": penalty,
        },
        pdl,
    )


def _draw(logits: str, penalty: bool, blocks: int, pdl: bool) -> Variant:
    return _variant(
        f"draw-{blocks}-{logits}-penalty{penalty:d}",
        draw_kernel,
        {
            "logits_ptr": _LOGITS[logits],
            "temperature_ptr": "*fp32",
            "min_p_ptr": "*fp32",
            "seeds_ptr": "*i64",
            "top_ptr": "*fp32",
            "top_ids_ptr": "*i32",
            "state_ptr": "*i64",
            "above_ptr": "*i64",
            "ties_ptr": "*i32",
            "arrivals_ptr": "*i32",
            **_FEEDBACK,
        },
        {
            "BLOCKS": blocks,
            "KEY_BITS": 32 if penalty or logits == "fp32" else 16,
            "PENALTY": penalty,
        },
        pdl,
    )


def variants() -> tuple[Variant, ...]:
    """Every configuration that must compile."""
    return (
        _best("fp16", False, True, 128, False),
        _best("bf16", False, True, 128, True),
        _best("fp32", True, True, 64, False),
        _best("fp16", True, False, 256, True),
        _best("bf16", False, False, 32, False),
        _digit("fp16", False, 0, False),
        _digit("bf16", False, 1, True),
        _digit("fp32", True, 0, False),
        _digit("bf16", True, 3, True),
        _draw("fp16", False, 128, False),
        _draw("bf16", False, 256, True),
        _draw("fp16", True, 128, False),
        _draw("fp32", False, 32, False),
    )
