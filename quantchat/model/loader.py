"""From a model on disk to a decoder on the device, under a plan.

Owns the order of loading, progress, cancellation and the packed cache's use. Rounding is quant's,
names are families', ops are ops'.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch

from quantchat.errors import Cancelled
from quantchat.model.decoder import Decoder, Layer
from quantchat.model.families import ModelSource
from quantchat.model.packed_cache import PackedCache
from quantchat.model.rope import rope_table
from quantchat.model.weights import Matrix, WeightReader, WeightRecipe, read_matrices
from quantchat.ops.embedding import Embedding
from quantchat.ops.linear import LinearOp, StackedLinear
from quantchat.ops.torch_ops import TorchOps

Phase: TypeAlias = Literal["read", "quantize"]
OnProgress: TypeAlias = Callable[[Phase, int, int], None]


@dataclass(frozen=True, slots=True)
class LoadedDecoder:
    """A decoder and what was learned on the way."""

    decoder: Decoder
    notes: tuple[str, ...]
    from_cache: bool


def load_decoder(
    source: ModelSource,
    ops: TorchOps,
    recipe: WeightRecipe,
    *,
    context_tokens: int,
    cache: PackedCache | None,
    on_progress: OnProgress,
    cancelled: Callable[[], bool],
) -> LoadedDecoder:
    """Read, round and place every weight. Raises CheckpointError or Cancelled."""
    spec = source.spec
    reader = WeightReader(source, recipe)
    steps = 4 * spec.layers + 1
    packed = cache.open(recipe.device) if cache is not None else None
    phase: Phase = "read" if packed is not None or recipe.scheme.rounding == "none" else "quantize"
    writer = None
    if cache is not None and packed is None:
        # 9 bits and a little for scales bound what both packed formats take per weight.
        writer = cache.writer(spec.parameters * 10 // 8)
    done = 0

    def step(name: str) -> None:
        nonlocal done
        if cancelled():
            raise Cancelled("loading was stopped")
        on_progress(phase, done, steps)
        done += 1

    linears: dict[str, LinearOp] = {}
    head_matrix: Matrix | None = None
    try:
        matrices = read_matrices(reader, step) if packed is None else packed.matrices(spec, step)
        for name, matrix in matrices:
            if writer is not None:
                writer.add(name, matrix)
            if name == "head":
                head_matrix = matrix
            linears[name] = ops.head(matrix.parts[0]) if name == "head" else _linear(ops, matrix)
        if writer is not None:
            writer.commit()
    finally:
        if writer is not None:
            writer.discard()
    assert head_matrix is not None
    head_weight = head_matrix.parts[0]
    embedding = Embedding(head_weight if spec.tied_head else reader.weight("embed", "dense"))
    layers = tuple(_layer(i, reader, ops, linears) for i in range(spec.layers))
    matrices_bytes = sum(op.weight_bytes for op in linears.values())
    copies = sum(op.copy_bytes for op in linears.values())
    if not spec.tied_head or linears["head"].owns_copy:
        matrices_bytes += embedding.weight_bytes
    on_progress(phase, steps, steps)
    decoder = Decoder(
        spec=spec,
        ops=ops,
        embedding=embedding,
        layers=layers,
        final_norm=reader.vector("final_norm").to(ops.dtype),
        head=linears["head"],
        rope=rope_table(spec.rope, context_tokens, ops.device),
        weight_bytes=matrices_bytes,
        copy_bytes=copies,
    )
    return LoadedDecoder(decoder, _notes(reader), packed is not None)


def _linear(ops: TorchOps, matrix: Matrix) -> LinearOp:
    if len(matrix.parts) == 1:
        return ops.linear(matrix.parts[0], matrix.bias)
    rows = [part.shape[0] for part in matrix.parts]
    biases = [None] * len(rows) if matrix.bias is None else list(torch.split(matrix.bias, rows))
    return StackedLinear(
        [ops.linear(part, bias) for part, bias in zip(matrix.parts, biases, strict=True)]
    )


def _layer(i: int, reader: WeightReader, ops: TorchOps, linears: dict[str, LinearOp]) -> Layer:
    prefix = f"layers.{i}."
    norms = reader.source.spec.qk_norm
    return Layer(
        attn_norm=reader.vector(prefix + "attn_norm").to(ops.dtype),
        qkv=linears[prefix + "qkv"],
        q_norm=reader.vector(prefix + "q_norm").to(ops.dtype) if norms else None,
        k_norm=reader.vector(prefix + "k_norm").to(ops.dtype) if norms else None,
        o=linears[prefix + "o"],
        mlp_norm=reader.vector(prefix + "mlp_norm").to(ops.dtype),
        gate_up=linears[prefix + "gate_up"],
        down=linears[prefix + "down"],
    )


def _notes(reader: WeightReader) -> tuple[str, ...]:
    return tuple(
        f"{kind} blocks re-encoded as int8 rows: relative error "
        f"{100 * max(errors):.2f} % at worst over {len(errors)} tensors"
        for kind, errors in sorted(reader.errors.items())
    )
