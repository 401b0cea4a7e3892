"""int4 group weights in plain torch: the truth that the kernels are held to."""

from __future__ import annotations

import torch

from .pack import unpack


def dequantize(
    words: torch.Tensor,
    scale: torch.Tensor,
    offset: torch.Tensor,
    group_size: int,
    dtype: torch.dtype,
) -> torch.Tensor:
    """Dense weights [N, K] of words int32 [N, K // 8], scale and offset [N, K // group_size].

    w = q * scale + offset in fp32, then cast to dtype.
    """
    rows, columns = words.shape[0], words.shape[1] * 8
    codes = unpack(words, group_size).view(rows, columns // group_size, group_size)
    weights = codes.float() * scale.float()[:, :, None] + offset.float()[:, :, None]
    return weights.view(rows, columns).to(dtype)


def gemv(
    x: torch.Tensor,
    words: torch.Tensor,
    scale: torch.Tensor,
    offset: torch.Tensor,
    *,
    group_size: int,
    bias: torch.Tensor | None = None,
) -> torch.Tensor:
    """x [M, K] times the transposed weights, plus bias [N], in fp32 -> [M, N].

    Weights are not rounded to the activations' dtype; the sum is cast to it once, at the end.
    """
    total = x.float() @ dequantize(words, scale, offset, group_size, torch.float32).t()
    if bias is not None:
        total = total + bias.float()
    return total.to(x.dtype)
