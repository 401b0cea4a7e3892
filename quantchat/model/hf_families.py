"""What each family of Hugging Face models fixes by its code rather than by its config.

Owns the table of architectures, and of each what is read from keys that no other has.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from quantchat.checkpoints.facts import Facts
from quantchat.errors import UnsupportedModelError
from quantchat.model import naming
from quantchat.model.config_rope import DEFAULT_ROPE_THETA, rope_from_parameters
from quantchat.model.naming import Naming
from quantchat.spec import (
    Activation,
    DecoderSpec,
    ExpertsSpec,
    NormKind,
    Placement,
    RopeKind,
    RopeSpec,
)

MAX_EXPERTS = 1024
MAX_EXPERTS_IN_ALL = 1 << 15
"""Over all layers: twice what the widest models have."""
MAX_SCALE = 1e6
GEMMA3_LOCAL_THETA = 10000.0
GEMMA3_GLOBAL_THETA = 1000000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class FamilyTraits:
    """Facts of a family, and defaults that its config class states."""

    name: str
    naming: Naming = naming.APART
    section: str = ""
    """The table of config.json that describes the decoder, of models that also see."""
    keys: Mapping[str, str] = field(default_factory=dict)
    """Names of keys that the family calls otherwise than Llama."""
    defaults: Mapping[str, float] = field(default_factory=dict)
    eps: float | None = None
    rope_theta: float = DEFAULT_ROPE_THETA
    partial_rotary: float = 1.0
    one_rope: bool = True
    """All layers have the same; else `finish` reads them."""
    activation_key: str = "hidden_act"
    activation: str | None = None
    """The default, as configs call it."""
    activations: tuple[Activation, ...] = ("silu",)
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    head_bias: bool = False
    bias_flag: str | None = None
    """Key that adds biases to q, k, v and o."""
    mlp_bias_flag: str | None = None
    qk_norm: bool = False
    qk_norm_wide: bool = False
    windows: bool = False
    """`sliding_window` applies to every layer."""
    window_layers: bool = False
    """`use_sliding_window` and `max_window_layers` say which layers have one."""
    window_flag: bool = False
    """`use_sliding_window` says whether all layers have one."""
    window_pattern: int = 0
    """Every so many layers one without a window."""
    window: int | None = None
    """Its default."""
    norm: NormKind = "rms"
    norm_offset: float = 0.0
    placement: Placement = "pre"
    gated: bool = True
    four_fold: bool = False
    """The MLP is four times as wide as the stream unless the file says otherwise."""
    finish: Callable[[Facts, DecoderSpec], DecoderSpec] | None = None

    def plain_rope(self, head_dim: int) -> RopeSpec:
        """A rotary embedding to begin with, where `finish` reads the true ones."""
        return RopeSpec(theta=self.rope_theta, rotary_dim=head_dim)


def _smollm3(config: Facts, spec: DecoderSpec) -> DecoderSpec:
    turned = config.optional_integers("no_rope_layers")
    if turned is None:
        every = config.integer("no_rope_layer_interval", default=4, minimum=1)
        turned = [int((i + 1) % every != 0) for i in range(spec.layers)]
    if len(turned) != spec.layers or set(turned) - {0, 1}:
        raise UnsupportedModelError(config.path, "no_rope_layers is no 0 or 1 for each layer")
    kinds: tuple[RopeKind, ...] = tuple("main" if turns else "none" for turns in turned)
    return replace(spec, rope_kinds=() if all(turned) else kinds)


def _granite(config: Facts, spec: DecoderSpec) -> DecoderSpec:
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


def _gemma2(config: Facts, spec: DecoderSpec) -> DecoderSpec:
    spec = _gemma(config, spec)
    if "attn_logit_softcapping" not in config:
        spec = replace(spec, attention_softcap=50.0)
    if "final_logit_softcapping" not in config:
        spec = replace(spec, logits_softcap=30.0)
    return spec


def _gemma3(config: Facts, spec: DecoderSpec) -> DecoderSpec:
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


def _phi2(config: Facts, spec: DecoderSpec) -> DecoderSpec:
    if config.flag("qk_layernorm", default=False):
        raise UnsupportedModelError(config.path, "qk_layernorm is not supported")
    return spec


def _falcon(config: Facts, spec: DecoderSpec) -> DecoderSpec:
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


def _mixtral(config: Facts, spec: DecoderSpec) -> DecoderSpec:
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


def _qwen2_experts(config: Facts, spec: DecoderSpec) -> DecoderSpec:
    bias = config.flag("qkv_bias", default=True)
    return replace(_qwen_experts(config, spec, shared=True), qkv_bias=bias)


def _qwen3_experts(config: Facts, spec: DecoderSpec) -> DecoderSpec:
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


_GEMMA3 = FamilyTraits(
    name="gemma3",
    naming=naming.GEMMA,
    eps=1e-6,
    defaults=MappingProxyType(
        {
            "num_attention_heads": 8,
            "num_key_value_heads": 4,
            "head_dim": 256,
            "max_position_embeddings": 131072,
            "vocab_size": 262208,
        }
    ),
    one_rope=False,
    activation_key="hidden_activation",
    activation="gelu_pytorch_tanh",
    activations=("gelu_tanh",),
    bias_flag="attention_bias",
    qk_norm=True,
    window_pattern=6,
    window=4096,
    norm="rms_float",
    norm_offset=1.0,
    placement="both",
    finish=_gemma3,
)

ARCHITECTURES: Mapping[str, FamilyTraits] = MappingProxyType(
    {
        "LlamaForCausalLM": FamilyTraits(
            name="llama", bias_flag="attention_bias", mlp_bias_flag="mlp_bias"
        ),
        "MistralForCausalLM": FamilyTraits(name="mistral", windows=True),
        "MixtralForCausalLM": FamilyTraits(
            name="mixtral",
            naming=naming.MIXTRAL,
            rope_theta=1e6,
            windows=True,
            finish=_mixtral,
        ),
        "Qwen2ForCausalLM": FamilyTraits(name="qwen2", qkv_bias=True, window_layers=True),
        "Qwen2MoeForCausalLM": FamilyTraits(
            name="qwen2moe",
            naming=naming.QWEN_EXPERTS,
            window_layers=True,
            finish=_qwen2_experts,
        ),
        "Qwen3ForCausalLM": FamilyTraits(
            name="qwen3", bias_flag="attention_bias", qk_norm=True, window_layers=True
        ),
        "Qwen3MoeForCausalLM": FamilyTraits(
            name="qwen3moe",
            naming=naming.QWEN_EXPERTS,
            bias_flag="attention_bias",
            qk_norm=True,
            window_flag=True,
            finish=_qwen3_experts,
        ),
        "Phi3ForCausalLM": FamilyTraits(name="phi3", naming=naming.PHI3, windows=True),
        "PhiForCausalLM": FamilyTraits(
            name="phi2",
            naming=naming.PHI2,
            keys=MappingProxyType({"rms_norm_eps": "layer_norm_eps"}),
            eps=1e-5,
            partial_rotary=0.5,
            activation="gelu_new",
            activations=("gelu_tanh", "gelu"),
            qkv_bias=True,
            output_bias=True,
            mlp_bias=True,
            head_bias=True,
            norm="layer",
            placement="parallel",
            gated=False,
            finish=_phi2,
        ),
        "SmolLM3ForCausalLM": FamilyTraits(
            name="smollm3",
            rope_theta=2000000.0,
            bias_flag="attention_bias",
            mlp_bias_flag="mlp_bias",
            finish=_smollm3,
        ),
        "GraniteForCausalLM": FamilyTraits(
            name="granite",
            bias_flag="attention_bias",
            mlp_bias_flag="mlp_bias",
            finish=_granite,
        ),
        "Olmo2ForCausalLM": FamilyTraits(
            name="olmo2",
            naming=naming.OLMO2,
            eps=1e-5,
            bias_flag="attention_bias",
            qk_norm=True,
            qk_norm_wide=True,
            norm="rms_float",
            placement="post",
        ),
        "Gemma2ForCausalLM": FamilyTraits(
            name="gemma2",
            naming=naming.GEMMA,
            eps=1e-6,
            activation_key="hidden_activation",
            activation="gelu_pytorch_tanh",
            activations=("gelu_tanh",),
            bias_flag="attention_bias",
            window_pattern=2,
            window=4096,
            norm="rms_float",
            norm_offset=1.0,
            placement="both",
            finish=_gemma2,
        ),
        "Gemma3ForCausalLM": _GEMMA3,
        "Gemma3ForConditionalGeneration": replace(_GEMMA3, section="text_config"),
        "InternLM2ForCausalLM": FamilyTraits(
            name="internlm2", naming=naming.INTERNLM2, bias_flag="bias"
        ),
        "FalconForCausalLM": FamilyTraits(
            name="falcon",
            naming=naming.FALCON,
            keys=MappingProxyType(
                {
                    "rms_norm_eps": "layer_norm_epsilon",
                    "intermediate_size": "ffn_hidden_size",
                    "num_key_value_heads": "num_attention_heads",
                }
            ),
            defaults=MappingProxyType({"max_position_embeddings": 2048}),
            eps=1e-5,
            activation_key="activation",
            activation="gelu",
            activations=("gelu", "gelu_tanh"),
            bias_flag="bias",
            mlp_bias_flag="bias",
            norm="layer",
            gated=False,
            four_fold=True,
            finish=_falcon,
        ),
    }
)
"""By the word in config.json."""
