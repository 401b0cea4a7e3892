"""What containers and families call their tensors, and which of them they keep in one.

Literal tables: our part -> the file's name, {i} the layer and {e} the expert.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from types import MappingProxyType
from typing import Literal


@dataclass(frozen=True, slots=True, kw_only=True)
class Naming:
    """A family's names; biases end in `bias` where weights end in `weight`."""

    patterns: Mapping[str, str] = field(default_factory=dict)
    qkv: Literal["apart", "stacked", "grouped"] = "apart"
    """q, k and v one after another, or for each KV head its q heads, k and v."""
    gate_up: Literal["apart", "stacked"] = "apart"
    experts: Literal["apart", "stacked"] = "apart"
    """All experts' matrices of a kind in one tensor [E, N, K]."""

    def theirs(self, name: str) -> str:
        """The file's name of a tensor of ours."""
        bias = name.endswith(".bias")
        pieces = name.removesuffix(".bias").split(".")
        layer = expert = ""
        if pieces[0] == "layers":
            layer, pieces = pieces[1], pieces[2:]
        if pieces[0] == "experts":
            expert = pieces.pop(1)
        pattern = self.patterns[self._key(".".join(pieces))]
        found = pattern.replace("{i}", layer).replace("{e}", expert)
        return found.removesuffix("weight") + "bias" if bias else found

    def _key(self, part: str) -> str:
        if part in ("q", "k", "v") and self.qkv != "apart":
            return "qkv"
        if part in ("gate", "up") and self.gate_up == "stacked":
            return "gate_up"
        return part

    def within(self, before: str, after: str) -> Naming:
        """The same names with another start where they start with `before`."""
        patterns = {
            part: after + name.removeprefix(before) if name.startswith(before) else name
            for part, name in self.patterns.items()
        }
        return replace(self, patterns=MappingProxyType(patterns))


def _named(base: Mapping[str, str], **changes: str) -> Mapping[str, str]:
    return MappingProxyType({**base, **changes})


_LAYER = "model.layers.{i}."
_LLAMA: Mapping[str, str] = MappingProxyType(
    {
        "embed": "model.embed_tokens.weight",
        "head": "lm_head.weight",
        "final_norm": "model.norm.weight",
        "attn_norm": _LAYER + "input_layernorm.weight",
        "q": _LAYER + "self_attn.q_proj.weight",
        "k": _LAYER + "self_attn.k_proj.weight",
        "v": _LAYER + "self_attn.v_proj.weight",
        "o": _LAYER + "self_attn.o_proj.weight",
        "q_norm": _LAYER + "self_attn.q_norm.weight",
        "k_norm": _LAYER + "self_attn.k_norm.weight",
        "mlp_norm": _LAYER + "post_attention_layernorm.weight",
        "gate": _LAYER + "mlp.gate_proj.weight",
        "up": _LAYER + "mlp.up_proj.weight",
        "down": _LAYER + "mlp.down_proj.weight",
    }
)
_EXPERT = _LAYER + "mlp.experts.{e}."
_MIXTRAL_EXPERT = _LAYER + "block_sparse_moe.experts.{e}."
_SHARED = _LAYER + "mlp.shared_expert."

