"""Smoothing pays where inputs have outliers, and leaves the model as it is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from memory_models import (
    FAMILIES,
    TINY,
    divergence,
    layers_of,
    logits_of,
    memory_source,
    stored_layers,
    walk_of,
)

from quantchat.calibration.forward import LayerForward
from quantchat.calibration.layer import LINEARS, DenseLayer
from quantchat.calibration.smoothquant import SmoothQuant
from quantchat.calibration.walk import LayerWalk
from quantchat.ops.quantized_rows import quantize_rows
from quantchat.quant.rounding import int8_channel

IDS = torch.randint(TINY.vocab, (6, 24), generator=torch.Generator().manual_seed(5))


class RoundedInputs(LayerForward):
    """Every linear's inputs in int8, token by token."""

    def linear(self, layer: DenseLayer, part: str, x: torch.Tensor) -> torch.Tensor:
        rounded = quantize_rows(x, "int8").dequantize(torch.float32)
        return LayerForward.linear(self, layer, part, rounded)


def outlying(name: str, value: torch.Tensor) -> torch.Tensor:
    """Norms that blow up a few channels, as trained models have them."""
    if name.endswith(("attn_norm", "mlp_norm")):
        value = value.clone()
        value[[3, 40, 77]] *= 30
    if name.endswith((".q", ".k", ".v", ".gate", ".up")):
        value = value.clone()
        value[:, [3, 40, 77]] /= 30
    return value


def kls(source_layers: list[DenseLayer], smooth: list[DenseLayer], walk: LayerWalk) -> list[float]:
    """KL of plain int8 rows and of the smoothed ones, inputs rounded."""
    embed = walk.reader.weight("embed", "dense").dequantize(torch.float32)
    norm = walk.reader.vector("final_norm")
    reference = logits_of(walk, source_layers, embed, norm, embed)
    plain = [
        layer.with_weights(
            {
                part: int8_channel(layer.weight(part)).dequantize(torch.float32)
                for parts in LINEARS.values()
                for part in parts
            }
        )
        for layer in source_layers
    ]
    walk.forward = RoundedInputs(walk.spec, walk.rope, torch.float32)
    return [
        divergence(reference, logits_of(walk, layers, embed, norm, embed))
        for layers in (plain, smooth)
    ]


def test_better_than_min_max_on_planted_outliers() -> None:
    source = memory_source(TINY, change=outlying)
    layers, _, _ = stored_layers(walk := walk_of(source, IDS), SmoothQuant(walk))
    held_out = walk_of(source, IDS.flip(0).roll(7, dims=1))
    plain, smooth = kls(layers_of(source), layers, held_out)
    assert smooth < 0.25 * plain


def test_no_worse_without_outliers() -> None:
    source = memory_source(TINY)
    layers, _, _ = stored_layers(walk := walk_of(source, IDS), SmoothQuant(walk))
    plain, smooth = kls(layers_of(source), layers, walk_of(source, IDS))
    assert smooth < 1.25 * plain


@pytest.mark.parametrize("family", FAMILIES)
def test_smoothing_leaves_the_model_as_it_is(family: str) -> None:
    source = memory_source(FAMILIES[family], change=outlying)
    walk = walk_of(source, IDS)
    layers, _, _ = stored_layers(walk, SmoothQuant(walk))
    changed = 0
    fresh = walk_of(source, IDS)
    hidden = fresh.hidden
    for index, (rounded, dense) in enumerate(zip(layers, layers_of(source), strict=True)):
        assert torch.equal(rounded.o, int8_channel(dense.o).dequantize(torch.float32))
        changed += not torch.equal(rounded.attn_norm, dense.attn_norm)
        window = fresh.spec.window(index)
        wanted, _ = fresh.forward.run(dense, hidden, window)
        got, _ = fresh.forward.run(replace(rounded, o=dense.o, down=dense.down), hidden, window)
        assert float((got - wanted).norm() / wanted.norm()) < 0.02
        hidden = wanted
    assert changed == fresh.spec.layers
