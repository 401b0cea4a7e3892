"""The second load is the first one read back: same ops, same numbers, nothing rounded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import factory
import pytest
import torch
from decoders import logits_in_chunks, make_pool

from quantchat.errors import CheckpointError
from quantchat.model.families import open_model
from quantchat.model.loader import LoadedDecoder, Phase, load_decoder
from quantchat.model.packed_cache import PackedCache
from quantchat.model.packed_file import PackedFile
from quantchat.model.weights import WeightReader, WeightRecipe
from quantchat.ops.linear import LinearForm, LinearOp, bias_of, tensor_of
from quantchat.ops.torch_ops import TorchOps
from quantchat.quant.registry import SCHEMES
from quantchat.quant.tensor import StoredWeight

CPU = torch.device("cpu")
IDS = [5, 9, 17, 33, 41, 60, 7]


class TransposedLinear:
    """An op with a layout of its own, as the ops of cards have."""

    def __init__(self, columns: torch.Tensor, bias: torch.Tensor | None) -> None:
        self.in_features, self.out_features = columns.shape
        self.weight_bytes, self.copy_bytes = columns.nbytes, 0
        self.kernel, self.owns_copy = "transposed", True
        self._columns, self._bias = columns, bias

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        y = x @ self._columns
        return y if self._bias is None else y + self._bias

    def packed(self) -> LinearForm | None:
        tensors = {"columns": self._columns}
        if self._bias is not None:
            tensors["bias"] = self._bias
        return LinearForm(
            form="transposed-1",
            shape=(self.out_features, self.in_features),
            group_size=0,
            tensors=tensors,
        )


class TransposingOps(TorchOps):
    """Packs every linear but the head in its own way."""

    layout = "transposed"

    def linear(
        self, weight: StoredWeight, bias: torch.Tensor | None, *, gated: bool = False
    ) -> LinearOp:
        return TransposedLinear(weight.dequantize(self.dtype).t().contiguous(), bias)

    def restore(self, form: LinearForm, *, gated: bool = False) -> LinearOp:
        if form.form != "transposed-1":
            return super().restore(form, gated=gated)
        n, k = form.shape
        return TransposedLinear(tensor_of(form, "columns", (k, n), self.dtype), bias_of(form))


def load(
    path: Path, cache: PackedCache, kind: type[TorchOps], phases: list[Phase] | None = None
) -> LoadedDecoder:
    source = open_model(path)
    dtype = torch.float32 if kind is TransposingOps else torch.bfloat16
    ops = kind(source.spec, device=CPU, dtype=dtype)
    recipe = WeightRecipe(scheme=SCHEMES["int4"], group_size=32, dtype=dtype, device=CPU)

    def on_progress(phase: Phase, done: int, total: int) -> None:
        assert 0 <= done <= total
        if phases is not None and phase not in phases:
            phases.append(phase)

    try:
        return load_decoder(
            source,
            ops,
            recipe,
            context_tokens=64,
            cache=cache,
            on_progress=on_progress,
            cancelled=lambda: False,
        )
    finally:
        source.close()


def logits(loaded: LoadedDecoder) -> torch.Tensor:
    pool = make_pool(loaded.decoder, pages=4, page_tokens=4)
    return logits_in_chunks(loaded.decoder, pool, IDS, [2, 1, 3], [4, 5, 7])


@pytest.mark.parametrize("family", ["llama", "llama3", "qwen2", "qwen3"])
@pytest.mark.parametrize("kind", [TorchOps, TransposingOps])
def test_a_second_load_gives_the_same_numbers(
    family: str, kind: type[TorchOps], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = factory.write_hf(tmp_path / "m", family, tokenizer=False)
    cache = PackedCache(tmp_path, "abc", "int4", 32)
    phases: list[Phase] = []
    first = load(path, cache, kind, phases)
    assert not first.from_cache and phases == ["quantize"]

    def refuse(*_: object) -> None:
        raise AssertionError("the checkpoint is read again")

    for name in ("matrix", "vector", "weight", "head"):
        monkeypatch.setattr(WeightReader, name, refuse)
    phases.clear()
    second = load(path, cache, kind, phases)
    assert second.from_cache and phases == ["read"]
    assert torch.equal(logits(first), logits(second))
    assert first.decoder.weight_bytes == second.decoder.weight_bytes


def test_experts_are_read_apart_by_layer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = factory.write_hf(
        tmp_path / "m", "qwen2moe", tokenizer=False, shared_expert_intermediate_size=64
    )
    cache = PackedCache(tmp_path, "abc", "int4", 32)
    load(path, cache, TorchOps)
    read, apart = PackedFile.read, dict[str, str]()

    def seen(self: PackedFile, device: torch.device, **given: Any) -> dict[str, torch.Tensor]:
        apart.update(given["apart"])
        linears = self.index.linears
        assert apart.keys() == {name for name in linears if ".experts." in name}
        return read(self, device, **given)

    monkeypatch.setattr(PackedFile, "read", seen)
    assert load(path, cache, TorchOps).from_cache
    assert apart and all(name.startswith(f"{owner}.") for name, owner in apart.items())


def test_a_file_that_does_not_fit_is_made_anew(tmp_path: Path) -> None:
    small = factory.write_hf(tmp_path / "small", "llama", tokenizer=False)
    large = factory.write_hf(tmp_path / "large", "llama", tokenizer=False, vocab_size=416)
    cache = PackedCache(tmp_path, "abc", "int4", 32)
    load(small, cache, TorchOps)
    assert not load(large, cache, TorchOps).from_cache
    assert load(large, cache, TorchOps).from_cache


def test_an_unknown_form_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = factory.write_hf(tmp_path / "m", "llama", tokenizer=False)
    cache = PackedCache(tmp_path, "abc", "int4", 32)
    load(path, cache, TransposingOps)
    monkeypatch.setattr(TransposingOps, "restore", TorchOps.restore)
    assert not load(path, cache, TransposingOps).from_cache


def test_a_file_that_cannot_be_read_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = factory.write_hf(tmp_path / "m", "llama", tokenizer=False)
    cache = PackedCache(tmp_path, "abc", "int4", 32)
    load(path, cache, TorchOps)

    def broken(*_: object, **__: object) -> None:
        raise CheckpointError(path, "cannot be read")

    monkeypatch.setattr("quantchat.model.packed_file.PackedFile.read", broken)
    assert not load(path, cache, TorchOps).from_cache
