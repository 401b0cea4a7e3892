"""A dense matrix in the stored format that a scheme asks for, rounded by itself.

Owns the choice of rounding; what calibration adds comes from elsewhere.
"""

from __future__ import annotations

import torch

from quantchat.quant.codebook_rounding import fp4, nf4, nf4_dq
from quantchat.quant.progressive_rounding import progressive
from quantchat.quant.rounding import fp8_channel, int4_group, int8_channel, int8_vectorwise
from quantchat.quant.scheme import Scheme, WeightFormat
from quantchat.quant.sparse_rounding import lut_weight
from quantchat.quant.tensor import DenseWeight, StoredWeight

CODEBOOKS = {"nf4": nf4, "fp4": fp4, "nf4_dq": nf4_dq}


def rounded_matrix(
    weight: torch.Tensor, scheme: Scheme, group_size: int, form: WeightFormat
) -> StoredWeight:
    """weight [N, K] float as `form`, which is the scheme's own or its head's.

    `group_size`: the plan's, 0 where the scheme has none. A dense weight keeps its dtype; the
    others are rounded from float32.
    """
    if form == "dense":
        return DenseWeight(weight)
    if form == "int8_channel":
        plain = scheme.activations != "int8_outliers"
        return int8_channel(weight) if plain else int8_vectorwise(weight)
    if form == "fp8_channel":
        return fp8_channel(weight)
    if form == "int4_group":
        return int4_group(weight, group_size)
    if form == "codebook4":
        return CODEBOOKS[scheme.rounding](weight, group_size)
    if form == "lut4" or form == "lut3":
        return lut_weight(weight, None, 4 if form == "lut4" else 3, scheme.sparse_share)
    assert form == "progressive4", form
    return progressive(weight, group_size)
