"""The table of schemes; settings, command line, bench and docs are drawn from it."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from quantchat.errors import PlanError, UsageError
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
                head="int8_channel",
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
                name="awq",
                title="awq",
                summary="4-bit groups after scaling up the inputs that matter, found on calibration text the model writes itself.",
                weights="int4_group",
                head="int8_channel",
                bits=4,
                group_sizes=(128, 64, 32),
                rounding="least_squares",
                calibration="awq",
                source="AWQ, 2306.00978: scale search per layer, least squares in place of clips; W4A16",
            ),
            Scheme(
                name="squeezellm",
                title="squeezellm",
                summary="A table of 16 values for each output channel, placed where the loss is sensitive; 0.45 % of the weights kept in 16 bits.",
                weights="lut4",
                head="int8_channel",
                bits=4,
                rounding="kmeans",
                calibration="fisher",
                sparse_share=0.0045,
                source="SqueezeLLM, 2306.07629: Fisher-weighted k-means, dense and sparse",
            ),
            Scheme(
                name="squeezellm-3",
                title="squeezellm 3-bit",
                summary="As squeezellm with tables of 8 values: the smallest scheme here, and the lossiest.",
                weights="lut3",
                head="int8_channel",
                bits=3,
                rounding="kmeans",
                calibration="fisher",
                sparse_share=0.0045,
                source="SqueezeLLM, 2306.07629: Fisher-weighted k-means, dense and sparse",
            ),
            Scheme(
                name="nf4",
                title="nf4",
                summary="4-bit codes for normally distributed weights, one scale for 64 of them, as bitsandbytes stores them.",
                weights="codebook4",
                head="int8_channel",
                bits=4,
                group_sizes=(64,),
                rounding="nf4",
                source="QLoRA, 2305.14314; bitsandbytes NF4, blocks of 64",
            ),
            Scheme(
                name="nf4-dq",
                title="nf4-dq",
                summary="nf4 whose scales are themselves in 8 bits: 4.13 bits a weight.",
                weights="codebook4",
                head="int8_channel",
                bits=4,
                group_sizes=(64,),
                rounding="nf4_dq",
                source="QLoRA, 2305.14314; bitsandbytes NF4 with double quantization",
            ),
            Scheme(
                name="fp4",
                title="fp4",
                summary="4-bit floats in blocks of 64, the default of bitsandbytes; nf4 is closer for the same bytes.",
                weights="codebook4",
                head="int8_channel",
                bits=4,
                group_sizes=(64,),
                rounding="fp4",
                source="bitsandbytes FP4, blocks of 64",
            ),
            Scheme(
                name="llm-int8",
                title="llm-int8",
                summary="int8 weights and int8 inputs, but for the inputs of 6 and above, which stay in 16 bits.",
                weights="int8_channel",
                head="dense",
                bits=8,
                activations="int8_outliers",
                all_rows=True,
                rounding="absmax",
                source="LLM.int8(), 2208.07339: vector-wise, outliers by threshold 6.0, found for each token",
            ),
            Scheme(
                name="smoothquant",
                title="smoothquant",
                summary="w8a8 after moving the inputs' outliers into the weights; how far is searched on calibration text.",
                weights="int8_channel",
                head="same",
                bits=8,
                activations="int8",
                rounding="absmax",
                calibration="smooth",
                source="SmoothQuant, 2211.10438: per-channel weights, per-token inputs, alpha searched by layer",
            ),
            Scheme(
                name="w8a8-static",
                title="w8a8 static",
                summary="w8a8 whose input scales are fixed by calibration, one for each linear, after smoothing: lossy where inputs vary much between tokens.",
                weights="int8_channel",
                head="same",
                bits=8,
                activations="int8",
                rounding="absmax",
                calibration="static",
                source="static per-tensor inputs, smoothed in front of every linear as in SmoothQuant-O3, 2211.10438",
            ),
            Scheme(
                name="fp8-static",
                title="fp8 static",
                summary="fp8 whose input scales are fixed by calibration, one for each linear.",
                weights="fp8_channel",
                head="int8_channel",
                bits=8,
                lowest_sm=80,
                activations="fp8",
                rounding="absmax",
                calibration="static",
                source="E4M3FN, per-channel weights, per-tensor static inputs",
            ),
            Scheme(
                name="qoq",
                title="qoq",
                summary="4-bit weights that expand to int8 and int8 inputs, after rotation and smoothing; made for int4 KV.",
                weights="progressive4",
                head="int8_channel",
                bits=4,
                group_sizes=(128, 64, 32),
                activations="int8",
                all_rows=True,
                rounding="progressive",
                calibration="qoq",
                source="QoQ (QServe), 2405.04532: progressive group quantization, W4A8; rounding compensated as in GPTQ, 2210.17323",
            ),
            Scheme(
                name="qoq-channel",
                title="qoq per channel",
                summary="qoq with one scale and zero point for each output channel: no groups to multiply by, lossier.",
                weights="progressive4",
                head="int8_channel",
                bits=4,
                activations="int8",
                all_rows=True,
                rounding="progressive",
                calibration="qoq",
                source="QoQ (QServe), 2405.04532: per-channel W4A8",
            ),
            Scheme(
                name="stored",
                title="as stored",
                summary="The codes of a GGUF file or a quantized folder as they are, where a kernel reads them exactly.",
                weights="stored",
                head="same",
                bits=0,
                source="ggml block formats; AWQ, GPTQ, bitsandbytes, compressed-tensors, FP8",
            ),
        )
    }
)

OTHER_NAMES: Mapping[str, str] = MappingProxyType(
    {
        "bf16": "fp16",
        "w8a16": "int8",
        "w4a16": "int4",
        "w8a8-minmax": "w8a8",
        "fp8-dynamic": "fp8",
        "squeezellm-4": "squeezellm",
    }
)
"""What others call some of them; taken wherever a scheme is named."""


def our_name(name: str) -> str:
    """What the table calls a scheme that others call `name`; anything else as it is."""
    return OTHER_NAMES.get(name, name)


def scheme_named(name: str) -> Scheme:
    """The scheme of that name, ours or another; raises UsageError naming the known ones."""
    try:
        return SCHEMES[our_name(name)]
    except KeyError:
        raise UsageError(f"unknown scheme {name!r}", hint=f"one of: {', '.join(SCHEMES)}") from None


def scheme_of_export(name: str, exported: str, wanted: str) -> str:
    """The scheme of the model called `name`, `exported` in it; raises PlanError for another."""
    if wanted not in ("auto", "stored") and scheme_named(wanted).name != exported:
        raise PlanError(
            f"{name} was exported in {exported}, {wanted} cannot be made of it",
            hint="choose the scheme auto, or the original model",
        )
    return exported
