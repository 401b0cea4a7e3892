"""From dense weights to codes of sixteen values in blocks: NF4, FP4 and double quantization.

Bit for bit what bitsandbytes 0.50 stores on the CPU, nibble order apart (2305.14314; its blocks
run row-major through the matrix, which are blocks of rows where K is a multiple of 64).
"""

from __future__ import annotations

import torch

from quantchat.quant.codebook import NESTED_BLOCK, CodebookWeight, NestedScales
from quantchat.quant.pack import pack_nibbles
from quantchat.quant.slices import row_slices

BLOCK_SIZE = 64
NF4_TABLE = (
    -1.0,
    -0.6961928009986877,
    -0.5250730514526367,
    -0.39491748809814453,
    -0.28444138169288635,
    -0.18477343022823334,
    -0.09105003625154495,
    0.0,
    0.07958029955625534,
    0.16093020141124725,
    0.24611230194568634,
    0.33791524171829224,
    0.44070982933044434,
    0.5626170039176941,
    0.7229568362236023,
    1.0,
)
"""Quantiles of the standard normal distribution with an exact zero, from the paper's appendix E."""
FP4_TWELFTHS = (0.0, 0.0625, 8.0, 12.0, 4.0, 6.0, 2.0, 3.0)
"""Twelve times the positive values, by the code's lower three bits; the fourth is the sign."""
SMALLEST_ABSMAX = 1e-38
"""What a block of zeros is divided by."""
NESTED_STEPS = 65535
"""Double quantization first puts block scales on a grid of so many steps from -1 to 1."""


def nf4(weight: torch.Tensor, block_size: int = BLOCK_SIZE) -> CodebookWeight:
    """NF4 of weight [N, K] float, K % block_size == 0; float32 block scales."""
    return _rounded(weight, nf4_table(weight.device), block_size)


def fp4(weight: torch.Tensor, block_size: int = BLOCK_SIZE) -> CodebookWeight:
    """FP4 of weight [N, K] float, K % block_size == 0; float32 block scales."""
    return _rounded(weight, fp4_table(weight.device), block_size)


def nf4_dq(weight: torch.Tensor, block_size: int = BLOCK_SIZE) -> CodebookWeight:
    """NF4 of weight [N, K] float whose block scales are in 8 bits, K % block_size == 0."""
    plain = nf4(weight, block_size)
    assert isinstance(plain.scales, torch.Tensor)
    return CodebookWeight(plain.packed, plain.table, nested_scales(plain.scales), block_size)


def nf4_table(device: torch.device) -> torch.Tensor:
    """float32 [16], ascending."""
    return torch.tensor(NF4_TABLE, dtype=torch.float32, device=device)


def fp4_table(device: torch.device) -> torch.Tensor:
    """float32 [16], by code: sign, two bits of exponent, one of mantissa; the largest is 1."""
    values = [*FP4_TWELFTHS, *(-value for value in FP4_TWELFTHS)]
    return torch.tensor(values, dtype=torch.float32, device=device).div_(12)


def dynamic_map(device: torch.device) -> torch.Tensor:
    """float32 [256], ascending: signed 8-bit floats whose exponent takes as many bits as it needs.

    Decade 10^(i-6), i = 0..6, holds 2^i values a sign, the middles of equal parts of [0.1, 1]
    (1511.04561); 0 and 1 complete them.
    """
    values = [0.0, 1.0]
    for i in range(7):
        edges = torch.linspace(0.1, 1, 2**i + 1, dtype=torch.float32)
        middles = (edges[:-1] + edges[1:]) / 2.0
        decade = (10.0 ** (i - 6) * middles).tolist()
        values += [*decade, *(-value for value in decade)]
    return torch.tensor(sorted(values), dtype=torch.float32, device=device)


def nested_scales(scales: torch.Tensor) -> NestedScales:
    """Double quantization of block scales float32 [N, K/B]: less their mean, in blocks of 256."""
    flat = scales.flatten()
    offset = flat.mean()
    blocks = -(-flat.numel() // NESTED_BLOCK)
    centred = flat.new_zeros(blocks * NESTED_BLOCK)
    centred[: flat.numel()] = flat - offset
    centred = centred.view(blocks, NESTED_BLOCK)
    largest = centred.abs().amax(dim=1)
    inverse = torch.where(largest > 0, 1 / largest, torch.zeros_like(largest))
    shares = (centred * inverse[:, None]).clamp_(-1, 1)
    table = dynamic_map(scales.device)
    codes = torch.bucketize(_on_grid(shares), (table[:-1] + table[1:]) * 0.5).to(torch.uint8)
    codes[largest == 0] = 0
    return NestedScales(
        codes.flatten()[: flat.numel()].view(scales.shape), table, largest, offset.repeat(blocks)
    )


def _on_grid(shares: torch.Tensor) -> torch.Tensor:
    """Each float32 of -1 to 1 moved to the nearest of the grid's steps, rounded as in float32."""
    steps = ((shares + 1) * 0.5 * NESTED_STEPS + 0.5).trunc_()
    return steps.mul_(2).div_(NESTED_STEPS).sub_(1)


def _rounded(weight: torch.Tensor, table: torch.Tensor, block_size: int) -> CodebookWeight:
    """Codes of the nearest value in each block's range, by the middles between values."""
    n, k = weight.shape
    assert k % block_size == 0 and block_size % 2 == 0, (k, block_size)
    blocks = k // block_size
    packed = torch.empty((n, k // 2), dtype=torch.uint8, device=weight.device)
    scales = torch.empty((n, blocks), dtype=torch.float32, device=weight.device)
    ordered, order = table.sort(stable=True)
    names = order.to(torch.uint8)
    middles = (ordered[:-1] + ordered[1:]) / 2
    for rows in row_slices(weight, 4):
        w = weight[rows].float().view(-1, blocks, block_size)
        largest = w.abs().amax(dim=-1)
        inverse = 1.0 / largest.clamp_min(SMALLEST_ABSMAX)
        shares = (w * inverse[..., None]).clamp_(-1, 1)
        codes = names[torch.bucketize(shares, middles, out_int32=True)]
        packed[rows] = pack_nibbles(codes.view(-1, k))
        scales[rows] = largest
    return CodebookWeight(packed, table, scales, block_size)