APART = Naming(patterns=_LLAMA)
"""Llama, Mistral, Qwen, SmolLM, Granite."""
PHI3 = Naming(
    patterns=_named(
        _LLAMA,
        qkv=_LAYER + "self_attn.qkv_proj.weight",
        gate_up=_LAYER + "mlp.gate_up_proj.weight",
    ),
    qkv="stacked",
    gate_up="stacked",
)
GEMMA = Naming(
    patterns=_named(
        _LLAMA,
        attn_post_norm=_LAYER + "post_attention_layernorm.weight",
        mlp_norm=_LAYER + "pre_feedforward_layernorm.weight",
        mlp_post_norm=_LAYER + "post_feedforward_layernorm.weight",
    )
)
OLMO2 = Naming(
    patterns=_named(
        _LLAMA,
        attn_norm=_LAYER + "post_attention_layernorm.weight",
        mlp_norm=_LAYER + "post_feedforward_layernorm.weight",
    )
)
INTERNLM2 = Naming(
    patterns=MappingProxyType(
        {
            "embed": "model.tok_embeddings.weight",
            "head": "output.weight",
            "final_norm": "model.norm.weight",
            "attn_norm": _LAYER + "attention_norm.weight",
            "qkv": _LAYER + "attention.wqkv.weight",
            "o": _LAYER + "attention.wo.weight",
            "mlp_norm": _LAYER + "ffn_norm.weight",
            "gate": _LAYER + "feed_forward.w1.weight",
            "up": _LAYER + "feed_forward.w3.weight",
            "down": _LAYER + "feed_forward.w2.weight",
        }
    ),
    qkv="grouped",
)
PHI2 = Naming(
    patterns=_named(
        _LLAMA,
        final_norm="model.final_layernorm.weight",
        o=_LAYER + "self_attn.dense.weight",
        up=_LAYER + "mlp.fc1.weight",
        down=_LAYER + "mlp.fc2.weight",
    )
)
_FALCON: Mapping[str, str] = MappingProxyType(
    {
        "embed": "transformer.word_embeddings.weight",
        "head": "lm_head.weight",
        "final_norm": "transformer.ln_f.weight",
        "attn_norm": "transformer.h.{i}.input_layernorm.weight",
        "mlp_norm": "transformer.h.{i}.post_attention_layernorm.weight",
        "qkv": "transformer.h.{i}.self_attention.query_key_value.weight",
        "o": "transformer.h.{i}.self_attention.dense.weight",
        "up": "transformer.h.{i}.mlp.dense_h_to_4h.weight",
        "down": "transformer.h.{i}.mlp.dense_4h_to_h.weight",
    }
)
FALCON = Naming(patterns=_FALCON, qkv="grouped")
FALCON_TWO_NORMS = Naming(
    patterns=_named(
        _FALCON,
        attn_norm="transformer.h.{i}.ln_attn.weight",
        mlp_norm="transformer.h.{i}.ln_mlp.weight",
    ),
    qkv="grouped",
)
MIXTRAL = Naming(
    patterns=MappingProxyType(
        {
            **_LLAMA,
            "router": _LAYER + "block_sparse_moe.gate.weight",
            "experts.gate": _MIXTRAL_EXPERT + "w1.weight",
            "experts.up": _MIXTRAL_EXPERT + "w3.weight",
            "experts.down": _MIXTRAL_EXPERT + "w2.weight",
        }
    )
)
QWEN_EXPERTS = Naming(
    patterns=MappingProxyType(
        {
            **_LLAMA,
            "router": _LAYER + "mlp.gate.weight",
            "shared_gate": _LAYER + "mlp.shared_expert_gate.weight",
            **{f"experts.{p}": f"{_EXPERT}{p}_proj.weight" for p in ("gate", "up", "down")},
            **{f"shared.{p}": f"{_SHARED}{p}_proj.weight" for p in ("gate", "up", "down")},
        }
    )
)

GGUF = Naming(
    patterns=MappingProxyType(
        {
            "embed": "token_embd.weight",
            "head": "output.weight",
            "final_norm": "output_norm.weight",
            "attn_norm": "blk.{i}.attn_norm.weight",
            "attn_post_norm": "blk.{i}.post_attention_norm.weight",
            "q": "blk.{i}.attn_q.weight",
            "k": "blk.{i}.attn_k.weight",
            "v": "blk.{i}.attn_v.weight",
            "qkv": "blk.{i}.attn_qkv.weight",
            "o": "blk.{i}.attn_output.weight",
            "q_norm": "blk.{i}.attn_q_norm.weight",
            "k_norm": "blk.{i}.attn_k_norm.weight",
            "mlp_norm": "blk.{i}.ffn_norm.weight",
            "mlp_post_norm": "blk.{i}.post_ffw_norm.weight",
            "gate": "blk.{i}.ffn_gate.weight",
            "up": "blk.{i}.ffn_up.weight",
            "gate_up": "blk.{i}.ffn_up.weight",
            "down": "blk.{i}.ffn_down.weight",
            "router": "blk.{i}.ffn_gate_inp.weight",
            "experts.gate": "blk.{i}.ffn_gate_exps.weight",
            "experts.up": "blk.{i}.ffn_up_exps.weight",
            "experts.down": "blk.{i}.ffn_down_exps.weight",
            "shared_gate": "blk.{i}.ffn_gate_inp_shexp.weight",
            "shared.gate": "blk.{i}.ffn_gate_shexp.weight",
            "shared.up": "blk.{i}.ffn_up_shexp.weight",
            "shared.down": "blk.{i}.ffn_down_shexp.weight",
        }
    ),
    experts="stacked",
)
GGUF_POST_NORMS = replace(
    GGUF,
    patterns=_named(
        GGUF.patterns,
        attn_norm="blk.{i}.post_attention_norm.weight",
        mlp_norm="blk.{i}.post_ffw_norm.weight",
    ),
)
"""OLMo 2."""
GGUF_TWO_NORMS = replace(
    GGUF,
    patterns=_named(
        GGUF.patterns,
        attn_norm="blk.{i}.attn_norm_2.weight",
        mlp_norm="blk.{i}.attn_norm.weight",
    ),
)
"""Falcon 40B."""
GGUF_EXPERTS_APART = replace(
    GGUF,
    patterns=MappingProxyType(
        {
            **GGUF.patterns,
            **{f"experts.{p}": f"blk.{{i}}.ffn_{p}.{{e}}.weight" for p in ("gate", "up", "down")},
        }
    ),
    experts="apart",
)
"""Mixtral files of 2023."""
