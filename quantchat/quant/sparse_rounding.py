"""From dense weights to tables of channels plus the entries kept apart: SqueezeLLM (2306.07629).

Owns which entries those are: the most sensitive of a matrix, then its largest. They leave the
fit of the tables; their code is that of the value nearest 0, and what is stored is the rest.
"""

from __future__ import annotations

import torch

from quantchat.quant.kmeans import LARGEST_VALUE, lut_channel
from quantchat.quant.lut import LutBits, LutWeight, SparseRows
from quantchat.quant.pack import pack_nibbles, pack_triples
from quantchat.quant.slices import row_slices

SENSITIVE_SHARE = 0.0005
"""Of all entries, at most: those whose loss is most sensitive."""


def lut_weight(
    weight: torch.Tensor,
    sensitivity: torch.Tensor | None,
    bits: LutBits,
    sparse_share: float = 0.0,
) -> LutWeight:
    """Tables of 2**bits values for weight [N, K] float, K % 8 == 0, and `sparse_share` of it apart.

    sensitivity, float [N, K] of at least 0, weighs the error of each entry (a diagonal of the
    Fisher information); None takes all as equal.
    """
    n, k = weight.shape
    assert k % 8 == 0 and 0 <= sparse_share < 1
    count = round(sparse_share * n * k)
    if count == 0:
        codes, table = lut_channel(weight, sensitivity, bits)
        return LutWeight(_packed(codes, bits), table, bits)
    apart = apart_entries(weight, sensitivity, count)
    flat = weight.flatten()
    values = flat[apart].float()
    kept = flat.clone()
    kept[apart] = 0
    shares = torch.ones_like(weight) if sensitivity is None else sensitivity.clone()
    shares.view(-1)[apart] = 0
    codes, table = lut_channel(kept.view(n, k), shares, bits)
    rows = apart // k
    dense = table.float()[rows, codes.view(-1)[apart].long()]
    rest = (values - dense).clamp_(-LARGEST_VALUE, LARGEST_VALUE).to(torch.float16)
    starts = torch.zeros(n + 1, dtype=torch.int64, device=weight.device)
    torch.cumsum(torch.bincount(rows, minlength=n), dim=0, out=starts[1:])
    sparse = SparseRows(starts.to(torch.int32), (apart % k).to(torch.int32), rest)
    return LutWeight(_packed(codes, bits), table, bits, sparse)


def apart_entries(
    weight: torch.Tensor, sensitivity: torch.Tensor | None, count: int
) -> torch.Tensor:
    """Flat indices, int64 [count], ascending, of the entries of weight [N, K] to be kept apart."""
    size = weight.abs().flatten()
    sensitive = 0 if sensitivity is None else min(count, round(SENSITIVE_SHARE * size.numel()))
    chosen = size.new_zeros(0, dtype=torch.int64)
    if sensitivity is not None and sensitive:
        chosen = sensitivity.flatten().topk(sensitive, sorted=False).indices
        size[chosen] = -1
    largest = size.topk(count - sensitive, sorted=False).indices
    return torch.cat((chosen, largest)).sort().values


def _packed(codes: torch.Tensor, bits: LutBits) -> torch.Tensor:
    """uint8 [N, bits K/8] of codes uint8 [N, K]."""
    pack = pack_nibbles if bits == 4 else pack_triples
    return torch.cat([pack(codes[rows]) for rows in row_slices(codes, 8)])
