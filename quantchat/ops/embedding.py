"""Token ids to rows, from a dense table or from the codes of a tied head."""

from __future__ import annotations

import torch

from quantchat.quant.tensor import DenseWeight, Int8ChannelWeight, StoredWeight


class Embedding:
    """Rows of a stored weight [vocab, C], float32 on lookup."""

    def __init__(self, weight: StoredWeight) -> None:
        self.weight = weight
        self.weight_bytes = weight.nbytes

    def __call__(self, ids: torch.Tensor) -> torch.Tensor:
        """ids int64 [T] -> float32 [T, C]."""
        weight = self.weight
        if isinstance(weight, DenseWeight):
            return weight.data.index_select(0, ids).float()
        if isinstance(weight, Int8ChannelWeight):
            rows = weight.codes.index_select(0, ids).float()
            return rows.mul_(weight.scale.index_select(0, ids)[:, None])
        return weight.take_rows(ids).dequantize(torch.float32)
