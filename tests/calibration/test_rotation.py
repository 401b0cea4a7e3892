"""Rotations are orthogonal, spread outliers, and leave every family's logits where they were."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from memory_models import CPU, FAMILIES, layers_of, logits_of, memory_source, recipe_of, walk_of

from quantchat.calibration.forward import LayerForward
from quantchat.calibration.layer import read_layer
from quantchat.calibration.rotation import ModelRotation, Rotation, norms_folded
from quantchat.model.families import open_model
from quantchat.model.rope import rope_table
from quantchat.model.weights import WeightReader


@pytest.mark.parametrize("size", [1, 2, 3, 9, 16, 96, 576, 896, 1024])
def test_orthogonal_and_even(size: int) -> None:
    turned = Rotation(size, seed=3, device=CPU).turn(torch.eye(size))
    torch.testing.assert_close(turned @ turned.t(), torch.eye(size), rtol=0, atol=1e-5)
    # Hadamard's values are all alike, a cosine reaches sqrt(2) of that.
    assert float(turned.abs().max()) * size**0.5 < 1.4143


def test_seeds_differ_and_repeat() -> None:
    x = torch.randn(5, 96)
    one, same, other = (Rotation(96, seed=seed, device=CPU).turn(x) for seed in (1, 1, 2))
    assert torch.equal(one, same) and not torch.equal(one, other)


def test_rows_are_turned_by_the_transpose() -> None:
    rotation = Rotation(24, seed=0, device=CPU)
    q = rotation.turn(torch.eye(24))
    weight = torch.randn(24, 7)
    torch.testing.assert_close(rotation.turn_rows(weight), q.t() @ weight, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES)
def test_logits_stay(family: str) -> None:
    source = memory_source(FAMILIES[family], seed=1)
    walk = walk_of(source, torch.randint(source.spec.vocab, (2, 19)))
    table = walk.reader.vector("embed")
    head = table if source.spec.tied_head else walk.reader.vector("head")
    norm = walk.reader.vector("final_norm")
    layers = layers_of(source)
    before = logits_of(walk, layers, table, norm, head)
    rotation = ModelRotation(source.spec, seed=5, device=CPU)
    turned = [rotation.layer(layer) for layer in layers]
    after = logits_of(
        walk,
        turned,
        rotation.table(table),
        torch.ones_like(norm),
        rotation.output_head(head, norm),
    )
    assert all(bool((layer.attn_norm == 1).all()) for layer in turned)
    assert not torch.allclose(turned[0].v, norms_folded(layers[0]).v, atol=0.1)
    torch.testing.assert_close(after, before, rtol=0, atol=1e-4)


def test_a_large_channel_is_spread() -> None:
    def planted(name: str, value: torch.Tensor) -> torch.Tensor:
        if name.endswith("mlp_norm"):
            value[[3, 40, 77]] = 30.0
        return value

    source = memory_source(FAMILIES["llama"], change=planted)
    layer = layers_of(source)[0]
    turned = ModelRotation(source.spec, seed=0, device=CPU).layer(layer)

    def peak(weight: torch.Tensor) -> float:
        return float((weight.abs().amax(dim=1) / weight.square().mean(dim=1).sqrt()).mean())

    folded = norms_folded(layer)
    assert peak(folded.gate) > 6
    assert peak(turned.gate) < 0.6 * peak(folded.gate)


@pytest.mark.starter
def test_first_layers_of_the_starter_model(starter_path: Path) -> None:
    source = open_model(starter_path)
    try:
        reader = WeightReader(source, recipe_of("fp16"))
        layers = [read_layer(reader, index) for index in range(2)]
    finally:
        source.close()
    spec = source.spec
    rotation = ModelRotation(spec, seed=0, device=CPU)
    forward = LayerForward(spec, rope_table(spec.rope, 12, CPU), torch.float32)
    start = 0.1 * torch.randn(1, 12, spec.hidden)
    plain, turned = start, rotation.stream.turn(start)
    for layer in layers:
        plain = forward.run(layer, plain, 0)[0]
        turned = forward.run(rotation.layer(layer), turned, 0)[0]
    error = (turned - rotation.stream.turn(plain)).norm() / plain.norm()
    assert float(error) < 1e-5
