"""Cached vectors to codes and back: bounds of the error, flat vectors, agreement with the kernels'."""

from __future__ import annotations

import pytest
import torch
from quantchat.kernels.rope_append import reference
from quantchat.kernels.rope_append.formats import FORMATS, PARAMS, ROTATED, VECTORS

from quantchat.hardware.memory import kv_bytes_per_token
from quantchat.kv_formats import (
    KV_FORMATS,
    KV_ROTATED,
    KV_VECTORS,
    VECTOR_PARAMS,
    KvFormat,
    VectorFormat,
)
from quantchat.ops.kv_codec import dequantize_kv, quantize_kv, stored_width
from quantchat.ops.kv_pool import KvPool
from quantchat.shapes import SHAPES

ROUNDED: tuple[VectorFormat, ...] = ("fp8", "int8", "int4")


def vectors() -> torch.Tensor:
    return torch.randn(5, 3, 80) * torch.tensor([1e-3, 1.0, 50.0])[None, :, None]


@pytest.mark.parametrize("form", ROUNDED)
def test_codes_answer_to_stored_scales(form: VectorFormat) -> None:
    x = vectors()
    stored, params = quantize_kv(x, form)
    assert stored.dtype == torch.uint8 and params.dtype == torch.float16
    assert stored.shape[-1] == stored_width(80, form)
    back = dequantize_kv(stored, params, form, torch.float32)
    scale, top = params[..., :1].float(), x.abs().amax(-1, keepdim=True)
    step = x.abs() / 16 + scale * 2**-9 if form == "fp8" else scale * 0.51
    assert bool(((back - x).abs() <= step + top * 1e-3).all())


@pytest.mark.parametrize("form", ROUNDED)
@pytest.mark.parametrize("value", [0.75, 0.0, -2.0])
def test_flat_vectors_stay_what_they_are(form: VectorFormat, value: float) -> None:
    x = torch.full((2, 1, 8), value)
    back = dequantize_kv(*quantize_kv(x, form), form, torch.float32)
    torch.testing.assert_close(back, x, atol=0, rtol=1e-3)


@pytest.mark.parametrize("form", ROUNDED)
def test_the_kernels_reference_reads_the_same(form: VectorFormat) -> None:
    stored, params = quantize_kv(vectors(), form)
    ours = dequantize_kv(stored, params, form, torch.float32)
    theirs = reference.dequantize_heads(stored, params, form, torch.float32)
    assert torch.equal(ours, theirs)


def test_the_kernels_name_the_same_precisions() -> None:
    assert dict(PARAMS) == dict(VECTOR_PARAMS) and set(VECTOR_PARAMS) == {"16bit", *ROUNDED}
    assert dict(VECTORS) == dict(KV_VECTORS) and ROTATED == KV_ROTATED
    assert FORMATS == tuple(KV_VECTORS) == tuple(KV_FORMATS)


@pytest.mark.parametrize("precision", KV_VECTORS)
def test_a_pool_takes_the_bytes_that_the_plan_counts(precision: KvFormat) -> None:
    spec = SHAPES["smollm2-135m"]
    pool = KvPool(
        spec,
        pages=3,
        page_tokens=4,
        precision=precision,
        dtype=torch.bfloat16,
        device=torch.device("cpu"),
    )
    assert pool.nbytes == 12 * kv_bytes_per_token(spec, precision)
    held = [part for name in ("k", "v", "k_params", "v_params") for part in of(pool, name)]
    assert sum(part.nbytes for part in held) == pool.nbytes


def of(pool: KvPool, name: str) -> list[torch.Tensor]:
    """That tensor of every layer, where the precision has it."""
    return [part for layer in pool.layers if (part := getattr(layer, name)) is not None]
