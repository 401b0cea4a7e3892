"""The lines of all meters, each under the key by which it is explained.

Owns what is drawn at which width; the figures come as a `Reading`. An unknown figure is "–".
"""

from __future__ import annotations

from dataclasses import dataclass

from textual.content import Content

from quantchat.events import MemoryUse, ModelInfo
from quantchat.tui import figures
from quantchat.tui.markup.palette import Palette
from quantchat.tui.reading import Reading
from quantchat.tui.widgets.memory_bar import memory_bar, parts_of, style_of

LABEL_CELLS = 14
UNKNOWN = "–"


@dataclass(frozen=True, slots=True)
class Meter:
    """Some lines; a key of "" stands for a heading or a gap."""

    key: str
    lines: tuple[Content, ...]


def meters(reading: Reading, width: int, palette: Palette) -> list[Meter]:
    """All meters from top to bottom, the most telling ones first."""
    drawn = _latency(reading, width, palette) + _context(reading, width, palette)
    if reading.memory is not None:
        on_card = reading.info is not None and reading.info.device == "cuda"
        drawn += _memory(reading.memory, width, palette, on_card=on_card)
    if reading.info is not None:
        drawn += _model(reading.info, width, palette)
    return drawn


def _latency(reading: Reading, width: int, palette: Palette) -> list[Meter]:
    kept, answered = reading.kept, reading.answered
    gaps = answered and kept["completion_tokens"] > 1

    def time(key: str, *, known: bool = True) -> str:
        return figures.duration(kept[key]) if known and key in kept else UNKNOWN

    ttft = [_value("TTFT", time("ttft_s", known=answered), palette)]
    if answered:
        parts = Content.styled(figures.ttft_parts(kept), palette.muted).wrap(width - 2)[:2]
        ttft += [Content("  ") + part for part in parts]
    itl = [
        _value("ITL p50", time("itl_p50_s", known=gaps), palette),
        _value("ITL p95", time("itl_p95_s", known=gaps), palette),
        _value("ITL max", time("itl_max_s", known=gaps), palette),
    ]
    if reading.recent_s:
        itl.append(
            Content.styled(figures.sparkline(reading.recent_s[-width:], width), palette.accent)
        )
    return [
        _heading("Latency", palette),
        Meter("ttft", tuple(ttft)),
        Meter("itl", tuple(itl)),
        GAP,
        _heading("Speed", palette),
        Meter("prefill", (_value("prefill", _speed(reading, "prefill_tok_per_s"), palette),)),
        Meter("decode", (_value("decode", _speed(reading, "decode_tok_per_s"), palette),)),
        Meter("bandwidth", _bandwidth(reading, palette)),
        Meter("energy", (_value("energy", _energy(reading), palette),)),
        GAP,
    ]


def _context(reading: Reading, width: int, palette: Palette) -> list[Meter]:
    now, most = reading.kept.get("context_tokens"), reading.kept.get("context_tokens_max")
    left = reading.tokens_left
    if not reading.answered or now is None or most is None or left is None:
        return [
            _heading("Context", palette),
            Meter("context", (_value("tokens", UNKNOWN, palette),)),
            GAP,
        ]
    share = now / max(1, most)
    full, empty = figures.bar(share, width)
    style = palette.primary if share < 0.8 else palette.warning if share < 0.95 else palette.error
    cached = int(reading.kept.get("cached_tokens", 0))
    reused = f", {figures.count(cached)} reused" if cached else ""
    said = f"{figures.count(int(now))} of {figures.count(int(most))} tokens{reused}"
    exchanges = reading.exchanges_left
    about = "" if exchanges is None else f", about {figures.count(exchanges)} exchanges"
    return [
        _heading("Context", palette),
        Meter(
            "context",
            (
                Content.assemble(Content.styled(full, style), empty).stylize_before(palette.user),
                _note(said, width, palette),
                _note(f"{figures.count(left)} left{about}", width, palette),
            ),
        ),
        GAP,
    ]


def _memory(memory: MemoryUse, width: int, palette: Palette, *, on_card: bool) -> list[Meter]:
    parts = parts_of(memory, on_card=on_card)
    whole = figures.size(memory.device_total_bytes)
    where = "card" if on_card else "main memory"
    legend = [
        Meter(
            part.key,
            (
                Content.assemble(
                    Content.styled(f"{part.fill} ", style_of(part.key, palette)),
                    _value(
                        part.name, figures.size(part.count_bytes), palette, cells=LABEL_CELLS - 2
                    ),
                ),
            ),
        )
        for part in parts
        if part.count_bytes
    ]
    return [
        Meter("", (Content.styled(f"Memory: {where}, {whole}", palette.heading),)),
        Meter("memory", (memory_bar(parts, width, palette),)),
        *legend,
        Meter("peak", (_value("peak", figures.size(memory.peak_bytes), palette),)),
        Meter("process", (_value("process", figures.size(memory.process_bytes), palette),)),
        GAP,
    ]


def _model(info: ModelInfo, width: int, palette: Palette) -> list[Meter]:
    text = (
        f"{figures.parameters(info.parameters)} parameters, {info.bits_per_weight:.2f} bits each, "
        f"{info.scheme_detail}, on {info.device_name}"
    )
    lines = Content.styled(text, palette.muted).wrap(width)[:5]
    return [_heading("Model", palette), Meter("model", tuple(lines))]


def _speed(reading: Reading, key: str) -> str:
    tok_per_s = reading.kept.get(key)
    return f"{figures.speed(tok_per_s)} tok/s" if tok_per_s else UNKNOWN


def _bandwidth(reading: Reading, palette: Palette) -> tuple[Content, ...]:
    achieved, best = reading.achieved_bytes_per_s, reading.device_bytes_per_s
    if achieved is None:
        return (_value("reads", UNKNOWN, palette),)
    reads = _value("reads", figures.gigabytes(achieved), palette)
    if not best:
        return (reads,)
    share = f"{100 * achieved / best:.0f} % of {figures.gigabytes(best)}"
    if achieved > best:
        share = f"above the {figures.gigabytes(best)} known"
    return reads, _value("", "", palette, share)


def _energy(reading: Reading) -> str:
    joules = reading.joules_per_token
    return UNKNOWN if joules is None else f"{figures.energy(joules)} a token"


GAP = Meter("", (Content(""),))


def _heading(text: str, palette: Palette) -> Meter:
    return Meter("", (Content.styled(text, palette.heading),))


def _note(text: str, width: int, palette: Palette) -> Content:
    return Content.styled(text, palette.muted).truncate(width, ellipsis=True)


def _value(
    label: str, value: str, palette: Palette, rest: str = "", *, cells: int = LABEL_CELLS
) -> Content:
    return Content.assemble(
        Content.styled(label.ljust(cells), palette.muted),
        Content.styled(value, palette.strong),
        Content.styled(rest, palette.muted),
    )
