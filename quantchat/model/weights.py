"""Weights of one decoder as stored formats, named ours, fused where formats agree.

Owns the step from checkpoint tensors to stored formats under a scheme: permuting rotary pairs,
rounding, fusing q|k|v and gate|up. Reads one tensor at a time; nothing here runs the model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch

from quantchat.checkpoints.base import Fetch, TensorEntry
from quantchat.checkpoints.ggml.dequantize import dequantize
from quantchat.checkpoints.safetensors import SafetensorsFolder
from quantchat.model.block_probe import BlockProbe
from quantchat.model.families import ModelSource
from quantchat.model.importance import ActivationProbe
from quantchat.model.names import NORM_PARTS, layer_parts, tensor_shape
from quantchat.quant.codebook import NESTED_BLOCK
from quantchat.quant.ggml import INT4_TYPES, stored_from_ggml
from quantchat.quant.layouts import relative_error, stored_from_codes
from quantchat.quant.matrix_rounding import rounded_matrix
from quantchat.quant.rounding import Int4Rounding, int4_group
from quantchat.quant.scheme import Scheme, WeightFormat
from quantchat.quant.stack import concat_rows
from quantchat.quant.tensor import DenseWeight, Int4GroupWeight, StoredWeight
from quantchat.spec import DecoderSpec

PLAIN_TYPES = frozenset({"F32", "F16", "BF16"})
FUSED = {"qkv": ("q", "k", "v"), "gate_up": ("gate", "up")}


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightRecipe:
    """How matrices become stored formats."""

    scheme: Scheme
    group_size: int
    dtype: torch.dtype
    """Of dense matrices."""
    device: torch.device
    int4: Int4Rounding = int4_group


@dataclass(frozen=True, slots=True)
class Matrix:
    """A fused linear before it becomes an op: one or more stacked weights, and their bias."""

    parts: tuple[StoredWeight, ...]
    """Several only where formats differ and cannot be stacked."""
    bias: torch.Tensor | None


class WeightReader:
    """Reads a source's tensors in our names and conventions."""

    def __init__(self, source: ModelSource, recipe: WeightRecipe) -> None:
        self.source = source
        self.recipe = recipe
        self.errors: dict[str, list[float]] = {}
        """Relative RMS error by GGUF type, of tensors that could not be kept exactly."""
        self.changes: dict[str, list[float]] = {}
        """The same of packed linears of folders, by what was done to them in words."""
        self.fetch: Fetch | None = None
        """A quick way for large tensors to the device, while there is one."""
        self._probe: ActivationProbe | None = None
        self._pairs_of: dict[int, torch.Tensor] = {}
        """Row orders by heads, on the device: copying one waits for all that is on its way there."""

    def notes(self) -> tuple[str, ...]:
        """What was rounded on the way from the file with its error, and what of it is left out."""
        changes = {f"{kind} {_change_of(kind)}": errors for kind, errors in self.errors.items()}
        folder = self.source.checkpoint
        rounded = tuple(
            f"{words}: {_error_words(errors)}"
            for words, errors in sorted((changes | self.changes).items())
        )
        return rounded + (folder.notes if isinstance(folder, SafetensorsFolder) else ())

    def vector(self, name: str) -> torch.Tensor:
        """A norm weight or bias, float32 on the device."""
        values = self.source.checkpoint.dense(
            self.source.names[name], dtype=torch.float32, device=self.recipe.device
        )
        if name.endswith("shared_gate"):
            values = values.flatten()
        if self.source.norm_offset and _is_norm(name):
            values = values + self.source.norm_offset
        order = self._order(name)
        return values if order is None else values.index_select(0, order)

    def matrix(self, layer: str, parts: tuple[str, ...]) -> Matrix:
        """The stacked weight of `layer` + each part, formats permitting, with its bias."""
        biases = [layer + part + ".bias" for part in parts]
        known = [self.vector(name) for name in biases if name in self.source.names]
        assert len(known) in (0, len(parts))
        bias = torch.cat(known) if known else None
        scheme = self.recipe.scheme
        if scheme.weights == "int4_group":
            weights = self._int4(layer, parts, bias)
        elif scheme.rounding == "nf4_dq" and self._nested_across(layer, parts):
            dense = torch.cat([self._dense_part(layer + part) for part in parts])
            weights = [self._rounded(dense, scheme.weights)]
            self._note_rounding(layer + parts[0], dense, weights[0])
        else:
            weights = [self.weight(layer + part, scheme.weights) for part in parts]
        stacked = concat_rows(weights) if len(weights) > 1 else weights[0]
        return Matrix(tuple(weights) if stacked is None else (stacked,), bias)

    def head(self) -> StoredWeight:
        """The output head, which is the embedding where it is tied."""
        name = "embed" if self.source.spec.tied_head else "head"
        scheme = self.recipe.scheme
        weight = self.weight(name, scheme.weights if scheme.head == "same" else scheme.head)
        if name == "embed" and isinstance(weight, Int4GroupWeight) and weight.order is not None:
            # Rows are looked up in a table, whose columns must stand in their places.
            return DenseWeight(weight.dequantize(self.recipe.dtype))
        return weight

    def weight(self, name: str, form: WeightFormat) -> StoredWeight:
        """One matrix in a stored format."""
        if form != "stored":
            dtype = self.recipe.dtype if form == "dense" else self._own_dtype(name)
            dense = self._dense_part(name, dtype)
            made = self._rounded(dense, form)
            if form != "dense":
                self._note_rounding(name, dense, made)
            return made
        weight = self._stored(self.source.checkpoint.tensors[self.source.names[name]])
        order = self._order(name)
        return weight if order is None else weight.take_rows(order)

    def _rounded(self, dense: torch.Tensor, form: WeightFormat) -> StoredWeight:
        return rounded_matrix(dense, self.recipe.scheme, self.recipe.group_size, form)

    def _nested_across(self, layer: str, parts: tuple[str, ...]) -> bool:
        """Whether scales of scales would run from one part into the next: such parts are one."""
        shapes = [tensor_shape(self.source.spec, layer + part) for part in parts[:-1]]
        block = self.recipe.group_size * NESTED_BLOCK
        return any(shape[0] * shape[1] % block for shape in shapes)

    def _own_dtype(self, name: str) -> torch.dtype:
        """What holds a file's values: roundings make float32 of slices, never of a whole matrix."""
        entry = self.source.checkpoint.tensors[self.source.names[name]]
        return {"BF16": torch.bfloat16, "F16": torch.float16}.get(entry.dtype, torch.float32)

    def _dense_part(self, name: str, dtype: torch.dtype = torch.float32) -> torch.Tensor:
        """A whole matrix of our name on the device, rows in our order."""
        dense = self._dense(self.source.checkpoint.tensors[self.source.names[name]], dtype)
        order = self._order(name)
        return dense if order is None else dense.index_select(0, order)

    @torch.inference_mode()
    def _int4(
        self, layer: str, parts: tuple[str, ...], bias: torch.Tensor | None
    ) -> list[StoredWeight]:
        """Groups of the parts, errors weighed by the inputs; to be called in order of execution."""
        if self._probe is None:
            kind = BlockProbe if self.source.spec.departures else ActivationProbe
            self._probe = kind(self.source.spec, self.recipe.device, self._embed, self.vector)
        probe = self._probe
        fused = layer + next((name for name, of in FUSED.items() if set(parts) & {*of}), parts[0])
        probe.begin(fused)
        importance = probe.importance()
        weights: list[StoredWeight] = []
        for part in parts:
            dense = self._dense_part(layer + part)
            probe.feed(dense)
            weights.append(self.recipe.int4(dense, self.recipe.group_size, importance))
            self._note_rounding(layer + part, dense, weights[-1])
        probe.end(fused, bias)
        return weights

    def _embed(self, ids: torch.Tensor) -> torch.Tensor:
        """Rows of the embedding, float32; the table is never in float32 as a whole."""
        entry = self.source.checkpoint.tensors[self.source.names["embed"]]
        if entry.dtype in PLAIN_TYPES or isinstance(self.source.checkpoint, SafetensorsFolder):
            return self._dense(entry, self._own_dtype("embed")).index_select(0, ids).float()
        rows = self._blocks(entry).view(entry.shape[0], -1).index_select(0, ids)
        return dequantize(rows, entry.dtype)

    def _dense(self, entry: TensorEntry, dtype: torch.dtype) -> torch.Tensor:
        """A whole matrix on the device."""
        return self.source.checkpoint.dense(
            entry.name, dtype=dtype, device=self.recipe.device, fetch=self.fetch
        )

    def _packed(self, entry: TensorEntry) -> SafetensorsFolder | None:
        """The folder where the entry is a packed linear of one."""
        folder = self.source.checkpoint
        if not isinstance(folder, SafetensorsFolder) or not folder.is_packed(entry.name):
            return None
        return folder

    def _note_rounding(self, name: str, dense: torch.Tensor, weight: StoredWeight) -> None:
        """Keep what it costs to round anew what a folder holds rounded already."""
        entry = self.source.checkpoint.tensors[self.source.names[name]]
        if self._packed(entry) is not None:
            words = f"{entry.dtype} re-encoded as {self.recipe.scheme.title}"
            self.changes.setdefault(words, []).append(relative_error(weight, dense))

    def _stored(self, entry: TensorEntry) -> StoredWeight:
        folder = self._packed(entry)
        if folder is not None:
            found = stored_from_codes(folder.codes(entry.name, self.recipe.device, self.fetch))
            if found.error:
                words = f"{entry.dtype} {found.change}"
                self.changes.setdefault(words, []).append(found.error)
            return found.weight
        if entry.dtype in PLAIN_TYPES:
            return DenseWeight(self._dense(entry, self.recipe.dtype))
        n, k = entry.shape
        weight, error = stored_from_ggml(self._blocks(entry), entry.dtype, (n, k))
        if error:
            self.errors.setdefault(entry.dtype, []).append(error)
        return weight

    def _blocks(self, entry: TensorEntry) -> torch.Tensor:
        """A tensor's bytes on the device: uint8 [nbytes]."""
        if self.fetch is not None:
            return self.fetch(entry)
        return self.source.checkpoint.raw(entry.name).to(self.recipe.device)

    def _order(self, name: str) -> torch.Tensor | None:
        """Which rows of the file's tensor are ours, and in what order; None for all as they are."""
        rows = self.source.rows.get(name)
        taken = None if rows is None else rows.index(self.recipe.device)
        if not self._permuted(name):
            return taken
        pairs = self._pairs(name)
        return pairs if taken is None else taken.index_select(0, pairs)

    def _permuted(self, name: str) -> bool:
        part = name.removesuffix(".bias").rsplit(".", 1)[-1]
        return not self.source.adjacent_pairs and part in ("q", "k", "q_norm", "k_norm")

    def _pairs(self, name: str) -> torch.Tensor:
        """Row order that puts rotary partners (i, i + r/2) side by side in each head."""
        spec = self.source.spec
        part = name.removesuffix(".bias").rsplit(".", 1)[-1]
        heads = {"q": spec.heads, "k": spec.kv_heads}.get(part, 1)
        if spec.qk_norm_wide:
            heads = spec.heads if part.startswith("q") else spec.kv_heads
        known = self._pairs_of.get(heads)
        if known is not None:
            return known
        half = spec.rope.rotary_dim // 2
        within = torch.arange(spec.head_dim)
        within[: 2 * half] = torch.arange(2 * half).view(2, half).t().flatten()
        rows = torch.arange(heads)[:, None] * spec.head_dim + within[None]
        order = self._pairs_of[heads] = rows.flatten().to(self.recipe.device)
        return order


