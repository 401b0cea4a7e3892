"""AWQ's folds leave the model as it is, and its rounding beats what knows no inputs."""

from __future__ import annotations

import pytest
import torch
from memory_models import (
    FAMILIES,
    TINY,
    divergence,
    heavy_tailed,
    layers_of,
    logits_of,
    memory_source,
    recipe_of,
    stored_layers,
    walk_of,
)

from quantchat.calibration import awq
from quantchat.calibration.awq import Awq, importance_of, scale_of
from quantchat.calibration.layer import LINEARS
from quantchat.calibration.walk import LayerWalk
from quantchat.errors import Cancelled
from quantchat.model.families import ModelSource
from quantchat.quant.tensor import Int4GroupWeight

IDS = torch.randint(TINY.vocab, (6, 24), generator=torch.Generator().manual_seed(5))


def outlying(name: str, value: torch.Tensor) -> torch.Tensor:
    """Heavy tails, and norms that blow up a few channels whose weights are small."""
    value = heavy_tailed(name, value).clone()
    if name.endswith(("attn_norm", "mlp_norm")):
        value[[3, 40, 77]] *= 30
    elif name.endswith((".q", ".k", ".v", ".gate", ".up")):
        value[:, [3, 40, 77]] /= 30
    return value


def kl_of(source: ModelSource, ratios: tuple[float, ...], monkeypatch: pytest.MonkeyPatch) -> float:
    monkeypatch.setattr(awq, "RATIOS", ratios)
    walk = walk_of(source, IDS)
    layers, _, ending = stored_layers(walk, Awq(walk, recipe_of("awq", 32)))
    assert ending.head is None and ending.table is None
    embed = walk.reader.weight("embed", "dense").dequantize(torch.float32)
    norm = walk.reader.vector("final_norm")
    held_out = walk_of(source, IDS.flip(0).roll(7, dims=1))
    reference = logits_of(held_out, layers_of(source), embed, norm, embed)
    return divergence(reference, logits_of(held_out, layers, embed, norm, embed))


def rounded_kl(source: ModelSource, rounding: str) -> float:
    """KL of a rounding that knows no inputs."""
    from quantchat.evals.roundings import ROUNDINGS

    walk = walk_of(source, IDS.flip(0).roll(7, dims=1))
    dense = layers_of(source)
    rounded = [
        layer.with_weights(
            {
                part: ROUNDINGS[rounding](layer.weight(part), 32).dequantize(torch.float32)
                for parts in LINEARS.values()
                for part in parts
            }
        )
        for layer in dense
    ]
    embed = walk.reader.weight("embed", "dense").dequantize(torch.float32)
    norm = walk.reader.vector("final_norm")
    return divergence(
        logits_of(walk, dense, embed, norm, embed), logits_of(walk, rounded, embed, norm, embed)
    )


def test_better_than_roundings_that_know_no_inputs(monkeypatch: pytest.MonkeyPatch) -> None:
    source = memory_source(TINY, change=outlying)
    searched = kl_of(source, awq.RATIOS, monkeypatch)
    unscaled = kl_of(source, (0.0,), monkeypatch)
    nearest, hqq = rounded_kl(source, "nearest"), rounded_kl(source, "hqq")
    assert searched < 0.2 * min(nearest, hqq)
    assert searched < unscaled


@torch.no_grad()
def test_stored_groups_hang_together() -> None:
    walk = walk_of(memory_source(FAMILIES["biases"], change=outlying), IDS)
    method = Awq(walk, recipe_of("awq", 32))
    layer = walk.read(0)
    result = method.calibrate_layer(0, layer, walk.inputs(layer))
    assert list(result.matrices) == [f"layers.0.{linear}" for linear in LINEARS]
    for linear, parts in LINEARS.items():
        matrix = result.matrices[f"layers.0.{linear}"]
        (weight,) = matrix.parts
        assert isinstance(weight, Int4GroupWeight) and weight.group_size == 32
        stacked = torch.cat([result.next_layer.weight(part) for part in parts])
        assert torch.equal(weight.dequantize(torch.float32), stacked)
        assert matrix.bias is not None and matrix.bias.shape == weight.shape[:1]
    assert set(result.vectors) == {"layers.0.attn_norm", "layers.0.mlp_norm"}
    assert torch.equal(result.vectors["layers.0.attn_norm"], result.next_layer.attn_norm)


def test_inputs_that_overflow_or_are_silent_change_nothing() -> None:
    x = torch.randn(8, 64)
    x[:, 5] = 0
    assert bool((importance_of(x) > 0).all())
    assert bool(scale_of(x.abs().mean(dim=0), 0.7).isfinite().all())
    x[0, 0] = torch.inf
    assert torch.equal(importance_of(x), torch.ones(64))
    assert bool((scale_of(x.abs().mean(dim=0), 0.5) == 1).all())


def test_cancelled_within_a_layer() -> None:
    source = memory_source(TINY)
    told: list[bool] = []
    reader = walk_of(source, IDS).reader
    walk = LayerWalk(
        reader, IDS, dtype=torch.float32, memory_bytes=1 << 28, cancelled=lambda: bool(told)
    )
    layer = walk.read(0)
    taps = walk.inputs(layer)
    told.append(True)
    with pytest.raises(Cancelled):
        Awq(walk, recipe_of("awq", 32)).calibrate_layer(0, layer, taps)
