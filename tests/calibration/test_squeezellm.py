"""Every linear becomes tables, the last layer first; sensitivity and sparse entries both pay."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch
from memory_models import (
    FAMILIES,
    divergence,
    heavy_tailed,
    layers_of,
    logits_of,
    memory_source,
    stored_layers,
    walk_of,
)

from quantchat.calibration import squeezellm
from quantchat.calibration.fisher import LayerSensitivity, sensitivities
from quantchat.calibration.layer import LINEARS, DenseLayer
from quantchat.calibration.squeezellm import SqueezeLlm
from quantchat.calibration.walk import LayerWalk
from quantchat.errors import Cancelled
from quantchat.model.families import ModelSource
from quantchat.model.weights import matrix_names
from quantchat.quant.codebook_rounding import nf4
from quantchat.quant.lut import LutWeight
from quantchat.quant.registry import SCHEMES


@pytest.mark.parametrize(
    ("family", "scheme", "bits"), [("biases", "squeezellm", 4), ("head norms", "squeezellm-3", 3)]
)
def test_every_linear_becomes_tables(family: str, scheme: str, bits: int) -> None:
    source = memory_source(FAMILIES[family])
    walk = walk_of(source, torch.randint(source.spec.vocab, (2, 9)))
    results = list(SqueezeLlm(SCHEMES[scheme]).results(walk))
    matrices = {name: matrix for result in results for name, matrix in result.matrices.items()}
    assert set(matrices) == {name for name, _, _ in matrix_names(source.spec)}
    assert next(iter(results[0].matrices)).startswith("layers.1.")
    for name, matrix in matrices.items():
        (weight,) = matrix.parts
        assert isinstance(weight, LutWeight) and weight.bits == bits
        assert weight.sparse is not None
        n, k = weight.shape
        assert weight.sparse.values.numel() == pytest.approx(0.0045 * n * k, abs=3)
        assert (matrix.bias is not None) == source.spec.qkv_bias, name
    assert not any(result.vectors for result in results)


PARTS = tuple(part for parts in LINEARS.values() for part in parts)


def test_sparse_entries_and_sensitivity_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    lost = {"sparse": 0.0, "dense": 0.0, "blind": 0.0, "nf4": 0.0}
    for seed in range(6, 10):
        for kind, value in losses(seed, monkeypatch).items():
            lost[kind] += value
    assert lost["sparse"] < 0.95 * lost["dense"]
    assert lost["sparse"] < 0.95 * lost["blind"]
    assert lost["sparse"] < 0.5 * lost["nf4"]


def losses(seed: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """KL on the calibration text, for a model with heavy tails."""
    spec = replace(FAMILIES["llama"], layers=1)
    source = memory_source(spec, seed=seed, change=heavy_tailed)
    ids = own_text(source, sequences=24, tokens=24, seed=seed)
    test = walk_of(source, ids)
    table, norm = test.reader.vector("embed"), test.reader.vector("final_norm")
    plain = layers_of(source)
    reference = logits_of(test, plain, table, norm, table)

    def lost(layers: list[DenseLayer]) -> float:
        return divergence(reference, logits_of(test, layers, table, norm, table))

    def squeezed(share: float) -> float:
        scheme = replace(SCHEMES["squeezellm"], sparse_share=share)
        return lost(stored_layers(walk_of(source, ids), SqueezeLlm(scheme))[0])

    normal = [
        layer.with_weights({p: nf4(layer.weight(p), 32).dequantize(torch.float32) for p in PARTS})
        for layer in plain
    ]
    found = {"sparse": squeezed(0.0045), "dense": squeezed(0.0), "nf4": lost(normal)}
    with monkeypatch.context() as patch:
        patch.setattr(squeezellm, "sensitivities", blind)
        found["blind"] = squeezed(0.0045)
    return found


def own_text(source: ModelSource, *, sequences: int, tokens: int, seed: int) -> torch.Tensor:
    """Drawn from the model itself, so that squared gradients are its Fisher information."""
    random = torch.Generator().manual_seed(seed)
    ids = torch.randint(source.spec.vocab, (sequences, 1), generator=random)
    layers = layers_of(source)
    while ids.shape[1] < tokens:
        walk = walk_of(source, ids)
        table, norm = walk.reader.vector("embed"), walk.reader.vector("final_norm")
        likely = logits_of(walk, layers, table, norm, table)[:, -1].softmax(-1)
        ids = torch.cat((ids, torch.multinomial(likely, 1, generator=random)), dim=1)
    return ids


def blind(walk: LayerWalk) -> Iterator[LayerSensitivity]:
    """Sensitivities with all weights equal."""
    for found in sensitivities(walk):
        for square in found.squares.values():
            square.fill_(1.0)
        yield found


def test_cancelling_ends_it() -> None:
    source = memory_source(FAMILIES["llama"])
    walk = walk_of(source, torch.randint(source.spec.vocab, (1, 8)))
    walk._cancelled = lambda: True
    with pytest.raises(Cancelled):
        next(SqueezeLlm(SCHEMES["squeezellm"]).results(walk))
