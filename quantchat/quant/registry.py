"""The table of schemes; settings, command line, bench and docs are drawn from it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from quantchat.errors import UsageError
from quantchat.quant.scheme import Scheme

SCHEMES: Mapping[str, Scheme] = MappingProxyType(
    {
        scheme.name: scheme
        for scheme in (
            Scheme(
                name="fp16",
                title="16-bit",
                summary="Every weight in 16 bits (fp16, or bf16/fp32 where the device wants it): the baseline.",
                weights="dense",
                head="same",
                bits=16,
            ),
            Scheme(
                name="int8",
                title="int8",
                summary="8-bit codes with one scale per output channel: half the bytes, next to no loss.",
                weights="int8_channel",
                head="same",
                bits=8,
                rounding="absmax",
                source="LLM.int8() vector-wise absmax, 2208.07339, without outlier columns",
            ),
            Scheme(
                name="w8a8",
                title="w8a8",
                summary="int8 weights, and prompts multiplied in int8 with one scale per token: faster prefill, a little more loss.",
                weights="int8_channel",
                head="same",
                bits=8,
                activations="int8",
                rounding="absmax",
                source="per-channel weights, dynamic per-token activations as in SmoothQuant, 2211.10438, unsmoothed",
            ),
            Scheme(
                name="fp8",
                title="fp8",
                summary="8-bit floats with one scale per output channel; prompts multiplied in fp8 with one scale per token where the card can.",
                weights="fp8_channel",
                head="same",
                bits=8,
                lowest_sm=80,
                activations="fp8",
                rounding="absmax",
                source="E4M3FN, per-channel weights, dynamic per-token activations (FP8_DYNAMIC)",
            ),
            Scheme(
                name="int4",
                title="int4",
                summary="4-bit codes in groups, fitted by least squares to what random tokens excite, int8 head; needs no data.",
                weights="int4_group",
                head="int8_channel",
                bits=4,
                group_sizes=(128, 64, 32),
                rounding="least_squares",
                source="alternating least squares per group, inputs weighed by their mean square on random tokens",
            ),
            Scheme(
                name="stored",
                title="as stored",
                summary="The blocks of a GGUF file as they are, where a kernel reads them exactly.",
                weights="stored",
                head="same",
                bits=0,
                source="ggml block formats",
            ),
        )
    }
)


def scheme_named(name: str) -> Scheme:
    """The scheme of that name; raises UsageError naming the known ones."""
    try:
        return SCHEMES[name]
    except KeyError:
        raise UsageError(
            f"unknown scheme {name!r}", hint=f"one of: auto, {', '.join(SCHEMES)}"
        ) from None
