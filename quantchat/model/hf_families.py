"""What each family of Hugging Face models fixes by its code rather than by its config.

Owns the table of architectures; keys that one family alone has are `hf_keys`'s.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType

from quantchat.checkpoints.facts import Facts
from quantchat.model import hf_keys, naming
from quantchat.model.config_rope import DEFAULT_ROPE_THETA
from quantchat.model.naming import Naming
from quantchat.spec import (
    Activation,
    DecoderSpec,
    NormKind,
    Placement,
    RopeSpec,
)


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
    finish=hf_keys.gemma3_spec,
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
            finish=hf_keys.mixtral_spec,
        ),
        "Qwen2ForCausalLM": FamilyTraits(name="qwen2", qkv_bias=True, window_layers=True),
        "Qwen2MoeForCausalLM": FamilyTraits(
            name="qwen2moe",
            naming=naming.QWEN_EXPERTS,
            window_layers=True,
            finish=hf_keys.qwen2_experts_spec,
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
            finish=hf_keys.qwen3_experts_spec,
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
            finish=hf_keys.phi2_spec,
        ),
        "SmolLM3ForCausalLM": FamilyTraits(
            name="smollm3",
            rope_theta=2000000.0,
            bias_flag="attention_bias",
            mlp_bias_flag="mlp_bias",
            finish=hf_keys.smollm3_spec,
        ),
        "GraniteForCausalLM": FamilyTraits(
            name="granite",
            bias_flag="attention_bias",
            mlp_bias_flag="mlp_bias",
            finish=hf_keys.granite_spec,
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
            finish=hf_keys.gemma2_spec,
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
            finish=hf_keys.falcon_spec,
        ),
    }
)
"""By the word in config.json."""
