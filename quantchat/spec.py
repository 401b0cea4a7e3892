"""What a decoder is, as facts: the one record that family files fill and the decoder obeys.

Rotary pairs are adjacent (2i, 2i+1) in this code base; the loader permutes rows of q and k
where a checkpoint pairs (i, i + D/2), so no second convention reaches a kernel.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

RopeScaling: TypeAlias = (
    "LinearScaling | Llama3Scaling | DynamicScaling | YarnScaling | FactorScaling"
)


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
class RopeSpec:
    """Rotary embedding: `rotary_dim` of each head's D values turn."""

    theta: float
    rotary_dim: int
    scaling: RopeScaling | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DecoderSpec:
    """Shape and arithmetic of a decoder-only transformer."""

    architecture: str
    """Family name as shown to people: llama, mistral, qwen2, qwen3."""
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
    activation: Literal["silu"]
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

    @property
    def linear_parameters(self) -> int:
        """Weights of the decoder's linears, without embedding and head."""
        q = self.heads * self.head_dim
        kv = self.kv_heads * self.head_dim
        layer = self.hidden * (2 * q + 2 * kv) + 3 * self.hidden * self.intermediate
        return layer * self.layers

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

    def window(self, layer: int) -> int:
        """Sliding window of a layer, 0 for none."""
        return self.windows[layer] if self.windows else 0
