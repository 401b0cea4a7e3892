"""Folding a scale leaves the layer as it is."""

from __future__ import annotations

import pytest
import torch
from memory_models import FAMILIES, TINY, memory_source, walk_of

from quantchat.calibration.folding import INWARD, fold, norms_of, shared

IDS = torch.randint(TINY.vocab, (3, 12), generator=torch.Generator().manual_seed(5))


@pytest.mark.parametrize("linears", [(linear,) for linear in INWARD] + [INWARD])
@pytest.mark.parametrize("family", FAMILIES)
@torch.no_grad()
def test_outputs_stay(family: str, linears: tuple[str, ...]) -> None:
    walk = walk_of(memory_source(FAMILIES[family]), IDS)
    spec = walk.spec
    layer = walk.read(1)
    wanted, taps = walk.forward.run(layer, walk.hidden, spec.window(1))
    random = torch.Generator().manual_seed(1)
    folded = layer
    scales = {}
    for linear in linears:
        scale = torch.rand(taps.of(linear).shape[1], generator=random) * 3 + 0.2
        scales[linear] = shared(scale, linear, spec)
        folded = fold(folded, linear, scales[linear], spec)
    got, scaled = walk.forward.run(folded, walk.hidden, spec.window(1))
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)
    for linear, scale in scales.items():
        torch.testing.assert_close(scaled.of(linear) * scale, taps.of(linear), rtol=1e-4, atol=1e-4)
    changed = [
        not torch.equal(v, w)
        for v, w in zip(norms_of(1, folded).values(), norms_of(1, layer).values(), strict=True)
    ]
    assert changed == ["qkv" in linears, "gate_up" in linears]
