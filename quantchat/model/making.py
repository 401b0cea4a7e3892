"""The linears of a decoder, one after another: read or made, then as ops.

Owns what runs beside what: reading ahead of asking, matrices side by side on the CPU. Putting the
decoder together is the loader's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator
from typing import Literal, Protocol, TypeAlias

import torch

from quantchat.checkpoints.base import TensorEntry
from quantchat.checkpoints.gguf import GgufFile
from quantchat.checkpoints.safetensors import SafetensorsFolder
from quantchat.model.side_by_side import in_turn
from quantchat.model.upload import Range, Uploader
from quantchat.model.weights import Matrix, WeightReader, matrix_names, read_matrices
from quantchat.ops.linear import LinearOp
from quantchat.ops.torch_ops import TorchOps
from quantchat.quant.tensor import StoredWeight
from quantchat.spec import DecoderSpec

MOST_MATRICES = 4
"""Read, rounded and packed at a time on the CPU: more of them would be too much beside the model."""

Phase: TypeAlias = Literal["read", "sample", "calibrate", "quantize", "upload"]


class MatrixSource(Protocol):
    """Matrices in stored formats that are no file's: calibrated ones, or random ones."""

    phase: Phase
    """What is under way while matrices are made."""

    def matrices(
        self, spec: DecoderSpec, device: torch.device, on_part: Callable[[str], None]
    ) -> Iterator[tuple[str, Matrix]]:
        """Every linear of the decoder, layers in any order, the head last.

        `on_part` is called before each, and raises Cancelled where loading is to stop.
        """

    def vector(self, name: str) -> torch.Tensor | None:
        """float32 norm weight of our name, None where it is the file's; after all matrices."""

    def table(self) -> StoredWeight | None:
        """An embedding table, None where it is the file's; after all matrices."""


def made_linears(
    reader: WeightReader, ops: TorchOps, made: MatrixSource | None, step: Callable[[str], None]
) -> Iterator[tuple[str, Matrix, list[LinearOp]]]:
    """Every linear in the order of execution, the head last; `step` is called before each."""
    spec, recipe = reader.source.spec, reader.recipe

    def with_ops(name: str, matrix: Matrix) -> tuple[str, Matrix, list[LinearOp]]:
        return name, matrix, ops_of(ops, name, matrix)

    if made is not None:
        for name, matrix in made.matrices(spec, recipe.device, step):
            yield with_ops(name, matrix)
        return
    if recipe.device.type != "cpu" or recipe.scheme.weights == "int4_group":
        # A card is kept busy by one thread; int4 looks at each matrix's outputs before the next.
        for name, matrix in read_matrices(reader, step):
            yield with_ops(name, matrix)
        return

    def one(names: tuple[str, str, tuple[str, ...]]) -> tuple[str, Matrix, list[LinearOp]]:
        name, prefix, parts = names
        return with_ops(name, reader.matrix(prefix, parts))

    for found in in_turn(one, matrix_names(spec), MOST_MATRICES):
        step(found[0])
        yield found
    step("head")
    yield with_ops("head", Matrix((reader.head(),), None))


@contextlib.contextmanager
def fetching(
    reader: WeightReader, cancelled: Callable[[], bool], expected: Iterable[TensorEntry] = ()
) -> Iterator[None]:
    """Large tensors of files reach the device in large pieces meanwhile.

    `expected`: tensors in the order in which they will be read, for those that can be told before.
    """
    device, checkpoint = reader.recipe.device, reader.source.checkpoint
    if not isinstance(checkpoint, (GgufFile, SafetensorsFolder)):
        yield
        return
    with Uploader(device) as uploader:

        def fetch(entry: TensorEntry) -> torch.Tensor:
            return uploader.fetch(entry.file, entry.offset, entry.nbytes, cancelled=cancelled)

        uploader.expect(Range(each.file, each.offset, each.nbytes) for each in expected)
        reader.fetch = fetch
        try:
            yield
        finally:
            reader.fetch = None


def ops_of(ops: TorchOps, name: str, matrix: Matrix) -> list[LinearOp]:
    """The ops of a matrix, one for each part."""
    if name == "head":
        return [ops.head(matrix.parts[0])]
    biases = biases_of(matrix)
    gated = is_gated(name, len(matrix.parts))
    return [
        ops.linear(part, bias, gated=gated) for part, bias in zip(matrix.parts, biases, strict=True)
    ]


def is_gated(name: str, parts: int) -> bool:
    """Gate and up in one matrix, whose outputs an op may multiply on the way."""
    return name.endswith(".gate_up") and parts == 1


def biases_of(matrix: Matrix) -> list[torch.Tensor | None]:
    """The bias of each part, None where there is none."""
    if matrix.bias is None:
        return [None] * len(matrix.parts)
    return list(torch.split(matrix.bias, [part.shape[0] for part in matrix.parts]))