def matrix_names(spec: DecoderSpec) -> list[tuple[str, str, tuple[str, ...]]]:
    """(our fused name, prefix of its parts, parts) of every linear in the order of execution."""
    names: list[tuple[str, str, tuple[str, ...]]] = []
    gate_up = FUSED["gate_up"] if spec.gated else ("up",)
    for i in range(spec.layers):
        prefix = f"layers.{i}."
        names += [(prefix + "qkv", prefix, FUSED["qkv"]), (prefix + "o", prefix, ("o",))]
        for mlp in mlp_prefixes(spec, i):
            names += [(mlp + "gate_up", mlp, gate_up), (mlp + "down", mlp, ("down",))]
    return names


def mlp_prefixes(spec: DecoderSpec, layer: int) -> list[str]:
    """How names of a layer's MLPs begin: one, or all experts' with the shared one last."""
    prefix, experts = f"layers.{layer}.", spec.experts
    if experts is None or not spec.has_experts(layer):
        return [prefix]
    shared = [f"{prefix}shared."] if experts.shared_intermediate else []
    return [f"{prefix}experts.{e}." for e in range(experts.count)] + shared


def vector_names(spec: DecoderSpec) -> list[str]:
    """Our names of all norm weights and what else is no matrix, but for biases of linears."""
    layers = [f"layers.{i}.{name}" for i in range(spec.layers) for name in layer_parts(spec, i)[0]]
    last = ["final_norm"]
    if spec.norm == "layer":
        last.append("final_norm.bias")
    if spec.head_bias:
        last.append("head.bias")
    return layers + last


