"""Shapes of well-known models, for plans and speed measurements without their weights.

Owns literal records taken from the models' published configurations; reads no file.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from quantchat.spec import DecoderSpec, Llama3Scaling, RopeSpec

SHAPES: Mapping[str, DecoderSpec] = MappingProxyType(
    {
        "llama-3.1-8b": DecoderSpec(
            architecture="llama",
            layers=32,
            hidden=4096,
            heads=32,
            kv_heads=8,
            head_dim=128,
            intermediate=14336,
            vocab=128256,
            context=131072,
            norm_eps=1e-5,
            rope=RopeSpec(
                theta=500000.0,
                rotary_dim=128,
                scaling=Llama3Scaling(
                    factor=8.0,
                    low_freq_factor=1.0,
                    high_freq_factor=4.0,
                    original_context=8192,
                ),
            ),
            activation="silu",
            attention_scale=128**-0.5,
        ),
        "llama-3.2-1b": DecoderSpec(
            architecture="llama",
            layers=16,
            hidden=2048,
            heads=32,
            kv_heads=8,
            head_dim=64,
            intermediate=8192,
            vocab=128256,
            context=131072,
            norm_eps=1e-5,
            rope=RopeSpec(
                theta=500000.0,
                rotary_dim=64,
                scaling=Llama3Scaling(
                    factor=32.0,
                    low_freq_factor=1.0,
                    high_freq_factor=4.0,
                    original_context=8192,
                ),
            ),
            activation="silu",
            attention_scale=64**-0.5,
            tied_head=True,
        ),
        "llama-2-7b": DecoderSpec(
            architecture="llama",
            layers=32,
            hidden=4096,
            heads=32,
            kv_heads=32,
            head_dim=128,
            intermediate=11008,
            vocab=32000,
            context=4096,
            norm_eps=1e-5,
            rope=RopeSpec(theta=10000.0, rotary_dim=128),
            activation="silu",
            attention_scale=128**-0.5,
        ),
        "mistral-7b": DecoderSpec(
            architecture="mistral",
            layers=32,
            hidden=4096,
            heads=32,
            kv_heads=8,
            head_dim=128,
            intermediate=14336,
            vocab=32768,
            context=32768,
            norm_eps=1e-5,
            rope=RopeSpec(theta=1000000.0, rotary_dim=128),
            activation="silu",
            attention_scale=128**-0.5,
        ),
        "qwen2.5-7b": DecoderSpec(
            architecture="qwen2",
            layers=28,
            hidden=3584,
            heads=28,
            kv_heads=4,
            head_dim=128,
            intermediate=18944,
            vocab=152064,
            context=32768,
            norm_eps=1e-6,
            rope=RopeSpec(theta=1000000.0, rotary_dim=128),
            activation="silu",
            attention_scale=128**-0.5,
            qkv_bias=True,
        ),
        "qwen3-8b": DecoderSpec(
            architecture="qwen3",
            layers=36,
            hidden=4096,
            heads=32,
            kv_heads=8,
            head_dim=128,
            intermediate=12288,
            vocab=151936,
            context=40960,
            norm_eps=1e-6,
            rope=RopeSpec(theta=1000000.0, rotary_dim=128),
            activation="silu",
            attention_scale=128**-0.5,
            qk_norm=True,
        ),
        "smollm2-135m": DecoderSpec(
            architecture="llama",
            layers=30,
            hidden=576,
            heads=9,
            kv_heads=3,
            head_dim=64,
            intermediate=1536,
            vocab=49152,
            context=8192,
            norm_eps=1e-5,
            rope=RopeSpec(theta=100000.0, rotary_dim=64),
            activation="silu",
            attention_scale=64**-0.5,
            tied_head=True,
        ),
    }
)
"""Name -> shape; mistral-7b is v0.3 (no sliding window)."""
