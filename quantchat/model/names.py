"""What each container calls the tensors that the decoder knows by one name.

Our names: embed, head, final_norm, and per layer i `layers.i.` + attn_norm, q, k, v, o, q_norm,
k_norm, mlp_norm, gate, up, down; biases end in `.bias`.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from quantchat.spec import DecoderSpec

LAYER_MATRICES = ("q", "k", "v", "o", "gate", "up", "down")

HUGGING_FACE: Mapping[str, str] = MappingProxyType(
    {
        "embed": "model.embed_tokens.weight",
        "head": "lm_head.weight",
        "final_norm": "model.norm.weight",
        "attn_norm": "model.layers.{i}.input_layernorm.weight",
        "q": "model.layers.{i}.self_attn.q_proj.weight",
        "k": "model.layers.{i}.self_attn.k_proj.weight",
        "v": "model.layers.{i}.self_attn.v_proj.weight",
        "o": "model.layers.{i}.self_attn.o_proj.weight",
        "q_norm": "model.layers.{i}.self_attn.q_norm.weight",
        "k_norm": "model.layers.{i}.self_attn.k_norm.weight",
        "mlp_norm": "model.layers.{i}.post_attention_layernorm.weight",
        "gate": "model.layers.{i}.mlp.gate_proj.weight",
        "up": "model.layers.{i}.mlp.up_proj.weight",
        "down": "model.layers.{i}.mlp.down_proj.weight",
    }
)

GGUF: Mapping[str, str] = MappingProxyType(
    {
        "embed": "token_embd.weight",
        "head": "output.weight",
        "final_norm": "output_norm.weight",
        "attn_norm": "blk.{i}.attn_norm.weight",
        "q": "blk.{i}.attn_q.weight",
        "k": "blk.{i}.attn_k.weight",
        "v": "blk.{i}.attn_v.weight",
        "o": "blk.{i}.attn_output.weight",
        "q_norm": "blk.{i}.attn_q_norm.weight",
        "k_norm": "blk.{i}.attn_k_norm.weight",
        "mlp_norm": "blk.{i}.ffn_norm.weight",
        "gate": "blk.{i}.ffn_gate.weight",
        "up": "blk.{i}.ffn_up.weight",
        "down": "blk.{i}.ffn_down.weight",
    }
)


def tensor_names(spec: DecoderSpec, scheme: Mapping[str, str]) -> dict[str, str]:
    """Our name -> the file's name, for every tensor that a model of this spec must have."""
    names = {key: scheme[key] for key in ("embed", "final_norm")}
    if not spec.tied_head:
        names["head"] = scheme["head"]
    biased = {"q": spec.qkv_bias, "k": spec.qkv_bias, "v": spec.qkv_bias, "o": spec.output_bias}
    biased |= dict.fromkeys(("gate", "up", "down"), spec.mlp_bias)
    for i in range(spec.layers):
        parts = ["attn_norm", "mlp_norm", *LAYER_MATRICES]
        if spec.qk_norm:
            parts += ["q_norm", "k_norm"]
        for part in parts:
            names[f"layers.{i}.{part}"] = scheme[part].format(i=i)
            if biased.get(part):
                bias = scheme[part].format(i=i).removesuffix("weight") + "bias"
                names[f"layers.{i}.{part}.bias"] = bias
    return names


def tensor_shape(spec: DecoderSpec, name: str) -> tuple[int, ...]:
    """The shape that a tensor of our name must have, [N, K] or [N]."""
    part = name.rsplit(".", 1)[-1] if not name.endswith(".bias") else name.split(".")[-2]
    q, kv = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
    shapes: dict[str, tuple[int, ...]] = {
        "embed": (spec.vocab, spec.hidden),
        "head": (spec.vocab, spec.hidden),
        "final_norm": (spec.hidden,),
        "attn_norm": (spec.hidden,),
        "mlp_norm": (spec.hidden,),
        "q_norm": (spec.head_dim,),
        "k_norm": (spec.head_dim,),
        "q": (q, spec.hidden),
        "k": (kv, spec.hidden),
        "v": (kv, spec.hidden),
        "o": (spec.hidden, q),
        "gate": (spec.intermediate, spec.hidden),
        "up": (spec.intermediate, spec.hidden),
        "down": (spec.hidden, spec.intermediate),
    }
    shape = shapes[part]
    return shape[:1] if name.endswith(".bias") else shape
