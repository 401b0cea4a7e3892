"""Norm, activation, rope with cache write and attention, interpreted, against their references."""

from __future__ import annotations

import pytest
import torch
from quantchat.kernels.activation import reference as activation_reference
from quantchat.kernels.activation import silu
from quantchat.kernels.attention import decode as attention
from quantchat.kernels.attention import reference as attention_reference
from quantchat.kernels.attention.splits import Splits
from quantchat.kernels.norm import reference as norm_reference
from quantchat.kernels.norm import rms
from quantchat.kernels.rope_append import append
from quantchat.kernels.rope_append import reference as append_reference

DTYPES = (torch.float16, torch.bfloat16)
# The interpreter cuts where a card rounds to bf16, at every rounding of the op.
TOLERANCE = {torch.float16: 5e-4, torch.bfloat16: 1.2e-2}
PAGES, PAGE_TOKENS = 5, 4


def close(result: torch.Tensor, truth: torch.Tensor, tolerance: float) -> None:
    assert torch.isfinite(result.float()).all(), "some outputs were not written"
    error = (result.double() - truth.double()).norm() / truth.double().norm().clamp_min(1e-30)
    assert error <= tolerance, f"relative error {error:.2e}"


def poisoned(*shape: int, dtype: torch.dtype) -> torch.Tensor:
    return torch.full(shape, float("nan"), dtype=dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("rows", "columns"), [(1, 576), (3, 100)])
def test_norms(rows: int, columns: int, dtype: torch.dtype) -> None:
    x, residual = torch.randn(2, rows, columns).to(dtype)
    weight = torch.randn(columns).to(dtype)
    out, total = poisoned(2, rows, columns, dtype=dtype)
    truth, truth_total = norm_reference.add_rms_norm(x, residual, weight, 1e-5)
    rms.add_rms_norm(x, residual, weight, 1e-5, out=out, total=total)
    close(out, truth, TOLERANCE[dtype])
    close(total, truth_total, TOLERANCE[dtype])
    alone = rms.rms_norm(x, weight, 1e-5)
    close(alone, norm_reference.rms_norm(x, weight, 1e-5), TOLERANCE[dtype])


@pytest.mark.parametrize("dtype", DTYPES)
def test_silu_mul(dtype: torch.dtype) -> None:
    x = torch.randn(3, 2 * 1030).to(dtype)
    out = poisoned(3, 1030, dtype=dtype)
    close(silu.silu_mul(x, out=out), activation_reference.silu_mul(x), TOLERANCE[dtype])


def empty_cache(
    kv_heads: int, head_dim: int, dtype: torch.dtype, int8: bool
) -> dict[str, torch.Tensor]:
    size = (PAGES, PAGE_TOKENS, kv_heads, head_dim)
    if not int8:
        return {name: torch.full(size, 7.0, dtype=dtype) for name in ("k_cache", "v_cache")}
    codes = {name: torch.full(size, 77, dtype=torch.uint8) for name in ("k_cache", "v_cache")}
    params = {name: torch.full((*size[:3], 2), 7.0).half() for name in ("k_params", "v_params")}
    return codes | params


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize(
    ("heads", "kv_heads", "head_dim", "rotary_half", "norm"),
    [(3, 1, 16, 8, True), (2, 2, 80, 20, False), (1, 1, 96, 48, False)],
)
def test_rope_append(
    heads: int,
    kv_heads: int,
    head_dim: int,
    rotary_half: int,
    norm: bool,
    int8: bool,
    dtype: torch.dtype,
) -> None:
    slots = torch.tensor([3, -1, 0, 19, 7, 8])
    qkv = torch.randn(len(slots), (heads + 2 * kv_heads) * head_dim).to(dtype)
    qkv[2, -head_dim:] = 0.5
    positions = torch.randint(0, 50, (len(slots),), dtype=torch.int32)
    angles = torch.rand(50, rotary_half) * 6
    mine = empty_cache(kv_heads, head_dim, dtype, int8)
    theirs = {name: part.clone() for name, part in mine.items()}
    options = {"heads": heads}
    if norm:
        weights = torch.randn(2, head_dim).to(dtype)
        options |= {"q_weight": weights[0], "k_weight": weights[1], "eps": 1e-6}
    common = (qkv, positions, angles.cos(), angles.sin(), slots)
    out = poisoned(len(slots), heads, head_dim, dtype=dtype)
    append.rope_append(*common, **mine, **options, out=out)
    close(out, append_reference.rope_append(*common, **theirs, **options), TOLERANCE[dtype])
    for name, part in mine.items():
        close(part, theirs[name], TOLERANCE[dtype])
    if int8:
        flat = mine["v_params"].view(-1, kv_heads, 2)[0, -1]
        assert flat.tolist() == [0.0, 0.5], "a flat vector has scale 0"
        assert not mine["v_cache"].view(-1, kv_heads, head_dim)[0, -1].any()


def test_rope_matches_complex_rotation() -> None:
    x = torch.randn(4, 2, 16)
    positions = torch.tensor([0, 1, 5, 9], dtype=torch.int32)
    angles = torch.outer(torch.arange(10.0), 10000.0 ** (-torch.arange(8) / 8))
    turned = append_reference.rotate(x, positions, angles.cos(), angles.sin())
    phase = torch.polar(torch.ones(4, 1, 8), angles[positions.long()][:, None])
    truth = torch.view_as_real(torch.view_as_complex(x.view(4, 2, 8, 2)) * phase).flatten(2)
    torch.testing.assert_close(turned, truth)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("int8", [False, True])
@pytest.mark.parametrize("window", [0, 5])
@pytest.mark.parametrize(
    ("heads", "kv_heads", "head_dim", "count", "tile_tokens", "use_dot"),
    [(3, 1, 16, 1, 4, False), (4, 2, 80, 3, 2, False), (2, 1, 16, 2, 16, True)],
)
def test_attention(
    heads: int,
    kv_heads: int,
    head_dim: int,
    count: int,
    tile_tokens: int,
    use_dot: bool,
    window: int,
    int8: bool,
    dtype: torch.dtype,
) -> None:
    if use_dot and dtype == torch.bfloat16:
        pytest.skip("the interpreter multiplies bf16 wrongly")
    cache = empty_cache(kv_heads, head_dim, dtype, int8)
    for part in cache.values():
        fresh = (
            torch.randint(0, 256, part.shape)
            if part.dtype == torch.uint8
            else torch.randn(part.shape)
        )
        part.copy_(fresh * (0.02 if part.dtype == torch.float16 and int8 else 1))
    splits = Splits(count=count, tile_tokens=tile_tokens, use_dot=use_dot, warps=1, stages=1)
    q = torch.randn(3, heads, head_dim).to(dtype)
    fixed = {
        "block_table": torch.randint(0, PAGES, (3, 4), dtype=torch.int32),
        "seq_lens": torch.tensor([0, 1, 15], dtype=torch.int32),
        "scale": 0.3,
        "window": window,
        **cache,
    }
    out = torch.full_like(q, float("nan"))
    attention.decode(q, **fixed, out=out, splits=splits)
    assert not out[0].any(), "a sequence of length 0 yields zeros"
    close(out, attention_reference.decode(q, **fixed), max(TOLERANCE[dtype], 1e-3))
