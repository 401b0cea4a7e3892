"""What the decoder's tensors are called here, which of them a spec has, and in which shape.

Our names: embed, head, final_norm, and per layer i `layers.i.` + attn_norm, q, k, v, o, q_norm,
k_norm, mlp_norm, gate, up, down, attn_post_norm, mlp_post_norm; of experts router, shared_gate,
`experts.e.` and `shared.` + gate, up, down; biases end in `.bias`. What files call them is `naming`'s.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from quantchat.model.naming import APART, Naming
from quantchat.model.rows import Rows
from quantchat.spec import DecoderSpec

HUGGING_FACE: Mapping[str, str] = APART.patterns
"""Of families whose tensors are named as Llama's."""
NORM_PARTS = ("attn_norm", "attn_post_norm", "mlp_norm", "mlp_post_norm", "q_norm", "k_norm")
_BIASES_OF_NORMS = ("attn_norm", "mlp_norm", "final_norm")

__all__ = ["HUGGING_FACE", "layer_parts", "our_names", "rows_of", "tensor_names", "tensor_shape"]


def layer_parts(spec: DecoderSpec, layer: int) -> tuple[list[str], list[str]]:
    """Names of a layer's (vectors, matrices) behind its prefix, biases of linears left out."""
    placement = spec.placement
    vectors = {
        "attn_norm": True,
        "attn_post_norm": placement == "both",
        "mlp_norm": placement != "parallel",
        "mlp_post_norm": placement == "both",
        "q_norm": spec.qk_norm,
        "k_norm": spec.qk_norm,
    }
    found = [name for name, there in vectors.items() if there]
    if spec.norm == "layer":
        found += [f"{name}.bias" for name in found if name in _BIASES_OF_NORMS]
    inner = [*(("gate",) if spec.gated else ()), "up", "down"]
    matrices = ["q", "k", "v", "o"]
    experts = spec.experts
    if experts is None or not spec.has_experts(layer):
        return found, matrices + inner
    found.append("router")
    matrices += [f"experts.{e}.{part}" for e in range(experts.count) for part in inner]
    if experts.shared_intermediate:
        found.append("shared_gate")
        matrices += [f"shared.{part}" for part in inner]
    return found, matrices


def tensor_names(
    spec: DecoderSpec, scheme: Naming | Mapping[str, str] = HUGGING_FACE
) -> dict[str, str]:
    """Our name -> the file's, for every tensor that a model of this spec must have."""
    naming = scheme if isinstance(scheme, Naming) else Naming(patterns=scheme)
    return {name: naming.theirs(name) for name in our_names(spec)}


def our_names(spec: DecoderSpec) -> Iterator[str]:
    """Every tensor that a model of this spec must have, one by one: a hostile spec has millions."""
    yield from ("embed", "final_norm")
    if spec.norm == "layer":
        yield "final_norm.bias"
    if not spec.tied_head:
        yield "head"
    if spec.head_bias:
        yield "head.bias"
    biased = {"q": spec.qkv_bias, "k": spec.qkv_bias, "v": spec.qkv_bias, "o": spec.output_bias}
    biased |= dict.fromkeys(("gate", "up", "down"), spec.mlp_bias)
    for i in range(spec.layers):
        vectors, matrices = layer_parts(spec, i)
        yield from (f"layers.{i}.{part}" for part in vectors)
        for part in matrices:
            yield f"layers.{i}.{part}"
            if biased.get(part):
                yield f"layers.{i}.{part}.bias"


def rows_of(spec: DecoderSpec, naming: Naming, name: str) -> Rows | None:
    """Which rows of the file's tensor one of ours is; None where it is all of it."""
    part = _part(name)
    if part in ("q", "k", "v") and naming.qkv != "apart":
        return _qkv_rows(part, spec, grouped=naming.qkv == "grouped")
    if part in ("gate", "up") and naming.gate_up == "stacked" and spec.gated:
        width = tensor_shape(spec, name)[0]
        return Rows(start=0 if part == "gate" else width, run=width, of=2 * width)
    if ".experts." in name and naming.experts == "stacked":
        assert spec.experts is not None
        height = tensor_shape(spec, name)[0]
        expert = int(name.split(".")[3])
        return Rows(start=expert * height, run=height, of=spec.experts.count * height, deep=True)
    return None


def _qkv_rows(part: str, spec: DecoderSpec, *, grouped: bool) -> Rows:
    """Rows of q, k or v in a tensor of all three: one after another, or by KV head."""
    d, heads, kv_heads = spec.head_dim, spec.heads, spec.kv_heads
    group = heads // kv_heads
    of = (heads + 2 * kv_heads) * d
    if grouped:
        start, run = {"q": (0, group), "k": (group, 1), "v": (group + 1, 1)}[part]
        return Rows(start=start * d, run=run * d, of=of, step=(group + 2) * d, count=kv_heads)
    start, run = {
        "q": (0, heads),
        "k": (heads, kv_heads),
        "v": (heads + kv_heads, kv_heads),
    }[part]
    return Rows(start=start * d, run=run * d, of=of)


def tensor_shape(spec: DecoderSpec, name: str) -> tuple[int, ...]:
    """The shape that a tensor of our name must have, [N, K] or [N]."""
    part = _part(name)
    q, kv = spec.heads * spec.head_dim, spec.kv_heads * spec.head_dim
    width = spec.intermediate
    if spec.experts is not None and ".experts." in name:
        width = spec.experts.intermediate
    elif spec.experts is not None and ".shared." in name:
        width = spec.experts.shared_intermediate
    shapes: dict[str, tuple[int, ...]] = {
        "embed": (spec.vocab, spec.hidden),
        "head": (spec.vocab, spec.hidden),
        "q_norm": (q if spec.qk_norm_wide else spec.head_dim,),
        "k_norm": (kv if spec.qk_norm_wide else spec.head_dim,),
        "q": (q, spec.hidden),
        "k": (kv, spec.hidden),
        "v": (kv, spec.hidden),
        "o": (spec.hidden, q),
        "gate": (width, spec.hidden),
        "up": (width, spec.hidden),
        "down": (spec.hidden, width),
        "router": (0 if spec.experts is None else spec.experts.count, spec.hidden),
    }
    shape = shapes.get(part, (spec.hidden,))
    return shape[:1] if name.endswith(".bias") else shape


def _part(name: str) -> str:
    return name.removesuffix(".bias").rsplit(".", 1)[-1]