def read_order(reader: WeightReader) -> list[TensorEntry]:
    """Which tensors `read_matrices` reads, one after another; the same one may come several times."""
    source = reader.source
    names = [layer + part for _, layer, parts in matrix_names(source.spec) for part in parts]
    if reader.recipe.scheme.weights == "int4_group":
        names.insert(0, "embed")
    names.append("embed" if source.spec.tied_head else "head")
    entries = [source.checkpoint.tensors[source.names[name]] for name in names]
    if isinstance(source.checkpoint, SafetensorsFolder):
        return [part for each in entries for part in source.checkpoint.parts_of(each.name)]
    return entries


def _change_of(kind: str) -> str:
    """What is done to the blocks of a GGUF type that do not fit exactly."""
    if kind in INT4_TYPES:
        return "scales rounded to 16 bits"
    return "blocks re-encoded as int8 rows"


def _error_words(errors: list[float]) -> str:
    worst = f"relative error {100 * max(errors):.2f} %"
    return worst if len(errors) == 1 else f"{worst} at worst over {len(errors)} tensors"


def _is_norm(name: str) -> bool:
    return name == "final_norm" or name.rsplit(".", 1)[-1] in NORM_PARTS


def read_matrices(
    reader: WeightReader, on_part: Callable[[str], None]
) -> Iterator[tuple[str, Matrix]]:
    """Every linear of the decoder, then the head; `on_part` is called before each."""
    for name, prefix, parts in matrix_names(reader.source.spec):
        on_part(name)
        yield name, reader.matrix(prefix, parts)
    on_part("head")
    yield "head", Matrix((reader.head(),), None)
