"""Rounded pages read for prompts, interpreted: the reference's numbers."""

from __future__ import annotations

import pytest
import torch
from quantchat.kernels.rope_append.formats import PARAMS, VECTORS, KvFormat
from quantchat.kernels.rope_append.read import read_rounded
from quantchat.kernels.rope_append.reference import dequantize_heads, quantize_heads

PAGES, PAGE_TOKENS, HEADS = 9, 4, 3


@pytest.mark.parametrize("head_dim", [64, 80])
@pytest.mark.parametrize("kv", ["fp8", "int8", "k8v4", "int4"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_pages_are_read_as_the_reference_reads_them(
    kv: KvFormat, head_dim: int, dtype: torch.dtype
) -> None:
    torch.manual_seed(2)
    pages = torch.tensor([5, 1, 8, 2, 0])
    stored = []
    for form in VECTORS[kv]:
        values = torch.randn(PAGES, PAGE_TOKENS, HEADS, head_dim) * 3
        values[2, 1] = 0.0
        values[1, :, 0] *= 1e-3
        codes, params = quantize_heads(values, form)
        assert params.shape[-1] == PARAMS[form]
        stored.append((codes, params))
    (k, k_params), (v, v_params) = stored
    for first, length in ((0, 1), (0, 17), (3, 20), (9, 13)):
        got = read_rounded(
            k,
            v,
            k_params,
            v_params,
            pages,
            first=first,
            length=length,
            head_dim=head_dim,
            kv=kv,
            dtype=dtype,
        )
        assert got.shape == (2, length - first, HEADS, head_dim) and got.dtype == dtype
        for part, (codes, params), form in zip(got, stored, VECTORS[kv], strict=True):
            whole = dequantize_heads(codes, params, form, dtype)[pages].flatten(0, 1)
            # Interpreted, a cast to bf16 cuts; on a card both round.
            most = 0.0 if dtype == torch.float16 else 2**-7
            wanted = whole[first:length]
            assert torch.allclose(part, wanted, rtol=most, atol=0.0), (form, first, length)
