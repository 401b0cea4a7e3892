"""From GGUF metadata to a spec; fails on what it does not know (ggml docs/gguf.md)."""

from __future__ import annotations

import math
from dataclasses import replace

from quantchat.checkpoints.facts import Facts
from quantchat.checkpoints.gguf import GgufFile
from quantchat.errors import CheckpointError, UnsupportedModelError
from quantchat.model.config_hf import MAX_LAYERS, MAX_WIDTH, check_heads
from quantchat.model.config_rope import DEFAULT_ROPE_THETA, long_attention_factor
from quantchat.model.gguf_families import GGUF_ARCHITECTURES, GgufTraits
from quantchat.model.hf_keys import MAX_EXPERTS, MAX_SCALE, checked_experts
from quantchat.model.naming import (
    GGUF,
    GGUF_EXPERTS_APART,
    GGUF_POST_NORMS,
    GGUF_TWO_NORMS,
    Naming,
)
from quantchat.spec import (
    DecoderSpec,
    ExpertsSpec,
    FactorScaling,
    LinearScaling,
    LongScaling,
    Placement,
    RopeKind,
    RopeScaling,
    RopeSpec,
    YarnScaling,
)

ROPE_FACTORS = "rope_freqs.weight"
LONG_FACTORS = "rope_factors_long.weight"
SHORT_FACTORS = "rope_factors_short.weight"
SECOND_NORM = "blk.0.attn_norm_2.weight"
FUSED_QKV = "blk.0.attn_qkv.weight"
EXPERT_APART = "ffn_gate.0.weight"
SOFTMAX_GATING = 1


def gguf_traits(file: GgufFile) -> GgufTraits:
    """The traits of the file's architecture; UnsupportedModelError for one we do not know."""
    word = file.metadata.text("general.architecture")
    traits = GGUF_ARCHITECTURES.get(word)
    if traits is None:
        raise UnsupportedModelError(
            file.path,
            f"architecture {word[:100]!r} is not supported",
            hint=f"supported: {', '.join(GGUF_ARCHITECTURES)}",
        )
    return traits


def gguf_naming(file: GgufFile) -> Naming:
    """What the file calls its tensors, and which it keeps in one."""
    traits = gguf_traits(file)
    naming = GGUF
    if traits.placement == "post":
        naming = GGUF_POST_NORMS
    elif SECOND_NORM in file.tensors:
        naming = GGUF_TWO_NORMS
    elif any(name.endswith(EXPERT_APART) for name in file.tensors):
        naming = GGUF_EXPERTS_APART
    return replace(
        naming,
        qkv="stacked" if FUSED_QKV in file.tensors else "apart",
        gate_up="stacked" if traits.stacked_gate_up else "apart",
    )


