"""An exported folder's weights: a `MatrixSource` over stored formats that were checked.

Every tensor is named in errors, and every size is held against the spec before it is used.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import NoReturn

import torch

from quantchat.checkpoints.safetensors_header import values
from quantchat.errors import CheckpointError
from quantchat.model.export_marker import Export
from quantchat.model.loader import Phase
from quantchat.model.names import tensor_shape
from quantchat.model.packed_parts import STORED, Index, PartEntry, stored_weight
from quantchat.model.upload import Range, Uploader
from quantchat.model.weights import Matrix, matrix_names
from quantchat.quant.tensor import StoredWeight
from quantchat.spec import DecoderSpec

HINT = "the export is damaged; make it again with `quantchat quantize`"


class ExportedMatrices:
    """Implements `quantchat.model.loader.MatrixSource`."""

    phase: Phase = "read"

    def __init__(self, export: Export) -> None:
        """Raises CheckpointError where the index is none."""
        self._export = export
        self._device = torch.device("cpu")
        self._uploader: Uploader | None = None
        self._table: StoredWeight | None = None
        try:
            self._index = Index.from_text(json.dumps(dict(export.index)))
        except (ValueError, RecursionError) as error:
            raise CheckpointError(
                export.checkpoint.path, f"has a broken index: {error}", hint=HINT
            ) from error

    def matrices(
        self, spec: DecoderSpec, device: torch.device, on_part: Callable[[str], None]
    ) -> Iterator[tuple[str, Matrix]]:
        """See MatrixSource.matrices. Raises CheckpointError naming the tensor."""
        self._device = device
        with Uploader(device) as self._uploader:
            self._uploader.expect(self._ranges(spec))
            for name, layer, parts in matrix_names(spec):
                on_part(name)
                shapes = [tensor_shape(spec, layer + part) for part in parts]
                rows, columns = sum(shape[0] for shape in shapes), shapes[0][1]
                yield name, self._matrix(name, (rows, columns))
            on_part("head")
            yield "head", self._matrix("head", (spec.vocab, spec.hidden))
            self._table = self._own_table()
        self._uploader = None

    def vector(self, name: str) -> torch.Tensor | None:
        """See MatrixSource.vector; all of them are the export's."""
        spec = self._export.spec
        stored = self._index.vectors.get(name)
        if stored is None:
            self._broken("is not in the index", name)
        tensor = self._tensor(stored)
        if tuple(tensor.shape) != tensor_shape(spec, name) or not tensor.is_floating_point():
            self._broken(f"is {tensor.dtype} {tuple(tensor.shape)}", stored)
        return tensor.float()

    def table(self) -> StoredWeight | None:
        """See MatrixSource.table; None where it is the head."""
        return self._table

    def _ranges(self, spec: DecoderSpec) -> Iterator[Range]:
        """What is read, in that order; what is missing is told when it is asked for."""
        index, tensors = self._index, self._export.checkpoint.tensors
        names = [*(name for name, _, _ in matrix_names(spec)), "head"]
        parts = [part for name in names for part in index.linears.get(name, ())]
        for part in parts:
            for stored in part.tensors.values():
                if (entry := tensors.get(stored)) is not None:
                    yield Range(entry.file, entry.offset, entry.nbytes)

    def _own_table(self) -> StoredWeight | None:
        index, spec = self._index, self._export.spec
        if index.embedding is None:
            self._broken("is not in the index", "embed")
        head = index.linears.get("head")
        if head is not None and index.embedding == head[0] and len(head) == 1:
            return None
        weight, _ = self._part(index.embedding, "embed")
        if weight.shape != (spec.vocab, spec.hidden):
            self._broken(f"is of {weight.shape}", "embed")
        return weight

    def _matrix(self, name: str, shape: tuple[int, int]) -> Matrix:
        entries = self._index.linears.get(name)
        if entries is None:
            self._broken("is not in the index", name)
        found = [self._part(entry, name) for entry in entries]
        weights = [weight for weight, _ in found]
        rows = sum(weight.shape[0] for weight in weights)
        if rows != shape[0] or any(weight.shape[1] != shape[1] for weight in weights):
            shapes = [weight.shape for weight in weights]
            self._broken(f"is of {shapes}, {list(shape)} expected", name)
        biases = [bias for _, bias in found if bias is not None]
        if biases and len(biases) != len(found):
            self._broken("has a bias in some parts alone", name)
        return Matrix(tuple(weights), torch.cat(biases).float() if biases else None)

    def _part(self, entry: PartEntry, name: str) -> tuple[StoredWeight, torch.Tensor | None]:
        scheme = self._export.scheme
        head = scheme.weights if scheme.head == "same" else scheme.head
        # Heads of fp8 were as its linears once.
        heads = (head, scheme.weights)
        allowed = {"head": heads, "embed": (*heads, "dense")}.get(name, (scheme.weights,))
        if entry.form not in [STORED + form for form in allowed]:
            self._broken(f"has the form {entry.form[:40]!r} under {scheme.name}", name)
        tensors = {stored: self._tensor(stored) for stored in entry.tensors.values()}
        try:
            return stored_weight(entry.load(tensors))
        except ValueError as error:
            self._broken(str(error), name)

    def _tensor(self, name: str) -> torch.Tensor:
        checkpoint = self._export.checkpoint
        entry = checkpoint.tensors.get(name)
        if entry is None:
            self._broken("is missing", name)
        if self._uploader is None:
            return values(entry, checkpoint.raw(name).to(self._device))
        return values(entry, self._uploader.fetch(entry.file, entry.offset, entry.nbytes))

    def _broken(self, problem: str, tensor: str) -> NoReturn:
        raise CheckpointError(
            self._export.checkpoint.path,
            problem,
            tensor=tensor[:80],
            hint=HINT,
        )
