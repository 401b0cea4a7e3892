"""The references themselves: packing, stored format, quantised heads, attention against torch."""

from __future__ import annotations

import pytest
import torch
from quantchat.kernels.attention import reference as attention
from quantchat.kernels.rope_append import reference as append
from quantchat.kernels.rope_append.formats import PARAMS, VectorFormat, stored_width
from quantchat.kernels.wna16 import reference as w4
from quantchat.kernels.wna16.pack import pack, unpack


@pytest.mark.parametrize("group", [32, 64, 128])
def test_pack_is_undone_by_unpack(group: int) -> None:
    codes = torch.randint(0, 16, (7, group * 9), dtype=torch.uint8)
    words = pack(codes, group)
    assert words.shape == (7, group * 9 // 8) and words.dtype == torch.int32
    assert torch.equal(unpack(words, group), codes)


@pytest.mark.parametrize("group", [32, 64, 128])
def test_a_word_holds_codes_of_one_group(group: int) -> None:
    codes = torch.zeros(1, group * 4, dtype=torch.uint8)
    codes[0, group : 2 * group] = 15
    words = pack(codes, group).view(4, group // 8)
    assert (words[1] == -1).all() and not words[[0, 2, 3]].any()


def test_weights_are_scale_times_code_plus_offset() -> None:
    codes = torch.randint(0, 16, (3, 128), dtype=torch.uint8)
    scale, offset = torch.rand(3, 2).half(), torch.randn(3, 2).half()
    dense = w4.dequantize(pack(codes, 64), scale, offset, 64, torch.float32)
    for row, column in ((0, 0), (1, 63), (2, 64), (2, 127)):
        group = column // 64
        expected = codes[row, column] * scale[row, group].float() + offset[row, group].float()
        assert dense[row, column] == expected


@pytest.mark.parametrize("kv", ["fp8", "int8", "int4"])
def test_quantised_heads_are_within_half_a_step(kv: VectorFormat) -> None:
    x = torch.randn(5, 3, 80) * torch.logspace(-2, 2, 5)[:, None, None]
    stored, params = append.quantize_heads(x, kv)
    assert stored.shape[-1] == stored_width(80, kv) and params.shape[-1] == PARAMS[kv]
    error = (append.dequantize_heads(stored, params, kv, torch.float32) - x).abs()
    top = x.abs().amax(-1, keepdim=True)
    # Half a step, and what fp16 takes off the minimum and off all steps.
    step = x.abs() / 16 + top * 2**-17 if kv == "fp8" else 0.5 * params[..., :1].float()
    assert (error <= step + top * 2**-9).all()


@pytest.mark.parametrize("kv", ["fp8", "int8", "int4"])
@pytest.mark.parametrize("value", [0.0, 0.75, -3.0, 1e-9])
def test_flat_heads_stay_what_they_are(kv: VectorFormat, value: float) -> None:
    stored, params = append.quantize_heads(torch.full((2, 16), value), kv)
    back = append.dequantize_heads(stored, params, kv, torch.float32)
    torch.testing.assert_close(back, torch.full((2, 16), value), atol=1e-8, rtol=1e-3)


def test_int4_halves_share_bytes() -> None:
    x = torch.arange(16.0)
    stored, _ = append.quantize_heads(x, "int4")
    assert stored.tolist() == [low | (low + 8) << 4 for low in range(8)]


@pytest.mark.parametrize("size", [8, 64, 256])
def test_hadamard_heads_are_a_product_with_the_matrix(size: int) -> None:
    from quantchat.ops.hadamard import rotated

    x = torch.randn(3, 2, size)
    torch.testing.assert_close(append.hadamard_heads(x), rotated(x))
    torch.testing.assert_close(append.hadamard_heads(append.hadamard_heads(x)), x)


def test_rope_matches_complex_rotation() -> None:
    x = torch.randn(4, 2, 16)
    positions = torch.tensor([0, 1, 5, 9], dtype=torch.int32)
    angles = torch.outer(torch.arange(10.0), 10000.0 ** (-torch.arange(8) / 8))
    turned = append.rotate(x, positions, angles.cos(), angles.sin())
    phase = torch.polar(torch.ones(4, 1, 8), angles[positions.long()][:, None])
    truth = torch.view_as_real(torch.view_as_complex(x.view(4, 2, 8, 2)) * phase).flatten(2)
    torch.testing.assert_close(turned, truth)


def test_attention_is_torchs() -> None:
    k, v = torch.randn(2, 3, 4, 2, 16).half()
    table, lengths = torch.tensor([[2, 0, 1]], dtype=torch.int32), torch.tensor([10])
    q = torch.randn(1, 4, 16).half()
    out = attention.decode(q, k, v, table, lengths, scale=0.25)
    keys, values = (part[[2, 0, 1]].flatten(0, 1)[:10].transpose(0, 1)[None] for part in (k, v))
    truth = torch.nn.functional.scaled_dot_product_attention(
        q[:, :, None].float(), keys.float(), values.float(), scale=0.25, enable_gqa=True
    )
    torch.testing.assert_close(out.float(), truth[:, :, 0], atol=2e-3, rtol=2e-3)
