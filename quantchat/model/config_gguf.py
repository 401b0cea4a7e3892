"""From GGUF metadata to a spec; fails on what it does not know (ggml docs/gguf.md)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from quantchat.checkpoints.gguf import GgufFile
from quantchat.errors import CheckpointError, UnsupportedModelError
from quantchat.model.config_hf import MAX_LAYERS, MAX_WIDTH, check_heads
from quantchat.model.config_rope import DEFAULT_ROPE_THETA
from quantchat.model.naming import GGUF, Naming
from quantchat.spec import (
    DecoderSpec,
    FactorScaling,
    LinearScaling,
    RopeScaling,
    RopeSpec,
    YarnScaling,
)

ROPE_FACTORS = "rope_freqs.weight"


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufTraits:
    """What an architecture word fixes."""

    name: str
    adjacent_pairs: bool
    """The converter already put rotary pairs side by side."""
    qkv_bias: bool = False
    qk_norm: bool = False


ARCHITECTURES: Mapping[str, GgufTraits] = {
    "llama": GgufTraits(name="llama", adjacent_pairs=True),
    "qwen2": GgufTraits(name="qwen2", adjacent_pairs=False, qkv_bias=True),
    "qwen3": GgufTraits(name="qwen3", adjacent_pairs=False, qk_norm=True),
}


def gguf_traits(file: GgufFile) -> GgufTraits:
    """The traits of the file's architecture; UnsupportedModelError for one we do not know."""
    word = file.metadata.text("general.architecture")
    traits = ARCHITECTURES.get(word)
    if traits is None:
        raise UnsupportedModelError(
            file.path,
            f"architecture {word!r} is not supported",
            hint=f"supported: {', '.join(ARCHITECTURES)}",
        )
    return traits


def gguf_naming(file: GgufFile) -> Naming:
    """What the file calls its tensors."""
    return GGUF


def spec_from_gguf(file: GgufFile) -> DecoderSpec:
    """Read the spec from metadata and from which tensors there are."""
    traits, facts = gguf_traits(file), file.metadata
    word = facts.text("general.architecture")
    if facts.integer(f"{word}.expert_count", default=0):
        raise UnsupportedModelError(file.path, "mixtures of experts are not supported yet")
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
    window = facts.integer(f"{word}.attention.sliding_window", default=0, minimum=0)
    return DecoderSpec(
        architecture=traits.name,
        layers=layers,
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate=facts.integer(f"{word}.feed_forward_length", minimum=1, maximum=MAX_WIDTH),
        vocab=embedding.shape[0],
        context=context,
        norm_eps=facts.number(f"{word}.attention.layer_norm_rms_epsilon"),
        rope=RopeSpec(
            theta=facts.number(f"{word}.rope.freq_base", default=DEFAULT_ROPE_THETA),
            rotary_dim=facts.integer(
                f"{word}.rope.dimension_count", default=head_dim, minimum=2, maximum=head_dim
            ),
            scaling=_scaling(file, word, context),
        ),
        activation="silu",
        attention_scale=head_dim**-0.5,
        qkv_bias="blk.0.attn_q.bias" in file.tensors or traits.qkv_bias,
        output_bias="blk.0.attn_output.bias" in file.tensors,
        mlp_bias="blk.0.ffn_down.bias" in file.tensors,
        qk_norm=traits.qk_norm,
        tied_head="output.weight" not in file.tensors,
        windows=(window,) * layers if window else (),
    )


def _scaling(file: GgufFile, word: str, context: int) -> RopeScaling | None:
    facts = file.metadata
    kind = facts.text(f"{word}.rope.scaling.type", default="none")
    if ROPE_FACTORS in file.tensors:
        if (
            kind not in ("none", "linear")
            or facts.number(f"{word}.rope.scaling.factor", default=1.0) != 1
        ):
            raise UnsupportedModelError(file.path, f"rope factors besides {kind} scaling")
        factors = file.dense(ROPE_FACTORS).flatten().tolist()
        if not all(math.isfinite(factor) and factor > 0 for factor in factors):
            raise CheckpointError(
                file.path, "holds factors that are not positive", tensor=ROPE_FACTORS
            )
        return FactorScaling(factors=tuple(factors))
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
