"""Tuning of a loaded model, with a clock and step times of our own making."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
import torch

pytest.importorskip("triton")

from quantchat.kernels.linear.launch import RowWeight
from quantchat.kernels.linear.tiles import forget_installed

from quantchat import paths
from quantchat.engine import tuning
from quantchat.engine.load_job import LoadJob
from quantchat.engine.tuning import Tuning, sampled_layers, shape_bytes, worth_tuning
from quantchat.errors import Cancelled
from quantchat.events import Event, LoadPhase, LoadProgress
from quantchat.model.decoder import Decoder
from quantchat.ops.linear import DenseLinear, LinearOp, StackedLinear
from quantchat.ops.linear_tiles import TileLinear
from quantchat.ops.tile_cache import CardKey, read_tiles
from quantchat.ops.tile_search import LinearShape, Tile, candidates, origin, tile_for
from quantchat.requests import LoadRequest

KEY = CardKey(card="NVIDIA GeForce RTX 4090", sm=89, triton="3.6.0")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("QUANTCHAT_HOME", str(tmp_path))
    monkeypatch.setattr(tuning, "WORTH_BYTES", 1)
    forget_installed()
    yield
    forget_installed()


def linear(n: int, k: int, *, gated: bool = False) -> TileLinear:
    weight = RowWeight(codes=torch.zeros(n, k, dtype=torch.int8), scale=torch.ones(n))
    return TileLinear(weight, None, gated=gated, many=None, dependent=False)


def decoder(layers: int = 3, *, odd: int = -1) -> Decoder:
    """Linears of small models; the layer `odd` has a down of its own kind."""

    def layer(i: int) -> SimpleNamespace:
        down = linear(64, 96)
        if i == odd:
            down = TileLinear(
                RowWeight(codes=torch.zeros(64, 96, dtype=torch.float16), scale=None),
                None,
                gated=False,
                many=None,
                dependent=False,
            )
        qkv: LinearOp = StackedLinear([linear(64, 64), linear(32, 64), linear(32, 64)])
        return SimpleNamespace(linears=(qkv, linear(64, 64), linear(192, 64, gated=True), down))

    made = tuple(layer(i) for i in range(layers))
    return cast(
        Decoder,
        SimpleNamespace(
            every_layer=made,
            linears=tuple(op for each in made for op in each.linears),
            head=DenseLinear(torch.zeros(500, 64), None),
        ),
    )


@dataclass
class Bench:
    """Steps on a machine where the third candidate of every shape is the best."""

    model: Decoder
    clock_s: float = 0.0
    timing_s: float = 0.05
    compile_s: float = 0.0
    seen: set[Tile] = field(default_factory=set)
    timers: list[tuple[int, tuple[int, ...]]] = field(default_factory=list)

    def make_timer(self, rows: int, layers: tuple[int, ...]) -> Callable[[], float]:
        self.timers.append((rows, layers))

        def step_s() -> float:
            self.clock_s += self.timing_s
            total = 1.0
            for shape in shape_bytes(self.model, one_row=rows == 1):
                tile = tile_for(shape, KEY.sm)
                if tile not in self.seen:
                    self.seen.add(tile)
                    self.clock_s += self.compile_s
                total += 0.5 if tile == best(shape) else 1.0
            return total

        return step_s

    def tune(
        self,
        report: Callable[[LoadPhase, int, int, str], None] = lambda *words: None,
        cancelled: Callable[[], bool] = lambda: False,
    ) -> None:
        Tuning(
            self.model, KEY, self.make_timer, report, cancelled, clock=lambda: self.clock_s
        ).run()


def best(shape: LinearShape) -> Tile:
    tiles = candidates(shape, KEY.sm)
    return tiles[min(2, len(tiles) - 1)]


def test_tuned_tiles_are_taken_at_once_and_by_the_next_start() -> None:
    bench = Bench(decoder())
    assert worth_tuning(bench.model, KEY.sm)
    bench.tune()
    assert [rows for rows, _ in bench.timers] == [1, 8]
    stored = read_tiles(KEY, paths.tiles_dir())
    for one_row in (True, False):
        for shape in shape_bytes(bench.model, one_row=one_row):
            assert tile_for(shape, KEY.sm) == stored[shape] == best(shape)
            assert origin(shape, KEY.sm) == "measured"
    assert not worth_tuning(bench.model, KEY.sm)


def test_the_bound_holds_whatever_a_compiler_takes() -> None:
    bench = Bench(decoder(), compile_s=1.5)
    bench.tune()
    assert bench.clock_s <= 2 * bench.compile_s + tuning.BOUND_S + 2 * bench.compile_s
    assert [rows for rows, _ in bench.timers] == [1]
    slow = Bench(decoder(), timing_s=5.0)
    forget_installed()
    slow.tune()
    assert slow.clock_s <= tuning.BOUND_S + 3 * slow.timing_s


def test_progress_is_told_by_name_and_never_goes_back() -> None:
    events: list[Event] = []
    job = LoadJob(1, LoadRequest(model="m"), events.append)
    told: list[int] = []

    def report(phase: LoadPhase, done: int, total: int, detail: str) -> None:
        told.append(done)
        job.report(phase, done, total, detail)

    bench = Bench(decoder())
    bench.tune(report)
    one_row = told[: len(told) // 2]
    assert one_row == sorted(one_row) and min(told) >= 0 and max(told) < 100
    first = events[0]
    assert isinstance(first, LoadProgress)
    assert (first.phase, first.total) == ("tune", 100)
    assert first.detail == "int8 192 x 64, one row"
    assert [name for name, _ in job.phases()] == ["tune"]


def test_the_app_has_words_for_it() -> None:
    from quantchat.tui.control.status import load_text

    progress = LoadProgress(
        slot="main", load_id=1, phase="tune", done=40, total=100, detail="int8", time_s=0.0
    )
    assert load_text(progress) == ("tuning kernels for this card, once · int8", 0.4)


def test_cancelling_ends_it_between_two_timings_and_keeps_nothing() -> None:
    bench = Bench(decoder())
    stop = threading.Event()

    def report(phase: LoadPhase, done: int, total: int, detail: str) -> None:
        if len(bench.seen) > 1:
            stop.set()

    with pytest.raises(Cancelled):
        bench.tune(report, stop.is_set)
    assert read_tiles(KEY, paths.tiles_dir()) == {}
    assert worth_tuning(bench.model, KEY.sm)
    with pytest.raises(Cancelled):
        bench.tune(cancelled=lambda: True)


def test_what_is_known_or_small_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(decoder())
    monkeypatch.setattr(tuning, "WORTH_BYTES", 1 << 40)
    assert not worth_tuning(bench.model, KEY.sm)
    plain = cast(Decoder, SimpleNamespace(linears=(), head=DenseLinear(torch.zeros(8, 8), None)))
    monkeypatch.setattr(tuning, "WORTH_BYTES", 0)
    assert not worth_tuning(plain, KEY.sm)


def test_only_as_many_layers_are_timed_as_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    assert sampled_layers(decoder(4)) == (0, 1, 2, 3)
    monkeypatch.setattr(tuning, "SAMPLE_BYTES", 1)
    assert sampled_layers(decoder(4)) == (0,)
    assert sampled_layers(decoder(6, odd=4)) == (0, 4)


def test_shapes_come_by_their_bytes_and_parts_of_a_stack_count() -> None:
    sizes = shape_bytes(decoder(2), one_row=True)
    assert [(shape.outputs, shape.columns, shape.gated) for shape in sizes] == [
        (192, 64, True),
        (64, 64, False),
        (64, 96, False),
        (32, 64, False),
    ]
    assert sizes[next(iter(sizes))] == 2 * (192 * 64 + 192 * 4)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_a_shortened_model_runs_on_the_same_memory(family: str, tmp_path: Path) -> None:
    import factory
    from decoders import batch_of, float32_decoder, make_pool

    from quantchat.engine.step_timer import shortened

    whole = float32_decoder(factory.write_hf(tmp_path / "m", family), context_tokens=64)
    pool = make_pool(whole, pages=8, page_tokens=16)
    last = len(whole.every_layer) - 1
    short, short_pool = shortened(whole, pool, (last,))
    assert short.every_layer == (whole.every_layer[last],) and short.head is whole.head
    assert short_pool.layers[0].k.data_ptr() == pool.layers[last].k.data_ptr()
    assert len(pool.layers) == len(whole.every_layer) > 1
    batch = batch_of(short_pool, [([3, 4, 5], 0, 3, [1])])
    assert short.forward(batch, short_pool).isfinite().all()
    assert pool.layers[last].k[1, :3].isfinite().all()
    assert not pool.layers[0].k[1, :3].isfinite().any()
