"""SqueezeLLM: a table for each output channel, placed where the loss is sensitive to the weights.

2306.07629. Sensitivities come from the last layer to the first, and so do the results. Tables and
the choice of entries that are kept apart are quant's.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from quantchat.calibration.fisher import sensitivities
from quantchat.calibration.layer import LINEARS
from quantchat.calibration.method import Ending, LayerResult, matrices_of
from quantchat.calibration.walk import LayerWalk
from quantchat.quant.lut import LutBits
from quantchat.quant.scheme import Scheme
from quantchat.quant.sparse_rounding import lut_weight
from quantchat.quant.tensor import StoredWeight


class SqueezeLlm:
    """Implements `quantchat.calibration.method.Method`."""

    def __init__(self, scheme: Scheme) -> None:
        """`scheme`: one of lut4 or lut3 weights."""
        self._bits: LutBits = 4 if scheme.weights == "lut4" else 3
        self._sparse_share = scheme.sparse_share

    def results(self, walk: LayerWalk) -> Iterator[LayerResult]:
        """See Method.results; layers come from the last to the first."""
        for found in sensitivities(walk):
            stored: dict[str, StoredWeight] = {}
            for parts in LINEARS.values():
                for part in parts:
                    walk.check()
                    with torch.no_grad():
                        stored[part] = lut_weight(
                            found.layer.weight(part),
                            found.squares.pop(part),
                            self._bits,
                            self._sparse_share,
                        )
            yield LayerResult(matrices_of(found.index, found.layer, stored), {}, found.layer)

    def ending(self, walk: LayerWalk) -> Ending:
        """See Method.ending."""
        return Ending()
