"""Rotated heads: the matrix, what rotation leaves alone, and what it is for."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from quantchat.kv_formats import KvFormat
from quantchat.ops.batch import Batch, Span
from quantchat.ops.hadamard import hadamard, has_hadamard, rotated
from quantchat.ops.kv_pool import KvPool
from quantchat.ops.rope import RopeTable
from quantchat.ops.torch_ops import TorchOps
from quantchat.shapes import SHAPES

CPU = torch.device("cpu")
TOKENS, D = 96, 64


@pytest.mark.parametrize("size", [1, 2, 8, 64, 128, 256])
def test_the_matrix_is_its_own_inverse_and_sylvester_s(size: int) -> None:
    matrix = hadamard(size, CPU)
    assert torch.allclose(matrix @ matrix, torch.eye(size), atol=1e-5)
    signs = [[(-1) ** (i & j).bit_count() for j in range(size)] for i in range(size)]
    assert torch.equal(matrix.sign(), torch.tensor(signs, dtype=torch.float32))


def test_sizes_that_have_one() -> None:
    assert [size for size in range(70) if has_hadamard(size)] == [1, 2, 4, 8, 16, 32, 64]


def test_products_of_rotated_heads_are_those_of_heads() -> None:
    q, k = torch.randn(2, 7, 3, 64)
    scores = torch.einsum("thd,thd->th", rotated(q), rotated(k))
    assert torch.allclose(scores, torch.einsum("thd,thd->th", q, k), atol=1e-4)
    assert rotated(q.half()).dtype == torch.float16


def answer(qkv: torch.Tensor, precision: KvFormat) -> torch.Tensor:
    """Attention of two heads over a prompt, its keys and values kept in that precision."""
    spec = replace(
        SHAPES["smollm2-135m"], layers=1, heads=2, kv_heads=2, head_dim=D, attention_scale=D**-0.5
    )
    angles = torch.outer(torch.arange(float(TOKENS)), 1000.0 ** (-torch.arange(0, D, 2) / D))
    ops = TorchOps(spec, device=CPU, dtype=torch.float32)
    pool = KvPool(
        spec,
        pages=TOKENS // 16 + 1,
        page_tokens=16,
        precision=precision,
        dtype=torch.float32,
        device=CPU,
    )
    place = torch.arange(TOKENS)
    batch = Batch(
        ids=place * 0,
        positions=place.int(),
        slots=place + 16,
        decode=False,
        spans=(Span(0, TOKENS, TOKENS, tuple(range(1, TOKENS // 16 + 1))),),
    )
    rope = RopeTable(angles.cos(), angles.sin())
    return ops.attend(qkv, batch, pool, pool.layers[0], rope, None, None, 0)


def test_outlier_channels_of_k_cost_less_rotated() -> None:
    """Two channels of K far from the others, as biased keys have them; V is exact in 4 bits."""
    torch.manual_seed(4)
    qkv = torch.randn(TOKENS, 6, D)
    qkv[:, 2:4, [12, 51]] += 30.0
    qkv[:, 4:] = torch.randint(0, 16, (TOKENS, 2, D)).float()
    qkv[:, 4:, 0], qkv[:, 4:, 1] = 0.0, 15.0
    truth = answer(qkv.flatten(1), "16bit")
    names: tuple[KvFormat, ...] = ("int4", "int4r", "k8v4", "int8")
    plain, turned, eight, both = (
        float((answer(qkv.flatten(1), name) - truth).norm()) for name in names
    )
    assert turned < plain / 2 and eight < turned
    assert eight == pytest.approx(both, rel=0.05), "K of k8v4 is that of int8"
