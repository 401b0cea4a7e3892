"""From a model on disk to a decoder on the device, under a plan.

Owns the order of loading, progress, cancellation and the packed cache's use. Rounding is quant's,
names are families', ops are ops'.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import torch

from quantchat.errors import Cancelled, CheckpointError
from quantchat.model.blocks import Block
from quantchat.model.decoder import Decoder, Layer
from quantchat.model.families import ModelSource
from quantchat.model.making import MatrixSource as MatrixSource
from quantchat.model.making import Phase as Phase
from quantchat.model.making import biases_of, is_gated, made_linears
from quantchat.model.making import fetching as fetching
from quantchat.model.packed_cache import PackedCache, PackedWriter
from quantchat.model.packed_file import PackedFile
from quantchat.model.packed_parts import STORED, PartEntry, stored_form, stored_weight
from quantchat.model.rope import layer_ropes
from quantchat.model.side_by_side import side_by_side
from quantchat.model.weights import (
    Matrix,
    WeightReader,
    WeightRecipe,
    matrix_names,
    mlp_prefixes,
    read_order,
    vector_names,
)
from quantchat.ops.embedding import Embedding
from quantchat.ops.linear import LinearForm, LinearOp, StackedLinear
from quantchat.ops.plain import Experts, Mlp, Norm, closed_head
from quantchat.ops.torch_ops import TorchOps
from quantchat.quant.tensor import StoredWeight
from quantchat.spec import DecoderSpec

OnProgress: TypeAlias = Callable[[Phase, int, int], None]
"""Phase, done, total: bytes where bytes move (upload), else steps."""


@dataclass(frozen=True, slots=True)
class LoadedDecoder:
    """A decoder and what was learned on the way."""

    decoder: Decoder
    notes: tuple[str, ...]
    from_cache: bool


@dataclass(slots=True)
class _Parts:
    """What a decoder is put together from."""

    linears: dict[str, LinearOp]
    embedding: Embedding
    vectors: dict[str, torch.Tensor]
    """float32, by our names."""
    own_table: bool
    """The embedding's memory is not the head's."""
    notes: tuple[str, ...]
    """What was rounded on the way from the file, in words with the error."""


def load_decoder(
    source: ModelSource,
    ops: TorchOps,
    recipe: WeightRecipe,
    *,
    context_tokens: int,
    cache: PackedCache | MatrixSource | None,
    on_progress: OnProgress,
    cancelled: Callable[[], bool],
    made: MatrixSource | None = None,
) -> LoadedDecoder:
    """Read, round and place every weight. Raises CheckpointError or Cancelled.

    `cache`: packed weights on disk, read or else written. `made`: where matrices come from in
    place of the source, as random ones do.
    """
    if cache is not None and not isinstance(cache, PackedCache):
        cache, made = None, cache
    reader = WeightReader(source, recipe)
    parts = None if cache is None else _from_cache(cache, source.spec, ops, on_progress, cancelled)
    from_cache = parts is not None
    if parts is None:
        parts = _rounded(reader, ops, cache, made, on_progress, cancelled)
    decoder = _decoder(source.spec, ops, parts, context_tokens)
    return LoadedDecoder(decoder, parts.notes, from_cache)


def _from_cache(
    cache: PackedCache,
    spec: DecoderSpec,
    ops: TorchOps,
    on_progress: OnProgress,
    cancelled: Callable[[], bool],
) -> _Parts | None:
    """The parts out of a packed file, None where there is no whole one."""
    file = cache.open(ops.layout)
    if file is None:
        return None
    phase: Phase = "read" if ops.device.type == "cpu" else "upload"
    try:
        on_progress(phase, 0, file.nbytes)
        tensors = file.read(
            ops.device,
            on_bytes=lambda done: on_progress(phase, done, file.nbytes),
            cancelled=cancelled,
            apart=_moving(spec),
        )
        parts = _restored(file, tensors, spec, ops)
    except (CheckpointError, ValueError, KeyError) as error:
        cache.drop(ops.layout, error)
        return None
    finally:
        file.close()
    on_progress(phase, file.nbytes, file.nbytes)
    return parts


def _moving(spec: DecoderSpec) -> dict[str, str]:
    """Linears of experts, which ops put side by side in other memory, by their layer."""
    return {
        prefix + name: f"layers.{i}"
        for i in range(spec.layers)
        if spec.experts is not None and spec.has_experts(i)
        for prefix in mlp_prefixes(spec, i)[: spec.experts.count]
        for name in ("gate_up", "down")
    }


def _restored(
    file: PackedFile, tensors: dict[str, torch.Tensor], spec: DecoderSpec, ops: TorchOps
) -> _Parts:
    """Ops over tensors of a packed file; ValueError or KeyError where something is off."""

    def part(entry: PartEntry, *, head: bool, gated: bool) -> LinearOp:
        form = entry.load(tensors)
        if not form.form.startswith(STORED):
            return ops.restore(form, gated=gated)
        weight, bias = stored_weight(form)
        return ops.head(weight) if head else ops.linear(weight, bias, gated=gated)

    def linear(name: str) -> LinearOp:
        entries = file.index.linears[name]
        gated = is_gated(name, len(entries))
        return _stacked([part(entry, head=name == "head", gated=gated) for entry in entries])

    names = [*(fused for fused, _, _ in matrix_names(spec)), "head"]
    linears = dict(zip(names, side_by_side(linear, names, ops.device), strict=True))
    table = file.index.embedding
    if table is None:
        raise ValueError("the embedding is missing")
    embedding, _ = stored_weight(table.load(tensors))
    if embedding.shape != (spec.vocab, spec.hidden):
        raise ValueError(f"the embedding is {embedding.shape}")
    vectors = {name: tensors[file.index.vectors[name]] for name in vector_names(spec)}
    heads = {name for part in file.index.linears["head"] for name in part.tensors.values()}
    own_table = linears["head"].owns_copy or heads.isdisjoint(table.tensors.values())
    return _Parts(linears, Embedding(embedding), vectors, own_table, file.index.notes)


def _rounded(
    reader: WeightReader,
    ops: TorchOps,
    cache: PackedCache | None,
    made: MatrixSource | None,
    on_progress: OnProgress,
    cancelled: Callable[[], bool],
) -> _Parts:
    """The parts from the source's tensors, kept in the cache on the way."""
    spec, recipe = reader.source.spec, reader.recipe
    steps = len(matrix_names(spec)) + 2
    phase: Phase = "read" if recipe.scheme.rounding == "none" else "quantize"
    if made is not None:
        phase = made.phase
    done = 0

    def step(name: str) -> None:
        nonlocal done
        if cancelled():
            raise Cancelled("loading was stopped")
        on_progress(phase, done, steps)
        done += 1

    # 9 bits and a little for scales bound what packed formats take per weight; the table is dense.
    expected = spec.parameters * 10 // 8 + 2 * spec.embedding_parameters
    writer = None if cache is None else cache.writer(ops.layout, expected, linears=steps)
    linears: dict[str, LinearOp] = {}
    head: StoredWeight | None = None
    try:
        with fetching(reader, cancelled, read_order(reader) if made is None else ()):
            for name, matrix, made_ops in made_linears(reader, ops, made, step):
                linears[name] = _stacked(made_ops)
                if name == "head":
                    head = matrix.parts[0]
                if writer is not None:
                    writer.add_linear(name, _forms(made_ops, matrix))
            assert head is not None
            step("embed")
            table = None if made is None else made.table()
            if table is None:
                table = head if spec.tied_head else reader.weight("embed", "dense")
        vectors = _vectors(reader, made)
        notes = reader.notes()
        if writer is not None:
            writer.add_notes(notes)
            _write_rest(writer, table, linears["head"], head, vectors)
    finally:
        if writer is not None:
            writer.discard()
    on_progress(phase, steps, steps)
    own_table = table is not head or linears["head"].owns_copy
    return _Parts(linears, Embedding(table), vectors, own_table, notes)


