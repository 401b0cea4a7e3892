"""The probe that weighs inputs for rounding sees what the decoder itself would see."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import factory
import pytest
import torch
from decoders import CPU, batch_of, float32_decoder, make_pool

from quantchat.model import importance
from quantchat.model.families import open_model
from quantchat.model.weights import Matrix, WeightReader, WeightRecipe, read_matrices
from quantchat.ops.plain import Norm
from quantchat.quant.registry import SCHEMES
from quantchat.quant.rounding import int4_group
from quantchat.quant.tensor import Int4GroupWeight


class Tap:
    """A linear that remembers what it was fed."""

    def __init__(self, op: object) -> None:
        self.op = op
        self.fed = torch.empty(0)

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        self.fed = x.clone()
        return self.op(x)


@pytest.mark.parametrize("family", ["llama3", "mistral_window", "qwen2", "qwen3"])
@torch.inference_mode()
def test_inputs_are_the_decoders_own(family: str, tmp_path: Path) -> None:
    path = factory.write_hf(tmp_path / "model", family, tokenizer=False)
    decoder = float32_decoder(path, context_tokens=64)
    spec = decoder.spec
    random = torch.Generator().manual_seed(importance.SEED)
    ids = torch.randint(spec.vocab, (64,), generator=random).tolist()
    taps = [
        {name: Tap(getattr(layer, name)) for name in ("qkv", "o", "gate_up", "down")}
        for layer in decoder.layers
    ]
    layers = tuple(
        dataclasses.replace(layer, **tap) for layer, tap in zip(decoder.layers, taps, strict=True)
    )
    tapped = dataclasses.replace(decoder, layers=layers)
    pool = make_pool(tapped, pages=5, page_tokens=16)
    tapped.forward(batch_of(pool, [(ids, 0, 64, (1, 2, 3, 4))]), pool)
    wanted = [tap[name].fed for tap in taps for name in ("qkv", "o", "gate_up", "down")]

    seen: list[torch.Tensor] = []

    def spy(
        weight: torch.Tensor, group_size: int, weights: torch.Tensor | None = None, /
    ) -> Int4GroupWeight:
        assert weights is not None
        seen.append(weights)
        return int4_group(weight, group_size, weights)

    matrices = read(path, spy)
    assert len(matrices) == 4 * spec.layers + 1
    # q, k, v and gate, up share their inputs: 7 roundings for 4 linears.
    first_of_each = [seen[7 * i + j] for i in range(spec.layers) for j in (0, 3, 4, 6)]
    assert len(seen) == 7 * spec.layers
    for ours, fed in zip(first_of_each, wanted, strict=True):
        squares = fed.square().mean(dim=0)
        expected = (squares / squares.mean()).clamp_min(importance.FLOOR)
        torch.testing.assert_close(ours, expected, rtol=1e-3, atol=1e-3)


def read(path: Path, rounding: object) -> list[tuple[str, Matrix]]:
    source = open_model(path)
    recipe = WeightRecipe(
        scheme=SCHEMES["int4"],
        group_size=32,
        dtype=torch.float32,
        device=CPU,
        int4=rounding,
    )
    try:
        return list(read_matrices(WeightReader(source, recipe), lambda name: None))
    finally:
        source.close()


def test_weights_that_overflow_count_all_inputs_alike(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = factory.write_hf(tmp_path / "model", "llama", tokenizer=False)
    file = path / "model.safetensors"
    tensors = load_file(file)
    tensors["model.layers.0.mlp.up_proj.weight"] *= 1e30
    save_file(tensors, file, metadata={"format": "pt"})
    seen: list[torch.Tensor] = []

    def spy(
        weight: torch.Tensor, group_size: int, weights: torch.Tensor | None = None, /
    ) -> Int4GroupWeight:
        assert weights is not None
        seen.append(weights)
        return int4_group(weight, group_size, weights)

    read(path, spy)
    assert all(bool(weights.isfinite().all()) for weights in seen)
    assert bool((seen[6] == 1).all())


@pytest.mark.parametrize("family", factory.MORE_SETTINGS)
@torch.inference_mode()
def test_the_stream_behind_all_blocks_is_the_decoders_own(family: str, tmp_path: Path) -> None:
    path = factory.write_hf(tmp_path / "model", family, tokenizer=False)
    # Rope factors of a context as long as the probe's.
    decoder = float32_decoder(path, context_tokens=64)
    spec = decoder.spec
    random = torch.Generator().manual_seed(importance.SEED)
    ids = torch.randint(spec.vocab, (64,), generator=random).tolist()
    pool = make_pool(decoder, pages=5, page_tokens=16)
    wanted = decoder.forward(batch_of(pool, [(ids, 0, 64, (1, 2, 3, 4))]), pool)
    source = open_model(path)
    recipe = WeightRecipe(
        scheme=SCHEMES["int4"], group_size=16, dtype=torch.float32, device=CPU, int4=cheap
    )
    reader = WeightReader(source, recipe)
    for _ in read_matrices(reader, lambda name: None):
        pass
    probe = reader._probe
    assert probe is not None
    norm = Norm(decoder.final_norm, decoder.final_bias)
    made = norm(probe._residual, kind=spec.norm, eps=spec.norm_eps, dtype=torch.float32)
    torch.testing.assert_close(made, wanted, rtol=1e-3, atol=1e-3)
    source.close()


def cheap(
    weight: torch.Tensor, group_size: int, weights: torch.Tensor | None = None, /
) -> Int4GroupWeight:
    """Rounds without looking for the best scales; the probe does not see what comes out."""
    assert weights is not None and bool((weights >= importance.FLOOR).all())
    return int4_group(weight[:1], group_size, weights)
