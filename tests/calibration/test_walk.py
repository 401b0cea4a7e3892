"""The walk sees what the decoder itself sees, however little memory it is given."""

from __future__ import annotations

import pytest
import torch
from decoders import batch_of, make_pool
from memory_models import CPU, FAMILIES, TINY, memory_source, recipe_of, walk_of

from quantchat.calibration.layer import LINEARS
from quantchat.calibration.walk import LayerWalk
from quantchat.errors import Cancelled
from quantchat.model.families import ModelSource
from quantchat.model.loader import load_decoder
from quantchat.model.weights import WeightReader
from quantchat.ops.torch_ops import TorchOps

IDS = torch.randint(TINY.vocab, (3, 11), generator=torch.Generator().manual_seed(5))


def states_of(source: ModelSource) -> torch.Tensor:
    """Normed states [S, T, C] of the decoder, run sequence by sequence."""
    decoder = load_decoder(
        source,
        TorchOps(source.spec, device=CPU, dtype=torch.float32),
        recipe_of("fp16"),
        context_tokens=16,
        cache=None,
        on_progress=lambda phase, done, total: None,
        cancelled=lambda: False,
    ).decoder
    pool = make_pool(decoder, pages=5, page_tokens=4)
    with torch.inference_mode():
        rows = [
            decoder.forward(batch_of(pool, [(ids, 0, len(ids), (1, 2, 3))]), pool)
            for ids in IDS.tolist()
        ]
    return torch.stack(rows)


@pytest.mark.parametrize("memory_bytes", [1 << 28, 1])
@pytest.mark.parametrize("family", FAMILIES)
def test_streams_are_the_decoders(family: str, memory_bytes: int) -> None:
    source = memory_source(FAMILIES[family])
    walk = walk_of(source, IDS, memory_bytes=memory_bytes)
    kept = IDS.numel() if memory_bytes > 1 else IDS.shape[1]
    for index in range(source.spec.layers):
        layer = walk.read(index)
        taps = walk.inputs(layer)
        for linear in LINEARS:
            assert taps.of(linear).shape == (kept, layer.parts(linear)[0].shape[1])
        # A layer that is another object runs anew, one that was just looked at does not.
        walk.advance(walk.read(index) if index else layer)
    final_norm = walk.reader.vector("final_norm")
    normed = torch.nn.functional.rms_norm(
        walk.hidden, (source.spec.hidden,), final_norm, source.spec.norm_eps
    )
    torch.testing.assert_close(normed, states_of(source), rtol=1e-4, atol=1e-4)


def test_taps_are_the_inputs_of_linears() -> None:
    source = memory_source(TINY)
    walk = walk_of(source, IDS)
    layer = walk.read(0)
    before = walk.hidden
    taps = walk.inputs(layer)
    walk.advance(layer)
    inner = before.flatten(0, 1) + taps.o @ layer.o.t()
    normed = torch.nn.functional.rms_norm(inner, (96,), layer.mlp_norm, source.spec.norm_eps)
    torch.testing.assert_close(taps.gate_up, normed)
    gated = torch.nn.functional.silu(normed @ layer.gate.t()) * (normed @ layer.up.t())
    torch.testing.assert_close(taps.down, gated)
    torch.testing.assert_close(walk.hidden.flatten(0, 1), inner + gated @ layer.down.t())


def test_bf16_products_stay_near() -> None:
    source = memory_source(TINY)
    exact, quick = walk_of(source, IDS), walk_of(source, IDS)
    quick = LayerWalk(
        WeightReader(source, recipe_of("fp16")),
        IDS,
        dtype=torch.bfloat16,
        memory_bytes=1 << 28,
        cancelled=lambda: False,
    )
    for walk in (exact, quick):
        for index in range(source.spec.layers):
            walk.advance(walk.read(index))
    assert quick.hidden.dtype == torch.float32
    error = (quick.hidden - exact.hidden).norm() / exact.hidden.norm()
    assert 1e-6 < float(error) < 0.02


def test_cancelled_at_the_next_step() -> None:
    told: list[bool] = []
    source = memory_source(TINY)
    walk = LayerWalk(
        WeightReader(source, recipe_of("fp16")),
        IDS,
        dtype=torch.float32,
        memory_bytes=1 << 28,
        cancelled=lambda: bool(told),
    )
    layer = walk.read(0)
    told.append(True)
    for step in (lambda: walk.inputs(layer), lambda: walk.read(1), lambda: walk.advance(layer)):
        with pytest.raises(Cancelled):
            step()