def _vectors(reader: WeightReader, made: MatrixSource | None) -> dict[str, torch.Tensor]:
    """Norm weights by our names: the file's, but for those that `made` has changed."""
    names = vector_names(reader.source.spec)
    changed = {} if made is None else {name: made.vector(name) for name in names}
    kept = {name: values for name, values in changed.items() if values is not None}
    return {name: kept[name] if name in kept else reader.vector(name) for name in names}


def _write_rest(
    writer: PackedWriter,
    table: StoredWeight,
    head_op: LinearOp,
    head: StoredWeight,
    vectors: dict[str, torch.Tensor],
) -> None:
    writer.add_embedding(stored_form(table, None), head_op.packed() or stored_form(head, None))
    for name, values in vectors.items():
        writer.add_vector(name, values)
    writer.commit()


def _forms(made: list[LinearOp], matrix: Matrix) -> list[LinearForm]:
    """What the disk keeps of each part: the op's own form, or the stored weight."""
    return [
        op.packed() or stored_form(part, bias)
        for op, part, bias in zip(made, matrix.parts, biases_of(matrix), strict=True)
    ]


def _stacked(made: list[LinearOp]) -> LinearOp:
    return made[0] if len(made) == 1 else StackedLinear(made)


def _decoder(spec: DecoderSpec, ops: TorchOps, parts: _Parts, context_tokens: int) -> Decoder:
    linears = parts.linears
    weight_bytes = sum(op.weight_bytes for op in linears.values())
    copy_bytes = sum(op.copy_bytes for op in linears.values())
    if parts.own_table:
        weight_bytes += parts.embedding.weight_bytes
    plain = bool(spec.departures)
    final = parts.vectors["final_norm"]
    return Decoder(
        spec=spec,
        ops=ops,
        embedding=parts.embedding,
        layers=() if plain else tuple(_layer(i, spec, parts, ops) for i in range(spec.layers)),
        final_norm=final if plain else final.to(ops.dtype),
        head=closed_head(linears["head"], spec, parts.vectors.get("head.bias")),
        ropes=layer_ropes(spec, context_tokens, ops.device),
        weight_bytes=weight_bytes,
        copy_bytes=copy_bytes,
        blocks=tuple(_block(i, spec, parts, ops) for i in range(spec.layers)) if plain else (),
        final_bias=parts.vectors.get("final_norm.bias"),
    )


