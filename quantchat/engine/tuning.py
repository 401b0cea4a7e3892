"""Linears of a new model are fitted to a card that nobody has measured them on, within seconds.

Runs in the engine's thread before a model's first step is captured: nothing else is on the card
then but the display's own work. Owns what is worth tuning, the bound and what is said meanwhile;
the search is `ops.tile_search`, the file `ops.tile_cache`.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import TypeAlias

from quantchat import paths
from quantchat.engine.device_errors import forget_frames, trouble_of
from quantchat.engine.memory import give_back, leave_capture
from quantchat.engine.model import LoadedModel
from quantchat.errors import Cancelled
from quantchat.events import LoadPhase
from quantchat.model.decoder import Decoder
from quantchat.ops.linear import LinearOp, StackedLinear
from quantchat.ops.linear_tiles import TileLinear
from quantchat.ops.tile_cache import CardKey, card_key, store_tiles
from quantchat.ops.tile_search import (
    LinearShape,
    Origin,
    Tile,
    Trial,
    candidates,
    install,
    on_trial,
    origin,
    search,
    tile_for,
)

logger = logging.getLogger(__name__)

BOUND_S = 8.0
"""Wall time of one tuning, the compiling of candidates included."""
SEVERAL_ROWS = 8
SHARE_FOR_SEVERAL = 0.4
"""Of the bound that must be left to begin with several rows: their step has to be compiled first."""
WORTH_BYTES = 256 << 20
"""Smaller models are bound by launches, whatever the tiles."""
SAMPLE_BYTES = 1 << 30
"""Layers timed: so many bytes that no cache holds them, or all layers."""

ORIGINS: Mapping[Origin, str] = MappingProxyType(
    {"measured": "measured here", "shipped": "shipped", "rule": "by rule"}
)

Report: TypeAlias = Callable[[LoadPhase, int, int, str], None]
Timer: TypeAlias = Callable[[], float]
MakeTimer: TypeAlias = Callable[[int, tuple[int, ...]], Timer]
"""Rows and the layers to time -> seconds of a step as launched now."""


def tune_tiles(model: LoadedModel, *, report: Report, cancelled: Callable[[], bool]) -> bool:
    """Find tiles for the model's linears where none are known; raises Cancelled, or a lost device.

    -> whether some were looked for. Whatever else goes wrong leaves the tiles as they are.
    """
    plan, device = model.plan, model.decoder.ops.device
    assert plan.graph, "tiles are those of captured steps"
    model.use_device()
    key = card_key(device)
    if not model.decoder.capturable or not worth_tuning(model.decoder, key.sm):
        return False

    def make_timer(rows: int, layers: tuple[int, ...]) -> Timer:
        from quantchat.engine.step_timer import StepTimer, shortened

        decoder, pool = shortened(model.decoder, model.pool, layers)
        return StepTimer(decoder, pool, rows=rows, context_tokens=plan.context_tokens).step_s

    try:
        Tuning(model.decoder, key, make_timer, report, cancelled).run()
    except Exception as error:
        trouble = trouble_of(error)
        if isinstance(error, Cancelled) or (trouble is not None and trouble.kind == "lost"):
            raise
        logger.warning("tiles are not tuned: %s", error, exc_info=trouble is None)
        forget_frames(error)
        leave_capture()
    # Graphs of other models may be alive: workspaces stay.
    give_back(workspaces=False)
    return True


def worth_tuning(decoder: Decoder, sm: int) -> bool:
    """Whether a linear of a large enough model runs by the rule alone, for single rows."""
    sizes = shape_bytes(decoder, one_row=True)
    return sum(sizes.values()) >= WORTH_BYTES and any(
        origin(shape, sm) == "rule" for shape in sizes
    )


def shape_bytes(decoder: Decoder, *, one_row: bool) -> dict[LinearShape, int]:
    """Bytes that a step reads by the shapes of its linears, the largest first."""
    sizes: dict[LinearShape, int] = {}
    ops = [*decoder.linears, decoder.head]
    for part in (part for op in ops for part in tile_parts(op)):
        shape = part.shape(one_row=one_row)
        sizes[shape] = sizes.get(shape, 0) + part.weight_bytes
    return dict(sorted(sizes.items(), key=lambda pair: -pair[1]))


def tile_parts(op: LinearOp) -> list[TileLinear]:
    """The linears of the tensor-core kernel in an op."""
    parts = op.parts if isinstance(op, StackedLinear) else [op]
    return [part for part in parts if isinstance(part, TileLinear)]


def tiles_in_words(decoder: Decoder) -> tuple[str, ...]:
    """How linears of single rows are launched on the decoder's card, and how that is known."""
    sm = card_key(decoder.ops.device).sm
    words = []
    for shape in shape_bytes(decoder, one_row=True):
        tile = tile_for(shape, sm)
        group = f" group {shape.group_size}" if shape.group_size else ""
        words.append(
            f"{shape.code}{group} {shape.outputs} x {shape.columns}: {tile.warps} warps, "
            f"{tile.blocks} blocks, {tile.programs} programs, {tile.stages} stages, "
            f"{ORIGINS[origin(shape, sm)]}"
        )
    return tuple(words)


