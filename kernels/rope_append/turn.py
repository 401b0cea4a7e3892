"""q and k of a decode step as a rotated cache wants them, in one launch before attention.

One program a row and head: query and key heads are normed, turned and multiplied by a Hadamard
matrix, value heads copied, so that attention finds rows of the usual shape with nothing left to
turn. Prompts do this in append.py.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from triton.language.extra.cuda import gdc_launch_dependents, gdc_wait

from .._launch import check_activation, check_out, launch
from .formats import check_rotation
from .heads import hadamard_heads, normed_heads, turned_heads


@triton.jit
def turn_kernel(
    qkv_ptr,
    positions_ptr,
    cos_ptr,
    sin_ptr,
    q_weight_ptr,
    k_weight_ptr,
    out_ptr,
    eps,
    HQ: tl.constexpr,
    HK: tl.constexpr,
    D: tl.constexpr,
    ROTARY_HALF: tl.constexpr,
    HEAD_NORM: tl.constexpr,
    PDL: tl.constexpr,
):
    row = tl.program_id(0).to(tl.int64)
    head = tl.program_id(1)
    DTYPE: tl.constexpr = qkv_ptr.dtype.element_ty
    if PDL:
        gdc_launch_dependents()
    d = tl.arange(0, D)
    # Positions are complete since the last full boundary of the stream; past L1, see attention.
    position = tl.load(positions_ptr + row, cache_modifier=".cg").to(tl.int64)
    i = tl.arange(0, D // 2)
    at = position * ROTARY_HALF + i
    c = tl.load(cos_ptr + at, mask=i < ROTARY_HALF, other=1.0)[None, :]
    s = tl.load(sin_ptr + at, mask=i < ROTARY_HALF, other=0.0)[None, :]
    if HEAD_NORM:
        p_weight = q_weight_ptr
        if head >= HQ:
            p_weight = k_weight_ptr
        weight = tl.load(p_weight + d).to(tl.float32)
    if PDL:
        gdc_wait()
    at_head = (row * (HQ + 2 * HK) + head) * D + d
    x = tl.load(qkv_ptr + at_head).to(tl.float32)[None, :]
    if head < HQ + HK:
        if HEAD_NORM:
            x = normed_heads(x, weight, eps, D, DTYPE)
        x = turned_heads(x, c, s, 1, D, DTYPE)
        x = hadamard_heads(x, 1, D, DTYPE)
    tl.store((out_ptr + at_head)[None, :], x.to(DTYPE))


def turn(
    qkv: torch.Tensor,
    positions: torch.Tensor,
    cos: torch.Tensor,
    sin: torch.Tensor,
    *,
    heads: int,
    kv_heads: int,
    q_weight: torch.Tensor | None = None,
    k_weight: torch.Tensor | None = None,
    eps: float = 0.0,
    out: torch.Tensor | None = None,
    dependent: bool = False,
) -> torch.Tensor:
    """qkv [M, (heads + 2 Hk) * D] with q and k normed, turned and rotated; v as it was.

    Arguments are those of append.rope_append; D is a power of two. A `dependent` launch reads
    positions before the kernel ahead of it has ended, as attention does.
    """
    check_activation(qkv, "qkv")
    head_dim = qkv.shape[1] // (heads + 2 * kv_heads)
    assert qkv.shape[1] == (heads + 2 * kv_heads) * head_dim and cos.shape[1] * 2 <= head_dim
    assert positions.shape == qkv.shape[:1] and positions.dtype == torch.int32
    assert (q_weight is None) == (k_weight is None)
    check_rotation(head_dim, "int4r")
    if out is None:
        out = torch.empty_like(qkv)
    check_out(out, tuple(qkv.shape), qkv.dtype)
    launch(
        turn_kernel,
        (qkv.shape[0], heads + 2 * kv_heads, 1),
        qkv,
        positions,
        cos,
        sin,
        q_weight,
        k_weight,
        out,
        eps,
        HQ=heads,
        HK=kv_heads,
        D=head_dim,
        ROTARY_HALF=cos.shape[1],
        HEAD_NORM=q_weight is not None,
        PDL=dependent,
        warps=1,
        dependent=dependent,
    )
    return out