def _layer(i: int, spec: DecoderSpec, parts: _Parts, ops: TorchOps) -> Layer:
    prefix = f"layers.{i}."

    def norm(name: str) -> torch.Tensor:
        return parts.vectors[prefix + name].to(ops.dtype)

    return Layer(
        attn_norm=norm("attn_norm"),
        qkv=parts.linears[prefix + "qkv"],
        q_norm=norm("q_norm") if spec.qk_norm else None,
        k_norm=norm("k_norm") if spec.qk_norm else None,
        o=parts.linears[prefix + "o"],
        mlp_norm=norm("mlp_norm"),
        gate_up=parts.linears[prefix + "gate_up"],
        down=parts.linears[prefix + "down"],
    )


def _block(i: int, spec: DecoderSpec, parts: _Parts, ops: TorchOps) -> Block:
    """A layer that departs from llama-like ones; its norms stay in float32."""
    prefix, linears, vectors = f"layers.{i}.", parts.linears, parts.vectors

    def norm(name: str) -> Norm | None:
        weight = vectors.get(prefix + name)
        return None if weight is None else Norm(weight, vectors.get(f"{prefix}{name}.bias"))

    # Out of the table: experts may move, and nothing is to hold them where they were.
    mlps = [
        Mlp(gate_up=linears.pop(mlp + "gate_up"), down=linears.pop(mlp + "down"))
        for mlp in mlp_prefixes(spec, i)
    ]
    mlp: Mlp | Experts = mlps[0]
    if spec.experts is not None and spec.has_experts(i):
        shared = mlps.pop() if spec.experts.shared_intermediate else None
        experts = Experts(
            spec=spec.experts,
            router=vectors[prefix + "router"],
            mlps=tuple(mlps),
            shared=shared,
            shared_gate=vectors.get(prefix + "shared_gate"),
        )
        mlps.clear()
        mlp = ops.banked(experts)
    attn_norm = norm("attn_norm")
    assert attn_norm is not None
    return Block(
        attn_norm=attn_norm,
        attn_post_norm=norm("attn_post_norm"),
        mlp_norm=norm("mlp_norm"),
        mlp_post_norm=norm("mlp_post_norm"),
        qkv=linears[prefix + "qkv"],
        q_norm=vectors.get(prefix + "q_norm"),
        k_norm=vectors.get(prefix + "k_norm"),
        o=linears[prefix + "o"],
        mlp=mlp,
    )