def spec_from_gguf(file: GgufFile) -> DecoderSpec:
    """Read the spec from metadata and from which tensors there are."""
    traits, facts = gguf_traits(file), file.metadata
    word = facts.text("general.architecture")
    hidden = facts.integer(f"{word}.embedding_length", minimum=1, maximum=MAX_WIDTH)
    heads = facts.integer(f"{word}.attention.head_count", minimum=1, maximum=MAX_WIDTH)
    kv_heads = facts.integer(f"{word}.attention.head_count_kv", default=heads, minimum=1)
    head_dim = facts.integer(
        f"{word}.attention.key_length", default=hidden // heads, minimum=2, maximum=1024
    )
    if facts.integer(f"{word}.attention.value_length", default=head_dim) != head_dim:
        raise UnsupportedModelError(file.path, "keys and values of different sizes")
    check_heads(facts, heads, kv_heads, head_dim)
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise CheckpointError(file.path, "has no embedding", tensor="token_embd.weight")
    layers = facts.integer(f"{word}.block_count", minimum=1, maximum=MAX_LAYERS)
    context = facts.integer(f"{word}.context_length", minimum=1, maximum=1 << 24)
    intermediate = facts.integer(f"{word}.feed_forward_length", minimum=1, maximum=MAX_WIDTH)
    windows = _windows(facts, word, traits, layers)
    rotary_dim = facts.integer(
        f"{word}.rope.dimension_count", default=head_dim, minimum=2, maximum=head_dim
    )
    if rotary_dim % 2:
        raise UnsupportedModelError(file.path, f"{word}.rope.dimension_count {rotary_dim} is odd")
    rope = RopeSpec(
        theta=facts.number(f"{word}.rope.freq_base", default=DEFAULT_ROPE_THETA),
        rotary_dim=rotary_dim,
        scaling=_scaling(file, word, context),
    )
    layer_norm = traits.norm == "layer"
    placement: Placement = traits.placement
    if placement == "parallel" and SECOND_NORM in file.tensors:
        placement = "parallel_two"
    fused = FUSED_QKV in file.tensors
    bias = "blk.0.attn_qkv.bias" if fused else "blk.0.attn_q.bias"
    experts = _experts(file, word, traits, layers, intermediate)
    spec = DecoderSpec(
        architecture="mixtral" if word == "llama" and experts is not None else traits.name,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate=intermediate,
        vocab=embedding.shape[0],
        context=context,
        norm_eps=facts.number(
            f"{word}.attention.layer_norm_epsilon"
            if layer_norm
            else f"{word}.attention.layer_norm_rms_epsilon"
        ),
        rope=rope,
        activation=traits.activation,
        attention_scale=_attention_scale(facts, word, traits, layers, hidden / heads, head_dim),
        qkv_bias=bias in file.tensors or traits.qkv_bias,
        output_bias="blk.0.attn_output.bias" in file.tensors,
        mlp_bias="blk.0.ffn_down.bias" in file.tensors,
        qk_norm=traits.qk_norm,
        tied_head="output.weight" not in file.tensors,
        windows=windows,
        norm=traits.norm,
        placement=placement,
        gated=traits.gated,
        qk_norm_wide=traits.qk_norm_wide,
        head_bias="output.bias" in file.tensors,
        experts=experts,
    )
    return _with_scales(facts, word, traits, _with_kinds(facts, word, traits, spec))


def _windows(facts: Facts, word: str, traits: GgufTraits, layers: int) -> tuple[int, ...]:
    window = facts.integer(f"{word}.attention.sliding_window", default=0, minimum=0)
    if not window:
        return ()
    pattern = facts.integer(
        f"{word}.attention.sliding_window_pattern", default=traits.window_pattern, minimum=0
    )
    return tuple(0 if pattern and (i + 1) % pattern == 0 else window for i in range(layers))


def _attention_scale(
    facts: Facts, word: str, traits: GgufTraits, layers: int, wide: float, head_dim: int
) -> float:
    """What scores are multiplied by: as stated, or as llama.cpp knows it by the model's depth."""
    special = traits.head_scale_layers and layers == traits.head_scale_layers
    usual = (wide if special else head_dim) ** -0.5
    stated = facts.number(f"{word}.attention.scale", default=usual)
    return stated or usual


def _with_kinds(facts: Facts, word: str, traits: GgufTraits, spec: DecoderSpec) -> DecoderSpec:
    """Layers whose rotary embedding is another than most layers'."""
    kinds: tuple[RopeKind, ...] = ()
    if traits.unturned_every:
        every = traits.unturned_every
        kinds = tuple("none" if (i + 1) % every == 0 else "main" for i in range(spec.layers))
        return replace(spec, rope_kinds=kinds if "none" in kinds else ())
    if not traits.local_theta:
        return spec
    theta = facts.number(f"{word}.rope.freq_base_swa", default=traits.local_theta)
    local = RopeSpec(theta=theta, rotary_dim=spec.rope.rotary_dim)
    kinds = tuple("local" if spec.window(i) else "main" for i in range(spec.layers))
    return replace(spec, rope_kinds=kinds, local_rope=local)


def _with_scales(facts: Facts, word: str, traits: GgufTraits, spec: DecoderSpec) -> DecoderSpec:
    if traits.root_embedding:
        spec = replace(spec, embedding_scale=math.sqrt(spec.hidden))
    if traits.softcaps:
        spec = replace(
            spec,
            attention_softcap=facts.number(f"{word}.attn_logit_softcapping", default=0.0),
            logits_softcap=facts.number(f"{word}.final_logit_softcapping", default=0.0),
        )
    if not traits.multipliers:
        return spec
    divisor = facts.number(f"{word}.logit_scale", default=1.0)
    if not 1 / MAX_SCALE <= abs(divisor) <= MAX_SCALE:
        raise UnsupportedModelError(facts.path, f"{word}.logit_scale is {divisor}")
    return replace(
        spec,
        embedding_scale=facts.number(f"{word}.embedding_scale", default=1.0),
        residual_scale=facts.number(f"{word}.residual_scale", default=1.0),
        logits_scale=1 / divisor,
    )