def sampled_layers(decoder: Decoder) -> tuple[int, ...]:
    """Layers enough to be timed: all shapes, and more bytes than caches hold."""
    chosen: list[int] = []
    seen: set[LinearShape] = set()
    size = 0
    for i, layer in enumerate(decoder.every_layer):
        parts = [part for op in layer.linears for part in tile_parts(op)]
        shapes = {part.shape(one_row=True) for part in parts}
        if size < SAMPLE_BYTES or not shapes <= seen:
            chosen.append(i)
            seen |= shapes
            size += sum(part.weight_bytes for part in parts)
    return tuple(chosen)


@dataclass(slots=True)
class Tuning:
    """One search for one model."""

    decoder: Decoder
    key: CardKey
    make_timer: MakeTimer
    report: Report
    cancelled: Callable[[], bool]
    clock: Callable[[], float] = time.perf_counter
    _ends_s: float = 0.0
    _tried: int = 0
    _to_try: int = 0
    _detail: str = ""
    _layers: tuple[int, ...] = field(default=())

    def run(self) -> None:
        """Single rows first, then several where time is left; installs and stores what is found."""
        self._layers = sampled_layers(self.decoder)
        timer = self._warm_timer(1)
        self._ends_s = self.clock() + BOUND_S
        self._search(timer, one_row=True)
        if self._ends_s - self.clock() >= SHARE_FOR_SEVERAL * BOUND_S:
            self._search(self._warm_timer(SEVERAL_ROWS), one_row=False)

    def _warm_timer(self, rows: int) -> Timer:
        """A timer whose kernels are compiled, which the model's own first step needs as well."""
        self._check()
        timer = self.make_timer(rows, self._layers)
        timer()
        return timer

    def _search(self, timer: Timer, *, one_row: bool) -> None:
        sm = self.key.sm
        shapes = shape_bytes(self.decoder, one_row=one_row)
        unknown = {s: tile_for(s, sm) for s in shapes if origin(s, sm) == "rule"}
        self._tried = 0
        self._to_try = sum(len(candidates(shape, sm)) - 1 for shape in unknown)
        self._detail = "one row" if one_row else f"{SEVERAL_ROWS} rows"

        def step_s(tiles: Mapping[LinearShape, Tile]) -> float:
            with on_trial(tiles):
                return timer()

        found = search(
            unknown,
            Trial(
                step_s=step_s,
                runs_not=_runs_not,
                candidates=lambda shape: candidates(shape, sm),
                out_of_time=lambda: self.clock() >= self._ends_s,
                tried=self._say,
            ),
        )
        known = {shape: tile for shape, tile in found.tiles.items() if shape in found.finished}
        for shape, tile in known.items():
            logger.info("tuned %s: %s, was %s", shape, tile, unknown[shape])
        install(sm, known)
        if known:
            store_tiles(self.key, paths.tiles_dir(), known)

    def _say(self, shape: LinearShape) -> None:
        """Progress: candidates or time, whichever is further."""
        self._check()
        spent = 1 - (self._ends_s - self.clock()) / BOUND_S
        share = max(self._tried / max(1, self._to_try), spent)
        self._tried += 1
        detail = f"{shape.code} {shape.outputs} x {shape.columns}, {self._detail}"
        self.report("tune", min(99, int(100 * share)), 100, detail)

    def _check(self) -> None:
        if self.cancelled():
            raise Cancelled("loading was stopped")


def _runs_not(error: Exception) -> bool:
    """Too many registers, say, or refused by the compiler; not a card that is lost or full."""
    if isinstance(error, Cancelled | AssertionError):
        return False
    trouble = trouble_of(error)
    return trouble is None or trouble.kind == "failed"
