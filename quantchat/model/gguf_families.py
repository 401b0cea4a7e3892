"""What an architecture word of a GGUF file fixes, as llama.cpp's code does; no file is read here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from quantchat.spec import Activation, NormKind, Placement


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufTraits:
    """Facts of an architecture."""

    name: str
    adjacent_pairs: bool = False
    """The converter already put rotary pairs side by side."""
    qkv_bias: bool = False
    qk_norm: bool = False
    qk_norm_wide: bool = False
    norm: NormKind = "rms"
    placement: Placement = "pre"
    activation: Activation = "silu"
    gated: bool = True
    stacked_gate_up: bool = False
    window_pattern: int = 0
    """Every so many layers one without a window; 0: all layers have one, where any has."""
    local_theta: float = 0.0
    """Rotary base of layers with a window; 0 where it is that of all."""
    unturned_every: int = 0
    """Every so many layers one without rotary embedding."""
    root_embedding: bool = False
    """Embeddings are multiplied by the root of the width."""
    head_scale_layers: int = 0
    """With so many layers, scores are scaled by hidden / heads instead of the head's size."""
    multipliers: bool = False
    """Scales of embeddings, residuals, scores and logits are stated."""
    softcaps: bool = False
    experts: bool = False
    renormalise: bool = True


GGUF_ARCHITECTURES: Mapping[str, GgufTraits] = MappingProxyType(
    {
        "llama": GgufTraits(name="llama", adjacent_pairs=True, experts=True),
        "qwen2": GgufTraits(name="qwen2", qkv_bias=True),
        "qwen2moe": GgufTraits(name="qwen2moe", qkv_bias=True, experts=True, renormalise=False),
        "qwen3": GgufTraits(name="qwen3", qk_norm=True),
        "qwen3moe": GgufTraits(name="qwen3moe", qk_norm=True, experts=True),
        "phi2": GgufTraits(
            name="phi2",
            norm="layer",
            placement="parallel",
            activation="gelu_tanh",
            gated=False,
        ),
        "phi3": GgufTraits(name="phi3", stacked_gate_up=True),
        "gemma2": GgufTraits(
            name="gemma2",
            norm="rms_float",
            placement="both",
            activation="gelu_tanh",
            window_pattern=2,
            root_embedding=True,
            head_scale_layers=46,
            softcaps=True,
        ),
        "gemma3": GgufTraits(
            name="gemma3",
            qk_norm=True,
            norm="rms_float",
            placement="both",
            activation="gelu_tanh",
            window_pattern=6,
            local_theta=10000.0,
            root_embedding=True,
            head_scale_layers=62,
            softcaps=True,
        ),
        "olmo2": GgufTraits(
            name="olmo2", qk_norm=True, qk_norm_wide=True, norm="rms_float", placement="post"
        ),
        "granite": GgufTraits(name="granite", adjacent_pairs=True, multipliers=True),
        "smollm3": GgufTraits(name="smollm3", adjacent_pairs=True, unturned_every=4),
        "internlm2": GgufTraits(name="internlm2", adjacent_pairs=True),
        "falcon": GgufTraits(
            name="falcon", norm="layer", placement="parallel", activation="gelu", gated=False
        ),
    }
)
"""By the word in general.architecture."""
