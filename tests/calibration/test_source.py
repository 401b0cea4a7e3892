"""What calibration makes reaches the decoder: matrices, norms, table; from the disk the next time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import factory
import pytest
import torch
from decoders import logits_in_chunks, make_pool
from memory_models import CPU, FAMILIES, TINY, memory_source, recipe_of

from quantchat.calibration.forward import Taps
from quantchat.calibration.layer import LINEARS, DenseLayer
from quantchat.calibration.method import Ending, ForwardMethod, LayerResult, matrices_of
from quantchat.calibration.methods import method_of
from quantchat.calibration.settings import CalibrationSettings
from quantchat.calibration.source import CalibratedSource
from quantchat.calibration.walk import LayerWalk
from quantchat.engine import loading
from quantchat.engine.loading import SharedDecoders, load_model
from quantchat.errors import Cancelled, UsageError
from quantchat.hardware.memory import SAMPLER_BYTES
from quantchat.model.families import ModelSource
from quantchat.model.loader import LoadedDecoder, Phase, load_decoder
from quantchat.model.packed_cache import PackedCache
from quantchat.ops.torch_ops import TorchOps
from quantchat.quant.registry import SCHEMES
from quantchat.quant.tensor import DenseWeight
from quantchat.requests import LoadRequest

IDS = torch.randint(TINY.vocab, (4, 16), generator=torch.Generator().manual_seed(5))
CALIBRATED = [name for name, scheme in SCHEMES.items() if scheme.calibration != "none"]


def load(
    source: ModelSource,
    scheme: str,
    method: Callable[[LayerWalk], object] | None = None,
    cache: PackedCache | None = None,
    cancelled: Callable[[], bool] = lambda: False,
    phases: list[Phase] | None = None,
) -> LoadedDecoder:
    recipe = recipe_of(scheme, 32 if SCHEMES[scheme].group_sizes else 0)

    def on_progress(phase: Phase, done: int, total: int) -> None:
        assert 0 <= done <= total
        if phases is not None and phase not in phases:
            phases.append(phase)

    return load_decoder(
        source,
        TorchOps(source.spec, device=CPU, dtype=torch.float32),
        recipe,
        context_tokens=16,
        cache=cache,
        made=CalibratedSource(
            source,
            recipe,
            method or method_of(recipe),
            lambda: IDS,
            dtype=torch.float32,
            memory_bytes=1 << 28,
            cancelled=cancelled,
        ),
        on_progress=on_progress,
        cancelled=cancelled,
    )


def logits(loaded: LoadedDecoder) -> torch.Tensor:
    pool = make_pool(loaded.decoder, pages=5, page_tokens=4)
    return logits_in_chunks(loaded.decoder, pool, IDS[0].tolist(), [1, 2, 3, 4], [16])


def dense_logits(source: ModelSource) -> torch.Tensor:
    loaded = load_decoder(
        source,
        TorchOps(source.spec, device=CPU, dtype=torch.float32),
        recipe_of("fp16"),
        context_tokens=16,
        cache=None,
        on_progress=lambda phase, done, total: None,
        cancelled=lambda: False,
    )
    return logits(loaded)


@pytest.mark.parametrize("scheme", CALIBRATED)
@pytest.mark.parametrize("family", ["biases", "head norms"])
def test_near_the_dense_model_and_kept(family: str, scheme: str, tmp_path: Path) -> None:
    source = memory_source(FAMILIES[family])
    cache = PackedCache(tmp_path, "abc", scheme, 32, "key")
    phases: list[Phase] = []
    first = load(source, scheme, cache=cache, phases=phases)
    assert phases == ["calibrate"] and not first.from_cache
    wanted, got = dense_logits(source), logits(first)
    assert float((got - wanted).norm() / wanted.norm()) < (0.6 if "-3" in scheme else 0.3)
    phases.clear()
    second = load(source, scheme, method=refuse, cache=cache, phases=phases)
    assert phases == ["read"] and second.from_cache
    assert torch.equal(logits(second), got)
    assert second.decoder.weight_bytes == first.decoder.weight_bytes
    assert not load(source, scheme, cache=PackedCache(tmp_path, "abc", scheme, 32)).from_cache


def refuse(walk: LayerWalk) -> object:
    raise AssertionError("calibrated again")


class Untied(ForwardMethod):
    """Doubles the stream: embedding and outputs twice as large, the head's norm as it was."""

    def enter(self, walk: LayerWalk) -> torch.Tensor:
        return walk.hidden * 2

    @torch.no_grad()
    def calibrate_layer(self, index: int, layer: DenseLayer, taps: Taps) -> LayerResult:
        double = layer.with_weights({"o": layer.o * 2, "down": layer.down * 2})
        stored = {
            part: DenseWeight(double.weight(part)) for parts in LINEARS.values() for part in parts
        }
        return LayerResult(matrices_of(index, double, stored), {}, double)

    def ending(self, walk: LayerWalk) -> Ending:
        table = walk.reader.weight("embed", "dense").dequantize(torch.float32)
        norm = walk.reader.vector("final_norm")
        return Ending(
            head=DenseWeight(table / 2),
            table=DenseWeight(table * 2),
            vectors={"final_norm": norm * 2},
        )


