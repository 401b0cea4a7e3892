"""Latency, speed, context and memory of the answer that runs or ran last.

Draws what the engine measured; owns no measurement. Names follow the serving field's.
"""

from __future__ import annotations

from textual.content import Content
from textual.geometry import Region
from textual.strip import Strip

from quantchat.events import MemoryUse, Metrics, ModelInfo
from quantchat.tui import figures
from quantchat.tui.markup.palette import Palette
from quantchat.tui.widgets.painted import Painted

LABEL_CELLS = 12


class MeterPanel(Painted):
    """All meters, one below the other."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._metrics: Metrics | None = None
        self._memory: MemoryUse | None = None
        self._info: ModelInfo | None = None
        self._lines: list[Content] = []

    def show(
        self, metrics: Metrics | None, memory: MemoryUse | None, info: ModelInfo | None
    ) -> None:
        """New figures; None where there are none yet. Only rows that changed are painted."""
        if (metrics, memory, info) == (self._metrics, self._memory, self._info):
            return
        self._metrics, self._memory, self._info = metrics, memory, info
        old, self._lines = self._lines, self._draw()
        for y in range(max(len(old), len(self._lines))):
            if y >= len(old) or y >= len(self._lines) or not old[y].is_same(self._lines[y]):
                self.refresh(Region(0, y, self.size.width, 1))

    def on_resize(self) -> None:
        """The bars fill the width."""
        self._lines = self._draw()
        self.refresh()

    def render_line(self, y: int) -> Strip:
        """One row."""
        width, base = self.size.width, self.palette.base
        line = self._lines[y] if y < len(self._lines) else Content("")
        strip = Strip(line.render_segments(base))
        return strip.adjust_cell_length(width, base.rich_style)

    def _repaint(self, _: object) -> None:
        super()._repaint(_)
        self._lines = self._draw()

    def _draw(self) -> list[Content]:
        palette, width = self.palette, max(20, self.size.width)
        lines = latency_lines(self._metrics, width, palette)
        lines += memory_lines(self._metrics, self._memory, width, palette)
        if self._info is not None:
            lines += model_lines(self._info, width, palette)
        return lines


class MeterLine(Painted):
    """The same in one line, for narrow terminals."""

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._line = Content("")
        self._figures: tuple[Metrics | None, MemoryUse | None] = (None, None)

    def show(self, metrics: Metrics | None, memory: MemoryUse | None) -> None:
        """New figures."""
        if (metrics, memory) != self._figures:
            self._figures = (metrics, memory)
            self.refresh()

    def render(self) -> Content:
        """The most important meters first."""
        return meter_line(*self._figures, self.size.width, self.palette)


def meter_line(
    metrics: Metrics | None, memory: MemoryUse | None, width: int, palette: Palette
) -> Content:
    """Meters as one line of at most `width` cells."""
    parts: list[tuple[str, str]] = []
    if metrics is not None and metrics.completion_tokens:
        parts += [
            ("decode", _per_second(metrics.decode_tok_per_s)),
            ("TTFT", figures.duration(metrics.ttft_s)),
            ("ITL", f"{figures.duration(metrics.itl_p50_s)}/{figures.duration(metrics.itl_p95_s)}"),
            ("ctx", f"{metrics.context_tokens}/{metrics.context_tokens_max}"),
        ]
    if memory is not None:
        parts += [
            ("weights", figures.size(memory.weight_bytes)),
            ("KV", figures.size(memory.kv_used_bytes)),
            ("peak", figures.size(memory.peak_bytes)),
        ]
    line = Content(" ")
    for name, value in parts:
        piece = Content.assemble(
            Content.styled(f"{name} ", palette.muted), Content.styled(value, palette.strong), "  "
        )
        if line.cell_length + piece.cell_length - 2 > width:
            break
        line += piece
    return line


def latency_lines(metrics: Metrics | None, width: int, palette: Palette) -> list[Content]:
    """TTFT with its parts, ITL with a sparkline, prefill and decode speed, context."""
    none = metrics is None or not metrics.completion_tokens
    if metrics is None or none:
        return [
            _heading("Latency", palette),
            _value("TTFT", "–", palette),
            _value("ITL p50", "–", palette),
            _value("ITL p95", "–", palette),
            Content(""),
            _heading("Speed", palette),
            _value("prefill", "–", palette),
            _value("decode", "–", palette),
            Content(""),
        ]
    spark = figures.sparkline(metrics.itl_recent_s, width)
    parts = Content.styled(figures.ttft_parts(metrics), palette.muted).wrap(width - 2)[:2]
    share = metrics.context_tokens / max(1, metrics.context_tokens_max)
    full, empty = figures.bar(share, width)
    style = palette.primary if share < 0.8 else palette.warning if share < 0.95 else palette.error
    tokens = (
        f"{figures.count(metrics.context_tokens)} of {figures.count(metrics.context_tokens_max)}"
    )
    cached = f", {figures.count(metrics.cached_tokens)} reused" if metrics.cached_tokens else ""
    return [
        _heading("Latency", palette),
        _value("TTFT", figures.duration(metrics.ttft_s), palette),
        *(Content("  ") + part for part in parts),
        _value("ITL p50", figures.duration(metrics.itl_p50_s), palette),
        _value("ITL p95", figures.duration(metrics.itl_p95_s), palette),
        Content.styled(spark, palette.accent),
        Content(""),
        _heading("Speed", palette),
        _value("prefill", _per_second(metrics.prefill_tok_per_s), palette),
        _value("decode", _per_second(metrics.decode_tok_per_s), palette),
        Content(""),
        _heading("Context", palette),
        Content.assemble(Content.styled(full, style), empty).stylize_before(palette.user),
        Content.styled(f"{tokens} tokens{cached}", palette.muted).truncate(width, ellipsis=True),
        Content(""),
    ]


def memory_lines(
    metrics: Metrics | None, memory: MemoryUse | None, width: int, palette: Palette
) -> list[Content]:
    """Who holds what, of this process and of the device."""
    if memory is None:
        return []
    used, reserved = figures.size(memory.kv_used_bytes), figures.size(memory.kv_reserved_bytes)
    free, total = figures.size(memory.device_free_bytes), figures.size(memory.device_total_bytes)
    return [
        _heading("Memory", palette),
        _value("weights", figures.size(memory.weight_bytes), palette),
        _value("KV cache", used, palette, f" of {reserved}"),
        _value("workspace", figures.size(memory.workspace_bytes), palette),
        _value("peak", figures.size(memory.peak_bytes), palette),
        _value("process", figures.size(memory.process_bytes), palette),
        _value("device free", free, palette, f" of {total}"),
        Content(""),
    ]


def model_lines(info: ModelInfo, width: int, palette: Palette) -> list[Content]:
    """The model in words."""
    text = (
        f"{figures.parameters(info.parameters)} parameters, {info.bits_per_weight:.2f} bits each, "
        f"{info.scheme_detail}, on {info.device_name}"
    )
    return [
        _heading("Model", palette),
        *Content.styled(text, palette.muted).wrap(width)[:5],
    ]


def _per_second(tok_per_s: float) -> str:
    return f"{figures.speed(tok_per_s)} tok/s" if tok_per_s else "–"


def _heading(text: str, palette: Palette) -> Content:
    return Content.styled(text, palette.heading)


def _value(label: str, value: str, palette: Palette, rest: str = "") -> Content:
    return Content.assemble(
        Content.styled(label.ljust(LABEL_CELLS), palette.muted),
        Content.styled(value, palette.strong),
        Content.styled(rest, palette.muted),
    )
