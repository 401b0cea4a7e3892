"""Matrices that a calibrated method makes, as the loader takes them.

Owns the order: text first, with the model that writes it gone before the walk begins; then the
layers, then the head. Progress is in events' words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from quantchat.calibration.method import Ending, Method
from quantchat.calibration.walk import LayerWalk
from quantchat.model.families import ModelSource
from quantchat.model.loader import Phase, fetching
from quantchat.model.weights import Matrix, WeightReader, WeightRecipe
from quantchat.quant.registry import SCHEMES
from quantchat.quant.tensor import StoredWeight
from quantchat.spec import DecoderSpec


class CalibratedSource:
    """Implements `quantchat.model.loader.MatrixSource`; runs once."""

    phase: Phase = "calibrate"

    def __init__(
        self,
        source: ModelSource,
        recipe: WeightRecipe,
        method: Callable[[LayerWalk], Method],
        ids: Callable[[], torch.Tensor],
        *,
        dtype: torch.dtype,
        memory_bytes: int,
        cancelled: Callable[[], bool],
    ) -> None:
        """`recipe`: the scheme's; `dtype`: of products on the device; `ids`: int64 [S, T]."""
        self._source = source
        self._recipe = recipe
        self._method = method
        self._ids = ids
        self._dtype = dtype
        self._memory_bytes = memory_bytes
        self._cancelled = cancelled
        self._vectors: dict[str, torch.Tensor] = {}
        self._table: StoredWeight | None = None

    def matrices(
        self, spec: DecoderSpec, device: torch.device, on_part: Callable[[str], None]
    ) -> Iterator[tuple[str, Matrix]]:
        """See MatrixSource.matrices. Raises Cancelled, UsageError for a text that cannot serve."""
        ids = self._ids()
        plain = WeightRecipe(
            scheme=SCHEMES["fp16"], group_size=0, dtype=torch.float32, device=device
        )
        reader = WeightReader(self._source, plain)
        with fetching(reader, self._cancelled):
            walk = LayerWalk(
                reader,
                ids,
                dtype=self._dtype,
                memory_bytes=self._memory_bytes,
                cancelled=self._cancelled,
            )
            method = self._method(walk)
            for result in method.results(walk):
                self._vectors |= result.vectors
                matrices = result.matrices
                del result
                for name, matrix in matrices.items():
                    on_part(name)
                    yield name, matrix
            on_part("head")
            ending = method.ending(walk)
            self._vectors |= ending.vectors
            self._table = ending.table
            yield "head", Matrix((self._head(ending, reader),), None)

    def vector(self, name: str) -> torch.Tensor | None:
        """See MatrixSource.vector."""
        return self._vectors.get(name)

    def table(self) -> StoredWeight | None:
        """See MatrixSource.table."""
        return self._table

    def _head(self, ending: Ending, reader: WeightReader) -> StoredWeight:
        if ending.head is not None:
            return ending.head
        rounding = WeightReader(self._source, self._recipe)
        rounding.fetch = reader.fetch
        return rounding.head()
