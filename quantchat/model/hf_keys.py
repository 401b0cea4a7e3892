"""What Hugging Face configs of single families say in keys that no other family has.

Each function takes the config and the spec that common keys give, and returns the true one.
"""

from __future__ import annotations

import math
from dataclasses import replace

from quantchat.checkpoints.facts import Facts
from quantchat.errors import UnsupportedModelError
from quantchat.model.config_rope import rope_from_parameters
from quantchat.spec import DecoderSpec, ExpertsSpec, Placement, RopeKind, RopeSpec

MAX_EXPERTS = 1024
MAX_EXPERTS_IN_ALL = 1 << 15
"""Over all layers: twice what the widest models have."""
MAX_SCALE = 1e6
GEMMA3_LOCAL_THETA = 10000.0
GEMMA3_GLOBAL_THETA = 1000000.0


def smollm3_spec(config: Facts, spec: DecoderSpec) -> DecoderSpec:
    """Which layers have no rotary embedding."""
    turned = config.optional_integers("no_rope_layers")
    if turned is None:
        every = config.integer("no_rope_layer_interval", default=4, minimum=1)
        turned = [int((i + 1) % every != 0) for i in range(spec.layers)]
    if len(turned) != spec.layers or set(turned) - {0, 1}:
        raise UnsupportedModelError(config.path, "no_rope_layers is no 0 or 1 for each layer")
    kinds: tuple[RopeKind, ...] = tuple("main" if turns else "none" for turns in turned)
    return replace(spec, rope_kinds=() if all(turned) else kinds)


def granite_spec(config: Facts, spec: DecoderSpec) -> DecoderSpec:
    """The four multipliers."""
    scaling = config.number("logits_scaling", default=1.0)
    if not 1 / MAX_SCALE <= abs(scaling) <= MAX_SCALE:
        raise UnsupportedModelError(config.path, f"logits_scaling is {scaling}")
    return replace(
        spec,
        embedding_scale=config.number("embedding_multiplier", default=1.0),
        residual_scale=config.number("residual_multiplier", default=1.0),
        attention_scale=config.number("attention_multiplier", default=1.0),
        logits_scale=1 / scaling,
    )


def _gemma(config: Facts, spec: DecoderSpec) -> DecoderSpec:
    """What Gemma 2 and 3 have in common; caps of 0 stand for none."""
    if config.flag("use_bidirectional_attention", default=False):
        raise UnsupportedModelError(config.path, "use_bidirectional_attention is not supported")
    scalar = config.number("query_pre_attn_scalar", default=256.0)
    if not 1 / MAX_SCALE <= scalar <= MAX_SCALE:
        raise UnsupportedModelError(config.path, f"query_pre_attn_scalar is {scalar}")
    return replace(
        spec,
        attention_scale=scalar**-0.5,
        embedding_scale=_embedding_scale(config, spec.hidden),
        attention_softcap=config.number("attn_logit_softcapping", default=0.0),
        logits_softcap=config.number("final_logit_softcapping", default=0.0),
    )


def _embedding_scale(config: Facts, hidden: int) -> float:
    """Root of the width, rounded to bfloat16 as models of that type do."""
    scale = math.sqrt(hidden)
    dtype = config.text("dtype", default=config.text("torch_dtype", default="bfloat16"))
    if dtype != "bfloat16":
        return scale
    step = 2.0 ** (math.floor(math.log2(scale)) - 7)
    return round(scale / step) * step


def gemma2_spec(config: Facts, spec: DecoderSpec) -> DecoderSpec:
    """Soft caps, whose defaults are not none."""
    spec = _gemma(config, spec)
    if "attn_logit_softcapping" not in config:
        spec = replace(spec, attention_softcap=50.0)
    if "final_logit_softcapping" not in config:
        spec = replace(spec, logits_softcap=30.0)
    return spec


def gemma3_spec(config: Facts, spec: DecoderSpec) -> DecoderSpec:
    """Two rotary embeddings, by whether a layer has a window."""
    spec = _gemma(config, spec)
    d, context = spec.head_dim, spec.context
    theta = config.number("rope_theta", default=GEMMA3_GLOBAL_THETA)
    local_theta = config.number("rope_local_base_freq", default=GEMMA3_LOCAL_THETA)
    main = RopeSpec(theta=theta, rotary_dim=d)
    local = RopeSpec(theta=local_theta, rotary_dim=d)
    tables = config.optional_section("rope_parameters")
    scaling = config.optional_section("rope_scaling")
    if tables is not None:
        full = tables.optional_section("full_attention")
        if full is not None:
            main = rope_from_parameters(config, full, d, context, theta=theta)
        sliding = tables.optional_section("sliding_attention")
        if sliding is not None:
            local = rope_from_parameters(config, sliding, d, context, theta=local_theta)
    elif scaling is not None:
        main = rope_from_parameters(config, scaling, d, context, theta=theta)
    kinds: tuple[RopeKind, ...] = tuple(
        "local" if spec.window(i) else "main" for i in range(spec.layers)
    )
    return replace(spec, rope=main, local_rope=local, rope_kinds=kinds)


