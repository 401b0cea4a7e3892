"""Tiny models that exist in memory alone, with whatever weights a test wants.

Owns a checkpoint over tensors by our own names, whose rotary pairs are adjacent already.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import torch

from quantchat.calibration.layer import LINEARS, DenseLayer, read_layer
from quantchat.calibration.method import Ending, Method
from quantchat.calibration.walk import LayerWalk
from quantchat.checkpoints.base import Container, Fetch, TensorEntry
from quantchat.model.families import ModelSource
from quantchat.model.names import tensor_names, tensor_shape
from quantchat.model.weights import Matrix, WeightReader, WeightRecipe
from quantchat.quant.registry import SCHEMES
from quantchat.spec import DecoderSpec, RopeSpec

CPU = torch.device("cpu")

TINY = DecoderSpec(
    architecture="llama",
    layers=2,
    hidden=96,
    heads=4,
    kv_heads=2,
    head_dim=16,
    intermediate=128,
    vocab=101,
    context=64,
    norm_eps=1e-5,
    rope=RopeSpec(theta=10000.0, rotary_dim=16),
    activation="silu",
    attention_scale=16**-0.5,
    tied_head=True,
)
FAMILIES: Mapping[str, DecoderSpec] = {
    "llama": TINY,
    "biases": replace(TINY, qkv_bias=True, output_bias=True, mlp_bias=True, tied_head=False),
    "head norms": replace(TINY, qk_norm=True, head_dim=32, attention_scale=32**-0.5),
    "part turned": replace(TINY, rope=RopeSpec(theta=10000.0, rotary_dim=8), windows=(0, 5)),
    "a layer unturned": replace(TINY, rope_kinds=("none", "main")),
}
"""What layers differ in, by name."""


class MemoryCheckpoint:
    """Implements `quantchat.checkpoints.base.Checkpoint`."""

    def __init__(self, values: Mapping[str, torch.Tensor]) -> None:
        self.path = Path("memory")
        self.container: Container = "safetensors"
        self.values = values
        self.tensors = {
            name: TensorEntry(
                name=name,
                shape=tuple(value.shape),
                dtype="F32",
                offset=0,
                nbytes=value.nbytes,
                file=self.path,
            )
            for name, value in values.items()
        }

    def raw(self, name: str) -> torch.Tensor:
        """See Checkpoint.raw."""
        return self.values[name].flatten().view(torch.uint8)

    def dense(
        self,
        name: str,
        dtype: torch.dtype | None = None,
        device: torch.device | str = "cpu",
        fetch: Fetch | None = None,
    ) -> torch.Tensor:
        """See Checkpoint.dense."""
        return self.values[name].to(device, dtype or torch.float32, copy=True)

    def identity(self) -> str:
        """See Checkpoint.identity."""
        return "memory"

    def close(self) -> None:
        """See Checkpoint.close."""


def memory_source(
    spec: DecoderSpec,
    *,
    seed: int = 0,
    change: Callable[[str, torch.Tensor], torch.Tensor] | None = None,
) -> ModelSource:
    """A model of seeded normal weights; `change` may put another value in a name's place."""
    random = torch.Generator().manual_seed(seed)
    names = {name: name for name in tensor_names(spec, {**_OWN})}
    values = {}
    for name in names:
        shape = tensor_shape(spec, name)
        noise = torch.randn(shape, generator=random)
        if name in ("embed", "head"):
            value = 0.4 * noise
        elif len(shape) == 1:
            value = 0.3 * noise if name.endswith(".bias") else 1 + 0.2 * noise
        else:
            value = 1.2 * noise / shape[1] ** 0.5
        values[name] = value if change is None else change(name, value)
    return ModelSource(MemoryCheckpoint(values), spec, names, True)


def recipe_of(scheme: str, group_size: int = 0) -> WeightRecipe:
    """A recipe for the CPU in float32."""
    return WeightRecipe(
        scheme=SCHEMES[scheme], group_size=group_size, dtype=torch.float32, device=CPU
    )


def walk_of(source: ModelSource, ids: torch.Tensor, *, memory_bytes: int = 1 << 28) -> LayerWalk:
    """A walk in float32 over ids [S, T]."""
    reader = WeightReader(source, recipe_of("fp16"))
    return LayerWalk(
        reader, ids, dtype=torch.float32, memory_bytes=memory_bytes, cancelled=lambda: False
    )


def layers_of(source: ModelSource) -> list[DenseLayer]:
    """All layers, dense."""
    reader = WeightReader(source, recipe_of("fp16"))
    return [read_layer(reader, index) for index in range(source.spec.layers)]


def logits_of(
    walk: LayerWalk,
    layers: list[DenseLayer],
    table: torch.Tensor,
    final_norm: torch.Tensor,
    head: torch.Tensor,
) -> torch.Tensor:
    """float32 [S, T, V] of the walk's ids under other weights."""
    hidden = table[walk.ids].float()
    for index, layer in enumerate(layers):
        forward = replace(walk.forward, rope=walk.ropes[index])
        hidden = forward.run(layer, hidden, walk.spec.window(index))[0]
    normed = torch.nn.functional.rms_norm(
        hidden, (walk.spec.hidden,), final_norm, walk.spec.norm_eps
    )
    return normed @ head.t()


_PARTS = ("attn_norm", "q", "k", "v", "o", "q_norm", "k_norm", "mlp_norm", "gate", "up", "down")
_OWN = {
    **{name: name for name in ("embed", "head", "final_norm")},
    **{part: f"layers.{{i}}.{part}.weight" for part in _PARTS},
}


def heavy_tailed(name: str, value: torch.Tensor) -> torch.Tensor:
    """Matrices of a layer with three weights in a thousand eight times as large."""
    if value.dim() == 1 or name in ("embed", "head"):
        return value
    random = torch.Generator().manual_seed(len(name) + value.numel())
    return torch.where(torch.rand(value.shape, generator=random) < 0.003, 8 * value, value)


def divergence(reference: torch.Tensor, other: torch.Tensor) -> float:
    """Mean KL of logits [..., V]."""
    p, q = reference.log_softmax(-1), other.log_softmax(-1)
    return float((p.exp() * (p - q)).sum(-1).mean())


def stored_layers(
    walk: LayerWalk, method: Method
) -> tuple[list[DenseLayer], dict[str, Matrix], Ending]:
    """A method's layers as their stored weights make them, in order; its matrices; its ending."""
    matrices, vectors = {}, {}
    for result in method.results(walk):
        matrices |= result.matrices
        vectors |= result.vectors
    layers = []
    for index, layer in enumerate(layers_of(walk.reader.source)):
        prefix = f"layers.{index}."
        weights = {}
        for linear, parts in LINEARS.items():
            matrix = matrices[prefix + linear]
            dense = torch.cat([part.dequantize(torch.float32) for part in matrix.parts])
            rows = [layer.weight(part).shape[0] for part in parts]
            weights |= dict(zip(parts, dense.split(rows), strict=True))
            if matrix.bias is not None:
                biases = [f"{part}_bias" for part in parts]
                weights |= dict(zip(biases, matrix.bias.split(rows), strict=True))
        norms = {
            name.removeprefix(prefix): value
            for name, value in vectors.items()
            if name.startswith(prefix)
        }
        layers.append(replace(layer, **weights, **norms))
    return layers, matrices, method.ending(walk)
