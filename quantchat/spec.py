"""What a decoder is, as facts: the one record that family files fill and the decoder obeys.

Rotary pairs are adjacent (2i, 2i+1) in this code base; the loader permutes rows of q and k
where a checkpoint pairs (i, i + D/2), so no second convention reaches a kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

RopeScaling: TypeAlias = (
    "LinearScaling | Llama3Scaling | DynamicScaling | YarnScaling | FactorScaling | LongScaling"
)
NormKind: TypeAlias = Literal["rms", "rms_float", "layer"]
"""RMS that is rounded before it is multiplied by its weight, or after; LayerNorm with bias."""
Placement: TypeAlias = Literal["pre", "post", "both", "parallel", "parallel_two"]
"""Norms before the sub-blocks, behind them, or both; attention and MLP side by side behind one norm
or behind one each."""
Activation: TypeAlias = Literal["silu", "gelu", "gelu_tanh"]
RopeKind: TypeAlias = Literal["main", "local", "none"]


@dataclass(frozen=True, slots=True, kw_only=True)
class LinearScaling:
    """Every frequency divided by `factor`."""

    factor: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Llama3Scaling:
    """Low frequencies divided, high ones kept, a ramp between (Llama 3.1)."""

    factor: float
    low_freq_factor: float
    high_freq_factor: float
    original_context: int


@dataclass(frozen=True, slots=True, kw_only=True)
class DynamicScaling:
    """NTK base growth past the original context."""

    factor: float
    original_context: int


@dataclass(frozen=True, slots=True, kw_only=True)
class YarnScaling:
    """Ramp by wavelength plus attention temperature (YaRN, 2309.00071)."""

    factor: float
    original_context: int
    beta_fast: float
    beta_slow: float
    attention_factor: float
    """Multiplies cos and sin."""
    truncate: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class FactorScaling:
    """Each frequency divided by its own factor (GGUF's rope_freqs.weight)."""

    factors: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class LongScaling:
    """One set of factors up to the original context, one for contexts beyond (LongRoPE, 2402.13753)."""

    short: tuple[float, ...]
    long: tuple[float, ...]
    original_context: int
    attention_factor: float
    """Multiplies cos and sin."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeSpec:
    """Rotary embedding: `rotary_dim` of each head's D values turn."""

    theta: float
    rotary_dim: int
    scaling: RopeScaling | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertsSpec:
    """MLPs of which each token takes a few, by softmax over a router's scores."""

    count: int
    active: int
    """Taken by a token."""
    intermediate: int
    renormalise: bool
    """Weights of the experts taken add up to one."""
    shared_intermediate: int = 0
    """Width of the expert that all tokens take, behind a gate of its own; 0 without."""
    dense_layers: tuple[int, ...] = ()
    """Layers with a plain MLP instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderSpec:
    """Shape and arithmetic of a decoder-only transformer."""

    architecture: str
    """Family name as shown to people: llama, qwen3, gemma2, ..."""
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    context: int
    """Longest context that the model was made for."""
    norm_eps: float
    rope: RopeSpec
    activation: Activation
    attention_scale: float
    """Multiplies q k^T; head_dim ** -0.5 in most families."""
    qkv_bias: bool = False
    output_bias: bool = False
    mlp_bias: bool = False
    qk_norm: bool = False
    """RMS norm per head before RoPE (Qwen3)."""
    tied_head: bool = False
    windows: tuple[int, ...] = ()
    """Sliding window per layer, 0 for none; empty when no layer has one."""
    norm: NormKind = "rms"
    placement: Placement = "pre"
    gated: bool = True
    """activation(gate) * up; else activation(up)."""
    qk_norm_wide: bool = False
    """RMS norm over all heads' values of q and of k together, before RoPE (OLMo 2)."""
    rope_kinds: tuple[RopeKind, ...] = ()
    """Rotary embedding per layer: `rope`, `local_rope` or none at all; empty when all are `rope`."""
    local_rope: RopeSpec | None = None
    attention_softcap: float = 0.0
    """c in c * tanh(score / c); 0 for none."""
    logits_softcap: float = 0.0
    embedding_scale: float = 1.0
    residual_scale: float = 1.0
    """Multiplies what a sub-block adds to the stream."""
    logits_scale: float = 1.0
    head_bias: bool = False
    experts: ExpertsSpec | None = None

    @property
    def departures(self) -> tuple[str, ...]:
        """What parts it from Llama's blocks, whose norms and sums ride on linears, in words."""
        found = {
            "layer norms": self.norm == "layer",
            "norms multiplied in float32": self.norm == "rms_float",
            "norms behind sub-blocks": self.placement in ("post", "both"),
            "attention beside the MLP": self.placement in ("parallel", "parallel_two"),
            f"{self.activation} activation": self.activation != "silu",
            "an MLP without gate": not self.gated,
            "norms over all heads": self.qk_norm_wide,
            "soft-capped scores": self.attention_softcap != 0,
            "soft-capped logits": self.logits_softcap != 0,
            "scaled streams": (self.embedding_scale, self.residual_scale, self.logits_scale)
            != (1.0, 1.0, 1.0),
            "a bias of the head": self.head_bias,
            "experts": self.experts is not None,
        }
        return tuple(words for words, there in found.items() if there)

    @property
    def linear_parameters(self) -> int:
        """Weights of the decoder's linears, without embedding and head."""
        attention = self.hidden * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        return attention * self.layers + sum(
            self.mlp_matrices * self.hidden * self.mlp_width(layer) for layer in range(self.layers)
        )

    @property
    def mlp_matrices(self) -> int:
        """Matrices of an MLP: gate, up and down, or without gate."""
        return 3 if self.gated else 2

    def has_experts(self, layer: int) -> bool:
        """Whether a layer's MLP is a set of experts."""
        return self.experts is not None and layer not in self.experts.dense_layers

    def mlp_width(self, layer: int) -> int:
        """Inner width of a layer's MLP, all experts' together."""
        experts = self.experts
        if experts is None or layer in experts.dense_layers:
            return self.intermediate
        return experts.count * experts.intermediate + experts.shared_intermediate

    @property
    def embedding_parameters(self) -> int:
        """Weights of the embedding table, and so of the head."""
        return self.vocab * self.hidden

    @property
    def parameters(self) -> int:
        """All matrix weights; a tied head counts once."""
        return self.linear_parameters + self.embedding_parameters * (1 if self.tied_head else 2)

    def kv_elements_per_token(self) -> int:
        """Cache elements one token adds over all layers, K and V."""
        return 2 * self.layers * self.kv_heads * self.head_dim

    def rope_kind(self, layer: int) -> RopeKind:
        """Which rotary embedding a layer has."""
        return self.rope_kinds[layer] if self.rope_kinds else "main"

    def window(self, layer: int) -> int:
        """Sliding window of a layer, 0 for none."""
        return self.windows[layer] if self.windows else 0
