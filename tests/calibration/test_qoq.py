"""QoQ's weights are what its integer path takes, and each of its measures pays where it should."""

from __future__ import annotations

from dataclasses import dataclass, replace

import pytest
import torch
from memory_models import (
    FAMILIES,
    divergence,
    heavy_tailed,
    layers_of,
    logits_of,
    memory_source,
    recipe_of,
    stored_layers,
    walk_of,
)

from quantchat.calibration.compensation import Compensation
from quantchat.calibration.forward import LayerForward
from quantchat.calibration.layer import DenseLayer
from quantchat.calibration.progressive_fit import fit_progressive
from quantchat.calibration.qoq import Qoq, QoqParts, rounded_gram, smoothing
from quantchat.errors import Cancelled
from quantchat.model.families import ModelSource
from quantchat.model.weights import matrix_names
from quantchat.ops.quantized_rows import quantize_rows
from quantchat.quant.progressive import ProgressiveWeight
from quantchat.quant.progressive_rounding import progressive

NOTHING = QoqParts(
    rotate=False, smooth_keys=False, smooth_down=False, search=False, compensate=False
)


def correlated(rows: int, k: int, *, seed: int = 0) -> torch.Tensor:
    """Inputs [R, K] whose neighbours go together, a few of them large."""
    random = torch.Generator().manual_seed(seed)
    x = torch.randn(rows, k // 4, generator=random) @ torch.randn(k // 4, k, generator=random)
    x = x / (k // 4) ** 0.5 + 0.3 * torch.randn(rows, k, generator=random)
    x[:, [1, k // 2]] *= 8
    return x


def output_error(stored: ProgressiveWeight, weight: torch.Tensor, x: torch.Tensor) -> float:
    return float((x @ (stored.dequantize(torch.float32) - weight).t()).square().mean())


@pytest.mark.parametrize("group", [0, 32])
def test_search_and_compensation_lower_the_outputs_error(group: int) -> None:
    x, weight = correlated(600, 96), torch.randn(40, 96)
    gram = rounded_gram(x)
    alone = gram.diagonal().diag()
    fit = fit_progressive(weight, gram, group)
    nearest = output_error(progressive(weight, group), weight, x)
    searched = output_error(Compensation(alone).round(weight, fit), weight, x)
    both = output_error(Compensation(gram).round(weight, fit), weight, x)
    assert searched < 0.97 * nearest
    assert both < 0.75 * searched


@pytest.mark.parametrize("group", [0, 32])
@pytest.mark.parametrize("kind", ["one sign", "spike", "zeros", "tiny", "normal"])
def test_codes_stay_within_int8(group: int, kind: str) -> None:
    weight = torch.randn(24, 64)
    if kind == "one sign":
        weight = weight.abs() + 3
    elif kind == "spike":
        weight[:, 5] = 1e4
        weight[1, 6] = -1e4
    elif kind == "zeros":
        weight[::2] = 0
    elif kind == "tiny":
        weight *= 1e-20
    gram = rounded_gram(correlated(80, 64, seed=3))
    stored = Compensation(gram).round(weight, fit_progressive(weight, gram, group))
    codes = stored.codes().view(24, -1, stored.group_size).int()
    wide = (codes - stored.group_zero[..., None].int()) * stored.group_scale[..., None].int()
    assert int(wide.abs().max()) <= 127
    assert torch.equal(wide.view(24, 64).to(torch.int8), stored.expand())
    assert bool(stored.dequantize(torch.float32).isfinite().all())
    if kind == "zeros":
        assert bool((stored.dequantize(torch.float32)[::2] == 0).all())


@pytest.mark.parametrize("broken", ["zero", "one input", "not a number"])
def test_inputs_that_say_little(broken: str) -> None:
    x = torch.zeros(30, 64)
    if broken == "one input":
        x[:, 7] = 2.0
    elif broken == "not a number":
        x[3, 3] = float("nan")
    weight = torch.randn(40, 64)
    gram = rounded_gram(x)
    stored = Compensation(gram).round(weight, fit_progressive(weight, gram, 32))
    off = (stored.dequantize(torch.float32) - weight).square()
    assert float(off.mean()) < 0.03
    if broken == "one input":
        assert float(off[:, 7].mean()) < 0.5 * float(off.mean())


def test_columns_that_repeat_need_more_damping() -> None:
    x = torch.randn(500, 8).repeat(1, 8)
    weight = torch.randn(16, 64)
    gram = rounded_gram(x)
    stored = Compensation(gram).round(weight, fit_progressive(weight, gram, 32))
    assert output_error(stored, weight, x) < 0.3 * output_error(progressive(weight, 32), weight, x)


def test_smoothing_takes_from_large_inputs() -> None:
    x, weight = torch.ones(4, 3), torch.ones(5, 3)
    x[0, 1], weight[0, 2] = -9.0, 9.0
    factors = smoothing(x, weight, 0.5, 0.5)
    torch.testing.assert_close(factors, torch.tensor([1.0, 3.0, 1 / 3]))


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("scheme", ["qoq", "qoq-channel"])
def test_every_linear_of_every_family(family: str, scheme: str) -> None:
    source = memory_source(FAMILIES[family], seed=7)
    group = 32 if scheme == "qoq" else 0
    walk = walk_of(source, torch.randint(source.spec.vocab, (4, 16)))
    table, head, norm = ends(source)
    reference = logits_of(walk, layers_of(source), table, norm, head)
    method = Qoq(walk, recipe_of(scheme, group))
    layers, matrices, ending = stored_layers(walk, method)
    assert set(matrices) == {name for name, _, _ in matrix_names(source.spec)}
    for matrix in matrices.values():
        (weight,) = matrix.parts
        assert isinstance(weight, ProgressiveWeight)
        assert weight.group_size == (group or weight.shape[1])
    assert ending.table is not None and ending.head is not None
    found = logits_of(
        walk,
        layers,
        ending.table.dequantize(torch.float32),
        ending.vectors["final_norm"],
        ending.head.dequantize(torch.float32),
    )
    assert divergence(reference, found) < (0.3 if group else 0.6)


def ends(source: ModelSource) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Embedding, head and final norm."""
    reader = walk_of(source, torch.zeros(1, 2, dtype=torch.int64)).reader
    table = reader.vector("embed")
    head = table if source.spec.tied_head else reader.vector("head")
    return table, head, reader.vector("final_norm")


def loud(name: str, value: torch.Tensor) -> torch.Tensor:
    """Heavy-tailed weights; three channels behind norms and two in front of down stand out.

    What reads them has smaller weights there, as trained models do: they are loud, not decisive.
    """
    value = heavy_tailed(name, value)
    if name.endswith(("attn_norm", "mlp_norm")):
        value[[3, 40, 77]] = 30.0
    elif name.endswith((".q", ".k", ".v", ".gate", ".up")):
        value[:, [3, 40, 77]] /= 15
    if name.endswith(".up"):
        value[[9, 60]] *= 20
    elif name.endswith(".down"):
        value[:, [9, 60]] /= 20
    return value


@dataclass(frozen=True, slots=True, eq=False)
class Int8Forward(LayerForward):
    """Every linear's inputs rounded to int8, row by row, as the scheme's ops do it."""

    def linear(self, layer: DenseLayer, part: str, x: torch.Tensor) -> torch.Tensor:
        """See LayerForward.linear."""
        rows = quantize_rows(x, "int8").dequantize(torch.float32)
        return LayerForward.linear(self, layer, part, rows)


def test_measures_pay_on_a_model_with_outliers() -> None:
    spec = replace(FAMILIES["llama"], layers=1)
    source = memory_source(spec, seed=8, change=loud)
    ids = torch.randint(spec.vocab, (12, 32))
    test = walk_of(source, torch.randint(spec.vocab, (4, 32)))
    table, _, norm = ends(source)
    reference = logits_of(test, layers_of(source), table, norm, table)
    rounding = walk_of(source, test.ids)
    rounding.forward = Int8Forward(spec, test.rope, torch.float32)

    def lost(parts: QoqParts) -> float:
        walk = walk_of(source, ids)
        layers, _, ending = stored_layers(walk, Qoq(walk, recipe_of("qoq", 32), parts))
        own = table if ending.table is None else ending.table.dequantize(torch.float32)
        head = table if ending.head is None else ending.head.dequantize(torch.float32)
        last = ending.vectors.get("final_norm", norm)
        return divergence(reference, logits_of(rounding, layers, own, last, head))

    everything = lost(QoqParts())
    assert everything < 0.2 * lost(NOTHING)
    assert everything < 0.3 * lost(QoqParts(rotate=False))
    assert everything < 0.95 * lost(QoqParts(smooth_down=False))
    assert everything < 0.9 * lost(QoqParts(compensate=False))


def test_cancelling_ends_it() -> None:
    source = memory_source(FAMILIES["llama"])
    walk = walk_of(source, torch.randint(source.spec.vocab, (1, 8)))
    results = Qoq(walk, recipe_of("qoq", 32)).results(walk)
    next(results)
    walk._cancelled = lambda: True
    with pytest.raises(Cancelled):
        next(results)
