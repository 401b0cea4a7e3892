"""Random weights of the stored formats that look values up or expand in two steps."""

from __future__ import annotations

import torch

from quantchat.quant.codebook import CodebookWeight
from quantchat.quant.lut import LutBits, LutWeight, SparseRows
from quantchat.quant.pack import pack_nibbles, pack_triples
from quantchat.quant.progressive import ProgressiveWeight


def codebook_weight(n: int, k: int, block: int = 32) -> CodebookWeight:
    """Sixteen ascending values, a scale a block."""
    codes = torch.randint(0, 16, (n, k), dtype=torch.uint8)
    return CodebookWeight(
        pack_nibbles(codes), torch.linspace(-1, 1, 16), torch.rand(n, k // block) * 0.1, block
    )


def sparse_rows(n: int, k: int, share: float = 0.02) -> SparseRows:
    """Entries at random places."""
    chosen = torch.rand(n, k) < share
    ends = chosen.sum(1).cumsum(0)
    starts = torch.cat((ends.new_zeros(1), ends)).to(torch.int32)
    columns = chosen.nonzero()[:, 1].to(torch.int32)
    return SparseRows(starts, columns, torch.randn(len(columns)).half())


def lut_weight(n: int, k: int, bits: LutBits, *, sparse: bool) -> LutWeight:
    """A table of each row's own."""
    codes = torch.randint(0, 2**bits, (n, k), dtype=torch.uint8)
    packed = pack_nibbles(codes) if bits == 4 else pack_triples(codes)
    table = (torch.randn(n, 2**bits) * 0.05).sort(dim=1).values.half()
    return LutWeight(packed, table, bits, sparse_rows(n, k) if sparse else None)


def progressive_weight(n: int, k: int, group: int = 32) -> ProgressiveWeight:
    """Codes that stay within int8 when expanded."""
    codes = torch.randint(0, 16, (n, k), dtype=torch.uint8)
    scales = torch.randint(1, 9, (n, k // group), dtype=torch.uint8)
    zeros = torch.randint(0, 16, (n, k // group), dtype=torch.uint8)
    return ProgressiveWeight(pack_nibbles(codes), torch.rand(n) * 1e-3, scales, zeros, group)
