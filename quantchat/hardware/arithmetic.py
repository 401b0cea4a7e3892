"""What a model's products are computed in: activations' type, their rounding, copies for prompts.

Owns the rules and their words; pure.
"""

from __future__ import annotations

from quantchat.hardware.facts import CpuFacts, GpuFacts
from quantchat.hardware.memory import GIB, MemoryFit
from quantchat.hardware.op_table import TABLE_FORMATS
from quantchat.hardware.reasons import Reasons
from quantchat.hardware.target import ComputeDtype, Target
from quantchat.quant.scheme import OUTLIER_THRESHOLD, ActivationFormat, Scheme, WeightFormat
from quantchat.spec import DecoderSpec

FP16_FAMILIES = frozenset({"llama", "mistral"})
"""Families that are served in float16 everywhere (AWQ checkpoints of them are float16)."""
LOWEST_FP8_SM = 89
"""First card that multiplies fp8."""
LOWEST_INT8_SM = 80
"""First card on which the linears of prompts take 8-bit inputs."""
PACKED_FORMATS: frozenset[WeightFormat] = frozenset(
    {"int4_group", "stored", "codebook4", "lut4", "lut3", "progressive4"}
)
"""Weights of at most 4 bits, whose error is not to be added to."""
INT8_UNITS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "i8mm"})
HELD_DENSE: frozenset[WeightFormat] = TABLE_FORMATS | {"dense", "fp8_channel"}
"""Formats whose values the CPU holds in 16 bits."""
COPY_SHARE = 0.5
"""Dense copies for prefill are kept on the CPU if all of it stays below this part of free memory."""


def compute_dtype(
    target: Target, scheme: Scheme, spec: DecoderSpec, *, triton: bool, words: Reasons
) -> ComputeDtype:
    """float16 for weights of 4 bits where the family's activations fit its range; else the card's."""
    packed = scheme.weights in PACKED_FORMATS
    if not (triton and packed and target.dtype == "bfloat16"):
        return target.dtype
    if spec.architecture not in FP16_FAMILIES:
        words.refuse(
            f"float16: {spec.architecture} has activations beyond its range, bfloat16 has the "
            "range and three bits less"
        )
        return target.dtype
    words.drop("bfloat16:")
    words.take(
        "float16: ten bits of mantissa instead of bfloat16's seven, and this family's activations "
        "stay within its range"
    )
    return "float16"


def choose_activations(
    gpu: GpuFacts | None,
    cpu: CpuFacts,
    scheme: Scheme,
    copy: ComputeDtype | None,
    *,
    triton: bool,
    words: Reasons,
) -> ActivationFormat:
    """What linears' inputs are rounded to for many rows: the scheme's wish where it pays."""
    wish = scheme.activations
    if wish == "16bit":
        return "16bit"
    if gpu is None:
        if scheme.all_rows:
            words.take(_rounded_words(wish))
            return wish
        return _activations_cpu(cpu, wish, copy, words)
    what = "int8 inputs" if scheme.all_rows else f"{wish} products"
    if not triton:
        words.refuse(f"{what}: need our kernels, multiplying in 16 bits")
        return "16bit"
    lowest = LOWEST_FP8_SM if wish == "fp8" else LOWEST_INT8_SM
    if gpu.sm < lowest:
        words.refuse(f"{what}: need SM {lowest}, this card is SM {gpu.sm}, multiplying in 16 bits")
        return "16bit"
    if scheme.all_rows:
        words.take(_rounded_words(wish))
    elif scheme.calibration == "static":
        words.take(f"{wish} products for prompts: one scale a linear, fixed by calibration")
    else:
        words.take(f"{wish} products for prompts: one scale a token, measured as they come")
    return wish


def _rounded_words(wish: ActivationFormat) -> str:
    but = f", but for those of {OUTLIER_THRESHOLD:g} and above" if wish == "int8_outliers" else ""
    return f"int8 inputs: rounded before every linear, one scale a token{but}; the head's are not"


def _activations_cpu(
    cpu: CpuFacts, wish: ActivationFormat, copy: ComputeDtype | None, words: Reasons
) -> ActivationFormat:
    if wish == "fp8":
        words.refuse(
            "fp8 on the CPU: no op multiplies it, its values are held and multiplied in "
            "bfloat16 and prompts rounded as a card would: the same answer, no gain"
        )
        return wish
    if has_int8_units(cpu):
        words.take("int8 products for prompts: this processor has int8 units")
        return wish
    if copy is not None:
        words.refuse(f"int8 products: this processor has no int8 units, codes multiplied in {copy}")
        return wish
    words.refuse("int8 products: no int8 units and no room for copies, as int8")
    return "16bit"


def has_int8_units(cpu: CpuFacts) -> bool:
    """Without them the CPU's int8 products saturate on the way."""
    return bool(cpu.isa & INT8_UNITS)


def wished_copy(target: Target, cpu: CpuFacts, scheme: Scheme) -> ComputeDtype | None:
    """Type of the dense copies that prompts would be read faster with on the CPU; None: no use."""
    held_dense = scheme.weights in HELD_DENSE
    if target.gpu is not None or (held_dense and target.bf16_units):
        return None
    if scheme.activations == "int8" and has_int8_units(cpu):
        return None
    return "bfloat16" if target.bf16_units else "float32"


def copy_kept(copy: ComputeDtype, with_copy: MemoryFit, words: Reasons) -> bool:
    """Whether memory allows the copies."""
    free = with_copy.free_bytes
    if with_copy.needed_bytes > COPY_SHARE * free:
        words.refuse(
            f"{copy} copies for prefill: {with_copy.needed_bytes / GIB:.1f} GiB with them, more "
            f"than half of the free {free / GIB:.1f} GiB"
        )
        return False
    words.take(f"{copy} copies beside the weights: prefill is faster on them")
    return True