def test_a_tied_table_may_part_from_its_head(tmp_path: Path) -> None:
    source = memory_source(TINY)
    cache = PackedCache(tmp_path, "abc", "awq", 32)
    loaded = load(source, "awq", method=lambda walk: Untied(), cache=cache)
    torch.testing.assert_close(logits(loaded), dense_logits(source), rtol=1e-3, atol=2e-3)
    again = load(source, "awq", method=refuse, cache=cache)
    assert again.from_cache and torch.equal(logits(again), logits(loaded))
    both = 2 * TINY.vocab * TINY.hidden * 4
    assert loaded.decoder.weight_bytes == again.decoder.weight_bytes
    assert loaded.decoder.weight_bytes == both + 4 * TINY.linear_parameters


@pytest.mark.parametrize("scheme", CALIBRATED)
def test_cancelled_anywhere_leaves_nothing(scheme: str, tmp_path: Path) -> None:
    source = memory_source(TINY)
    asked = 0

    def count() -> bool:
        nonlocal asked
        asked += 1
        return False

    load(source, scheme, cancelled=count)
    assert asked > 10
    for limit in range(1, asked, max(1, asked // 7)):
        left = limit

        def stop() -> bool:
            nonlocal left
            left -= 1
            return left < 0

        with pytest.raises(Cancelled):
            load(
                source,
                scheme,
                cache=PackedCache(tmp_path, "abc", scheme, 32),
                cancelled=stop,
            )
        assert not list(tmp_path.iterdir())


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.setenv("QUANTCHAT_HOME", str(tmp_path / "home"))
    # Text is as long as the context.
    yield factory.write_hf(tmp_path / "m", "qwen2", max_position_embeddings=64)


def phases_of(request: LoadRequest) -> tuple[list[str], str]:
    told: list[str] = []

    def report(phase: str, done: int, total: int, detail: str) -> None:
        if phase not in told:
            told.append(phase)

    model = load_model(request, report, lambda: False, SharedDecoders.empty())
    return told, model.info.scheme


def test_the_engine_calibrates_once(folder: Path, tmp_path: Path) -> None:
    request = LoadRequest(model=str(folder), scheme="awq", device="cpu")
    first = phases_of(request)
    assert first == (["read", "sample", "calibrate", "warm"], "awq")
    assert phases_of(request) == (["read", "warm"], "awq")
    # Another scheme takes the text from before.
    other = phases_of(LoadRequest(model=str(folder), scheme="smoothquant", device="cpu"))
    assert other[0] == first[0]
    assert len(list((tmp_path / "home" / "cache" / "calibration").iterdir())) == 1


def test_the_engine_takes_a_text(folder: Path, tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("The sky is blue because air scatters short waves of light. " * 100)
    request = LoadRequest(model=str(folder), scheme="awq", device="cpu", calibration_file=str(text))
    assert "calibrate" in phases_of(request)[0]
    assert "calibrate" not in phases_of(request)[0]
    own = LoadRequest(model=str(folder), scheme="awq", device="cpu")
    assert "calibrate" in phases_of(own)[0]
    text.write_text("Too short.")
    with pytest.raises(UsageError, match="shorter than one sequence"):
        phases_of(request)


def test_text_is_written_beside_a_card_that_is_too_small(monkeypatch: pytest.MonkeyPatch) -> None:
    card = torch.device("cuda", 0)
    ops = TorchOps(TINY, device=card, dtype=torch.float16)
    settings = CalibrationSettings()
    monkeypatch.setattr(loading, "free_bytes", lambda device: 1 << 30)
    assert loading._sampler(TINY, ops, settings) == (card, torch.float16)
    monkeypatch.setattr(loading, "free_bytes", lambda device: SAMPLER_BYTES)
    assert loading._sampler(TINY, ops, settings) == (CPU, torch.bfloat16)
    slow = TorchOps(TINY, device=CPU, dtype=torch.float32)
    assert loading._sampler(TINY, slow, settings) == (CPU, torch.float32)