def phi2_spec(config: Facts, spec: DecoderSpec) -> DecoderSpec:
    """Norms of q and k are refused."""
    if config.flag("qk_layernorm", default=False):
        raise UnsupportedModelError(config.path, "qk_layernorm is not supported")
    return spec


def falcon_spec(config: Facts, spec: DecoderSpec) -> DecoderSpec:
    """Heads that share keys, and norms of attention beside the MLP."""
    if config.flag("alibi", default=False):
        raise UnsupportedModelError(
            config.path, "alibi positions are not supported", hint="7B and 40B do without"
        )
    grouped = config.flag("new_decoder_architecture", default=False)
    heads = spec.heads
    if grouped:
        kv_heads = config.integer("num_kv_heads", default=heads, minimum=1)
    else:
        kv_heads = 1 if config.flag("multi_query", default=True) else heads
    if heads % kv_heads:
        raise UnsupportedModelError(
            config.path, f"{heads} query heads cannot share {kv_heads} KV heads evenly"
        )
    parallel = config.flag("parallel_attn", default=True)
    norms = config.integer("num_ln_in_parallel_attn", default=2 if grouped else 1)
    if grouped and not parallel:
        raise UnsupportedModelError(config.path, "new_decoder_architecture without parallel_attn")
    placement: Placement = "parallel" if parallel else "pre"
    if parallel and norms == 2:
        if not grouped:
            raise UnsupportedModelError(config.path, "num_ln_in_parallel_attn is 2 in an old model")
        placement = "parallel_two"
    return replace(spec, kv_heads=kv_heads, placement=placement)


def mixtral_spec(config: Facts, spec: DecoderSpec) -> DecoderSpec:
    """Experts as wide as the MLP of other families."""
    experts = ExpertsSpec(
        count=config.integer("num_local_experts", default=8, minimum=1, maximum=MAX_EXPERTS),
        active=config.integer("num_experts_per_tok", default=2, minimum=1),
        intermediate=spec.intermediate,
        renormalise=True,
    )
    return replace(spec, experts=checked_experts(config, experts, spec.layers))


def _qwen_experts(config: Facts, spec: DecoderSpec, *, shared: bool) -> DecoderSpec:
    step = config.integer("decoder_sparse_step", default=1, minimum=1)
    plain = set(config.optional_integers("mlp_only_layers") or ())
    dense = tuple(i for i in range(spec.layers) if i in plain or (i + 1) % step)
    count = config.optional_integer("num_experts", minimum=1, maximum=MAX_EXPERTS)
    if count is None:
        count = config.integer("num_local_experts", minimum=1, maximum=MAX_EXPERTS)
    experts = ExpertsSpec(
        count=count,
        active=config.integer("num_experts_per_tok", minimum=1),
        intermediate=config.integer("moe_intermediate_size", minimum=1, maximum=1 << 20),
        renormalise=config.flag("norm_topk_prob", default=False),
        shared_intermediate=config.integer(
            "shared_expert_intermediate_size", minimum=1, maximum=1 << 20
        )
        if shared
        else 0,
        dense_layers=dense,
    )
    return replace(spec, experts=checked_experts(config, experts, spec.layers))


def qwen2_experts_spec(config: Facts, spec: DecoderSpec) -> DecoderSpec:
    """Experts, one of them shared, and whether q, k and v have biases."""
    bias = config.flag("qkv_bias", default=True)
    return replace(_qwen_experts(config, spec, shared=True), qkv_bias=bias)


def qwen3_experts_spec(config: Facts, spec: DecoderSpec) -> DecoderSpec:
    """Experts, none of them shared."""
    return _qwen_experts(config, spec, shared=False)


def checked_experts(config: Facts, experts: ExpertsSpec, layers: int) -> ExpertsSpec:
    """Refuse a choice of more experts than there are, and more of them than any model has."""
    if experts.count * layers > MAX_EXPERTS_IN_ALL:
        raise UnsupportedModelError(
            config.path, f"{experts.count} experts in each of {layers} layers"
        )
    if experts.active > experts.count:
        raise UnsupportedModelError(
            config.path, f"{experts.active} experts a token of {experts.count}"
        )
    return experts