def _experts(
    file: GgufFile, word: str, traits: GgufTraits, layers: int, intermediate: int
) -> ExpertsSpec | None:
    facts = file.metadata
    count = facts.integer(f"{word}.expert_count", default=0, minimum=0, maximum=MAX_EXPERTS)
    if not count:
        return None
    gating = facts.integer(f"{word}.expert_gating_func", default=SOFTMAX_GATING)
    scale = facts.number(f"{word}.expert_weights_scale", default=1.0)
    if not traits.experts or gating not in (0, SOFTMAX_GATING) or scale not in (0.0, 1.0):
        raise UnsupportedModelError(file.path, f"experts of {word} as this file has them")
    shared = 0
    if "blk.0.ffn_up_shexp.weight" in file.tensors:
        default = file.tensors["blk.0.ffn_up_shexp.weight"].shape[0]
        shared = facts.integer(
            f"{word}.expert_shared_feed_forward_length",
            default=default,
            minimum=1,
            maximum=MAX_WIDTH,
        )
    experts = ExpertsSpec(
        count=count,
        active=facts.integer(f"{word}.expert_used_count", minimum=1),
        intermediate=facts.integer(
            f"{word}.expert_feed_forward_length",
            default=intermediate,
            minimum=1,
            maximum=MAX_WIDTH,
        ),
        renormalise=traits.renormalise,
        shared_intermediate=shared,
        dense_layers=tuple(
            i for i in range(layers) if f"blk.{i}.ffn_gate_inp.weight" not in file.tensors
        ),
    )
    return checked_experts(facts, experts, layers)


def _scaling(file: GgufFile, word: str, context: int) -> RopeScaling | None:
    facts = file.metadata
    kind = facts.text(f"{word}.rope.scaling.type", default="none")
    if LONG_FACTORS in file.tensors or SHORT_FACTORS in file.tensors:
        return _long_scaling(file, word, kind, context)
    if ROPE_FACTORS in file.tensors:
        if (
            kind not in ("none", "linear")
            or facts.number(f"{word}.rope.scaling.factor", default=1.0) != 1
        ):
            raise UnsupportedModelError(file.path, f"rope factors besides {kind} scaling")
        return FactorScaling(factors=_factors(file, ROPE_FACTORS))
    if kind == "none":
        return None
    factor = facts.number(f"{word}.rope.scaling.factor")
    if factor <= 0:
        raise CheckpointError(file.path, f"rope scaling factor {factor} is not positive")
    if kind == "linear":
        return LinearScaling(factor=factor)
    if kind == "yarn":
        growth = 0.1 * math.log(factor) + 1 if factor > 1 else 1.0
        return YarnScaling(
            factor=factor,
            original_context=facts.integer(
                f"{word}.rope.scaling.original_context_length", default=context, minimum=1
            ),
            beta_fast=facts.number(f"{word}.rope.scaling.yarn_beta_fast", default=32.0),
            beta_slow=facts.number(f"{word}.rope.scaling.yarn_beta_slow", default=1.0),
            attention_factor=growth * facts.number(f"{word}.rope.scaling.attn_factor", default=1.0),
        )
    raise UnsupportedModelError(file.path, f"rope scaling {kind!r} is not supported")


def _long_scaling(file: GgufFile, word: str, kind: str, context: int) -> LongScaling:
    facts = file.metadata
    if kind not in ("none", "longrope"):
        raise UnsupportedModelError(file.path, f"rope factors besides {kind[:40]} scaling")
    original = facts.integer(
        f"{word}.rope.scaling.original_context_length", default=context, minimum=2
    )
    return LongScaling(
        short=_factors(file, SHORT_FACTORS),
        long=_factors(file, LONG_FACTORS),
        original_context=original,
        attention_factor=facts.number(
            f"{word}.rope.scaling.attn_factor",
            default=long_attention_factor(context / original, original),
        ),
    )


def _factors(file: GgufFile, name: str) -> tuple[float, ...]:
    if name not in file.tensors:
        raise CheckpointError(file.path, "is missing", tensor=name)
    factors = file.dense(name).flatten().tolist()
    if not all(math.isfinite(factor) and factor > 0 for factor in factors):
        raise CheckpointError(file.path, "holds factors that are not positive", tensor=name)
    return tuple(factors)
