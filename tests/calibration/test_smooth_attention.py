"""Keys are made even, logits stay, and 4-bit keys lose less where a channel stands out."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from memory_models import FAMILIES, layers_of, logits_of, memory_source, walk_of

from quantchat.calibration.layer import DenseLayer
from quantchat.calibration.smooth_attention import key_peaks, smoothed, smoothing
from quantchat.ops.kv_codec import dequantize_kv, quantize_kv
from quantchat.spec import DecoderSpec


def with_outliers(layer: DenseLayer, spec: DecoderSpec) -> DenseLayer:
    """Three channels of every key head, 20 times the others; queries see them as before."""
    scale = torch.ones(spec.head_dim)
    scale[[2, 5, 11]] = 20.0
    if layer.k_norm is not None and layer.q_norm is not None:
        return replace(layer, k_norm=layer.k_norm * scale, q_norm=layer.q_norm / scale)
    k, q = scale.repeat(spec.kv_heads), scale.repeat(spec.heads)
    return replace(
        layer,
        k=layer.k * k[:, None],
        k_bias=None if layer.k_bias is None else layer.k_bias * k,
        q=layer.q / q[:, None],
        q_bias=None if layer.q_bias is None else layer.q_bias / q,
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_stay_and_keys_lose_less(family: str) -> None:
    source = memory_source(FAMILIES[family], seed=2)
    spec = source.spec
    walk = walk_of(source, torch.randint(spec.vocab, (2, 23)))
    layers = [with_outliers(layer, spec) for layer in layers_of(source)]
    even: list[DenseLayer] = []
    for layer in layers:
        inputs = walk.inputs(layer).qkv
        even.append(smoothed(layer, key_peaks(layer, inputs, spec), spec))
        assert score_error(even[-1], inputs, walk, spec) < 0.5 * score_error(
            layer, inputs, walk, spec
        )
        walk.advance(layer)
    table = walk.reader.vector("embed")
    head = table if spec.tied_head else walk.reader.vector("head")
    norm = walk.reader.vector("final_norm")
    before, after = (logits_of(walk, these, table, norm, head) for these in (layers, even))
    torch.testing.assert_close(after, before, rtol=0, atol=1e-4)


def score_error(layer: DenseLayer, inputs: torch.Tensor, walk: object, spec: DecoderSpec) -> float:
    """Mean square of what int4 keys do to the scores of one sequence."""
    q, k = turned(layer, "q", inputs, walk, spec), turned(layer, "k", inputs, walk, spec)
    rounded = dequantize_kv(*quantize_kv(k, "int4"), "int4", torch.float32)
    lost = (k - rounded).repeat_interleave(spec.heads // spec.kv_heads, dim=1)
    return float(torch.einsum("ihd,jhd->hij", q, lost).square().mean())


def turned(
    layer: DenseLayer, part: str, inputs: torch.Tensor, walk: object, spec: DecoderSpec
) -> torch.Tensor:
    """Heads of the first sequence as the cache holds them, [T, H, D]."""
    tokens = walk.ids.shape[1]  # type: ignore[attr-defined]
    heads = torch.nn.functional.linear(inputs[:tokens], layer.weight(part), layer.bias(part))
    heads = heads.view(tokens, -1, spec.head_dim)
    norm = layer.q_norm if part == "q" else layer.k_norm
    if norm is not None:
        heads = torch.nn.functional.rms_norm(heads, (spec.head_dim,), norm, spec.norm_eps)
    return walk.rope.turn(heads, torch.arange(tokens))  # type: ignore[attr-defined]


def test_pairs_share_a_factor_and_peaks_bound_turned_keys() -> None:
    source = memory_source(FAMILIES["part turned"])
    spec = source.spec
    walk = walk_of(source, torch.randint(spec.vocab, (1, 40)))
    layer = layers_of(source)[0]
    inputs = walk.inputs(layer).qkv
    peaks = key_peaks(layer, inputs, spec)
    assert peaks.shape == (spec.kv_heads, spec.head_dim)
    assert torch.equal(peaks[:, 0:8:2], peaks[:, 1:8:2])
    assert not torch.equal(peaks[:, 8::2], peaks[:, 9::2])
    keys = turned(layer, "k", inputs, walk, spec).abs().amax(dim=0)
    assert bool((keys <= peaks * (1 + 1e-5)).all())


def test_silent_heads_and_channels() -> None:
    factors = smoothing(torch.tensor([[0.0, 0.0, 0.0], [0.0, 4.0, 1.0]]))
    assert bool(factors.isfinite().all()) and bool((factors > 0).all())
    torch.testing.assert_close(factors.log().mean(dim=-1), torch.zeros(2), atol=1e-6, rtol=0)
    assert float(factors[1, 1] / factors[1, 2]) == pytest.approx(2.0)
    assert float(factors[1].max() / factors[1].min()) == pytest.approx(1e3**0.5, rel=1e-3)
