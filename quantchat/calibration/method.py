"""What a calibrated scheme does to a model: layer by layer to stored formats, then the head.

Owns the contract and the way forward through the layers, which all methods but the Fisher one go.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import torch

from quantchat.calibration.forward import Taps
from quantchat.calibration.layer import LINEARS, DenseLayer
from quantchat.calibration.walk import LayerWalk
from quantchat.model.weights import Matrix
from quantchat.quant.stack import concat_rows
from quantchat.quant.tensor import StoredWeight


@dataclass(frozen=True, slots=True, eq=False)
class LayerResult:
    """One layer in stored formats."""

    matrices: Mapping[str, Matrix]
    """Our fused name, as in layers.3.qkv -> matrix."""
    vectors: Mapping[str, torch.Tensor]
    """Our name -> norm weight, float32, where it is another than the file's."""
    next_layer: DenseLayer
    """What moves the streams on to the next layer."""


@dataclass(frozen=True, slots=True, eq=False)
class Ending:
    """What follows the layers, where it is another than the file's."""

    head: StoredWeight | None = None
    """None: the file's, in the scheme's format of heads."""
    table: StoredWeight | None = None
    """An embedding table of its own."""
    vectors: Mapping[str, torch.Tensor] = field(default_factory=dict)


class Method(Protocol):
    """A way from dense layers to stored formats."""

    def results(self, walk: LayerWalk) -> Iterator[LayerResult]:
        """Every layer's result, in any order. Raises Cancelled."""

    def ending(self, walk: LayerWalk) -> Ending:
        """After all results."""


class ForwardMethod(ABC):
    """A method that goes from the first layer to the last."""

    def results(self, walk: LayerWalk) -> Iterator[LayerResult]:
        """See Method.results."""
        walk.hidden = self.enter(walk)
        for index in range(walk.spec.layers):
            layer = self.prepare(index, walk.read(index))
            taps = walk.inputs(layer)
            result = self.calibrate_layer(index, layer, taps)
            walk.advance(result.next_layer)
            del layer, taps
            yield result

    def enter(self, walk: LayerWalk) -> torch.Tensor:
        """The streams in front of the first layer, float32 [S, T, C]."""
        return walk.hidden

    def prepare(self, index: int, layer: DenseLayer) -> DenseLayer:
        """The layer as its inputs are to be seen; the model's output stays the same."""
        return layer

    @abstractmethod
    def calibrate_layer(self, index: int, layer: DenseLayer, taps: Taps) -> LayerResult:
        """Round a layer whose linears were fed with the taps."""

    def ending(self, walk: LayerWalk) -> Ending:
        """See Method.ending."""
        return Ending()


def matrices_of(
    index: int, layer: DenseLayer, stored: Mapping[str, StoredWeight]
) -> dict[str, Matrix]:
    """Fused matrices of a layer from the stored weights of its parts, with the layer's biases."""
    matrices = {}
    for linear, parts in LINEARS.items():
        weights = [stored[part] for part in parts]
        fused = concat_rows(weights) if len(weights) > 1 else weights[0]
        matrices[f"layers.{index}.{linear}"] = Matrix(
            tuple(weights) if fused is None else (fused,), layer.fused_bias(linear)
        )
    return matrices
