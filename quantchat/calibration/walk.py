"""The way through a model's layers with calibration text, one dense layer in memory at a time.

Owns the residual streams of all sequences and how many of these run together within the memory
budget. What is done to a layer is the method's.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch

from quantchat.calibration.forward import LayerForward, Taps
from quantchat.calibration.layer import DenseLayer, read_layer
from quantchat.errors import Cancelled
from quantchat.hardware.processor import read_cpu
from quantchat.model.rope import layer_ropes
from quantchat.model.weights import WeightReader
from quantchat.ops.rope import RopeTable

BF16_UNITS = frozenset({"avx512_bf16", "amx_bf16"})


def product_dtype(device: torch.device) -> torch.dtype:
    """The quickest float type of products on a device whose exponents reach as far as float32's."""
    if device.type == "cpu":
        quick = bool(read_cpu().isa & BF16_UNITS)
    else:
        quick = torch.cuda.get_device_capability(device) >= (8, 0)
    return torch.bfloat16 if quick else torch.float32


class LayerWalk:
    """A cursor over the layers: read one, look at its inputs, go on behind it."""

    def __init__(
        self,
        reader: WeightReader,
        ids: torch.Tensor,
        *,
        dtype: torch.dtype,
        memory_bytes: int,
        cancelled: Callable[[], bool],
    ) -> None:
        """ids: int64 [S, T]; the reader's recipe is dense float32; `dtype`: of products."""
        self.reader = reader
        self.spec = reader.source.spec
        self.device = reader.recipe.device
        self.ids = ids.to(self.device)
        self.ropes = layer_ropes(self.spec, ids.shape[1], self.device)
        """Of each layer."""
        self.forward = LayerForward(self.spec, self.ropes[0], dtype)
        """How the layer at the cursor runs."""
        self.at = 0
        """The layer that comes next."""
        self.hidden = self._embedded()
        """Residual streams in front of it, float32 [S, T, C]."""
        self.memory_bytes = memory_bytes
        self._cancelled = cancelled
        self._behind: tuple[DenseLayer, torch.Tensor] | None = None

    @property
    def rope(self) -> RopeTable:
        """The rotary embedding of the layer at the cursor."""
        return self.ropes[min(self.at, len(self.ropes) - 1)]

    def check(self) -> None:
        """Raises Cancelled where calibration is to stop."""
        if self._cancelled():
            raise Cancelled("calibration was stopped")

    def read(self, index: int) -> DenseLayer:
        """A layer as the file has it."""
        self.check()
        return read_layer(self.reader, index)

    @torch.no_grad()
    def inputs(self, layer: DenseLayer) -> Taps:
        """What each linear of the layer at the cursor is fed with.

        Of as many sequences as half the memory budget holds; with the default settings, of all.
        """
        kept = self._kept_sequences()
        taps: list[Taps] = []
        behind: list[torch.Tensor] = []
        for start, piece in self._pieces():
            out, seen = self.forward.run(layer, piece, self.spec.window(self.at))
            behind.append(out)
            if start < kept:
                taps.append(seen)
        self._behind = layer, torch.cat(behind)
        rows = kept * self.ids.shape[1]

        def joined(linear: str) -> torch.Tensor:
            return torch.cat([seen.of(linear) for seen in taps])[:rows]

        return Taps(
            joined("qkv"), joined("o"), joined("gate_up"), joined("down"), self.ids.shape[1]
        )

    @torch.no_grad()
    def advance(self, layer: DenseLayer) -> None:
        """Move the streams through a layer, be it the one that `inputs` saw or a changed one."""
        if self._behind is not None and self._behind[0] is layer:
            self.hidden = self._behind[1]
        else:
            window = self.spec.window(self.at)
            self.hidden = torch.cat(
                [self.forward.run(layer, piece, window)[0] for _, piece in self._pieces()]
            )
        self._behind = None
        self.at += 1
        if self.rope is not self.forward.rope:
            self.forward = replace(self.forward, rope=self.rope)

    def _embedded(self) -> torch.Tensor:
        table = self.reader.weight("embed", "dense")
        rows = table.take_rows(self.ids.flatten()).dequantize(torch.float32)
        return rows.view(*self.ids.shape, self.spec.hidden)

    def _pieces(self) -> list[tuple[int, torch.Tensor]]:
        """(first sequence, streams) of as many sequences as run together."""
        self.check()
        spec, tokens = self.spec, self.ids.shape[1]
        widest = 3 * spec.intermediate + 4 * spec.hidden + 3 * spec.heads * spec.head_dim
        each = 4 * tokens * (widest + spec.heads * tokens)
        count = max(1, self.memory_bytes // 2 // each)
        return [(n * count, piece) for n, piece in enumerate(torch.split(self.hidden, count))]

    def _kept_sequences(self) -> int:
        spec, (sequences, tokens) = self.spec, self.ids.shape
        width = 2 * spec.hidden + spec.heads * spec.head_dim + spec.intermediate
        each = tokens * width * self.forward.dtype.itemsize
        return max(1, min(sequences, self.memory_bytes // 2 // each))
