"""From a Hugging Face `config.json` to a spec; fails on what it does not know.

A default stands here only where transformers' own config class states it for files that leave
the key out (llama and mistral files of 2023 do).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from quantchat.checkpoints.facts import Facts
from quantchat.errors import UnsupportedModelError
from quantchat.model.config_rope import rope_from_config
from quantchat.model.hf_families import ARCHITECTURES, FamilyTraits
from quantchat.spec import Activation, DecoderSpec

MAX_LAYERS = 1024
MAX_WIDTH = 1 << 20

ACTIVATIONS: Mapping[str, Activation] = MappingProxyType(
    {
        "silu": "silu",
        "swish": "silu",
        "gelu": "gelu",
        "gelu_new": "gelu_tanh",
        "gelu_pytorch_tanh": "gelu_tanh",
    }
)


def hf_traits(config: Facts) -> FamilyTraits:
    """The traits of a config's architecture; UnsupportedModelError for one we do not know."""
    architectures = config.texts("architectures")
    traits = ARCHITECTURES.get(architectures[0]) if architectures else None
    if traits is None:
        raise UnsupportedModelError(
            config.path,
            f"architecture {', '.join(architectures)[:200] or 'none'} is not supported",
            hint=f"supported: {', '.join(ARCHITECTURES)}",
        )
    return traits


def spec_from_config(config: Facts, *, has_head: bool) -> DecoderSpec:
    """Read the spec; `has_head` says whether the files hold an output head of their own."""
    traits = hf_traits(config)
    facts = config.section(traits.section) if traits.section else config
    keys, defaults = traits.keys, traits.defaults

    def count(key: str, default: int | None = None, *, minimum: int = 1) -> int:
        found = defaults.get(key, default)
        return facts.integer(
            keys.get(key, key),
            default=None if found is None else int(found),
            minimum=minimum,
            maximum=MAX_WIDTH,
        )

    activation = _activation(facts, traits)
    hidden = count("hidden_size")
    layers = facts.integer("num_hidden_layers", minimum=1, maximum=MAX_LAYERS)
    heads = count("num_attention_heads")
    kv_heads = count("num_key_value_heads", heads)
    head_dim = facts.integer(
        "head_dim", default=int(defaults.get("head_dim", hidden // heads)), minimum=2, maximum=1024
    )
    context = facts.integer(
        "max_position_embeddings",
        default=_whole(defaults.get("max_position_embeddings")),
        minimum=1,
        maximum=1 << 24,
    )
    check_heads(facts, heads, kv_heads, head_dim)
    bias = traits.bias_flag is not None and facts.flag(traits.bias_flag, default=False)
    tied = config.flag(
        "tie_word_embeddings", default=facts.flag("tie_word_embeddings", default=not has_head)
    )
    spec = DecoderSpec(
        architecture=traits.name,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate=count("intermediate_size", 4 * hidden if traits.four_fold else None),
        vocab=facts.integer(
            "vocab_size", default=_whole(defaults.get("vocab_size")), minimum=1, maximum=1 << 22
        ),
        context=context,
        norm_eps=facts.number(keys.get("rms_norm_eps", "rms_norm_eps"), default=traits.eps),
        rope=rope_from_config(
            facts, head_dim, context, theta=traits.rope_theta, partial=traits.partial_rotary
        )
        if traits.one_rope
        else traits.plain_rope(head_dim),
        activation=activation,
        attention_scale=head_dim**-0.5,
        qkv_bias=traits.qkv_bias or bias,
        output_bias=traits.output_bias or bias,
        mlp_bias=traits.mlp_bias
        or (traits.mlp_bias_flag is not None and facts.flag(traits.mlp_bias_flag, default=False)),
        qk_norm=traits.qk_norm,
        tied_head=tied,
        windows=_windows(facts, traits, layers),
        norm=traits.norm,
        placement=traits.placement,
        gated=traits.gated,
        qk_norm_wide=traits.qk_norm_wide,
        head_bias=traits.head_bias,
    )
    return spec if traits.finish is None else traits.finish(facts, spec)


def check_heads(facts: Facts, heads: int, kv_heads: int, head_dim: int) -> None:
    """Refuse head counts that cannot be grouped or turned."""
    if heads % kv_heads:
        raise UnsupportedModelError(
            facts.path, f"{heads} query heads cannot share {kv_heads} KV heads evenly"
        )
    if head_dim % 2 or not head_dim:
        raise UnsupportedModelError(facts.path, f"head size {head_dim} is odd or 0")


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _activation(facts: Facts, traits: FamilyTraits) -> Activation:
    word = facts.text(traits.activation_key, default=traits.activation)
    found = ACTIVATIONS.get(word)
    if found is None or found not in traits.activations:
        raise UnsupportedModelError(
            facts.path, f"{traits.activation_key} {word[:40]!r} is not supported"
        )
    return found


def _windows(config: Facts, traits: FamilyTraits, layers: int) -> tuple[int, ...]:
    kinds = config.optional_texts("layer_types")
    window = config.optional_integer("sliding_window", minimum=0)
    if window is None and "sliding_window" not in config:
        window = traits.window
    if kinds is None and traits.window_pattern and window:
        pattern = config.integer(
            "sliding_window_pattern", default=traits.window_pattern, minimum=1, maximum=MAX_LAYERS
        )
        return tuple(window if (i + 1) % pattern else 0 for i in range(layers))
    if kinds is not None:
        if len(kinds) != layers or set(kinds) - {"full_attention", "sliding_attention"}:
            raise UnsupportedModelError(config.path, f"layer_types {sorted(set(kinds))}")
        if "sliding_attention" not in kinds:
            return ()
        if not window:
            raise UnsupportedModelError(config.path, "sliding layers without a sliding_window")
        return tuple(window if kind == "sliding_attention" else 0 for kind in kinds)
    if not window:
        return ()
    if traits.windows:
        return (window,) * layers
    if traits.window_flag and config.flag("use_sliding_window", default=False):
        return (window,) * layers
    if traits.window_layers and config.flag("use_sliding_window", default=False):
        full = config.integer("max_window_layers", minimum=0)
        windows = tuple(window if i >= full else 0 for i in range(layers))
        return windows if any(windows) else ()
    return ()
