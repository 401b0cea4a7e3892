"""Numbers as people read them: bytes, seconds, speeds, bars and sparklines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath

from quantchat.events import FinishReason, Metrics

EIGHTHS = " ▏▎▍▌▋▊▉█"
STEPS = "▁▂▃▄▅▆▇█"
ENDINGS: Mapping[FinishReason, str] = {
    "stop": "",
    "length": "reached the longest answer",
    "context": "context full",
    "cancelled": "stopped",
}


def size(count_bytes: float) -> str:
    """Bytes in MiB or GiB, three digits."""
    for unit, scale in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if count_bytes >= scale * 0.995:
            value = count_bytes / scale
            return f"{value:.2f} {unit}" if value < 10 else f"{value:.{value < 100:d}f} {unit}"
    return f"{count_bytes:.0f} B"


def duration(seconds: float) -> str:
    """Milliseconds below a second, then seconds, then minutes."""
    if seconds < 0.01:
        return f"{seconds * 1e3:.1f} ms"
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 100:
        return f"{seconds:.2f} s" if seconds < 10 else f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02d} min"


def speed(per_s: float) -> str:
    """A speed in its unit, three digits: the unit is said elsewhere."""
    return f"{per_s:.1f}" if per_s < 100 else f"{per_s:,.0f}"


def count(number: int) -> str:
    """A whole number with thousands apart."""
    return f"{number:,}"


def divergence(nats: float) -> str:
    """A KL divergence in nats, three digits: 0.0123, 1.2e-5."""
    if 0 < nats < 0.001:
        return f"{nats:.0e}".replace("e-0", "e-")
    return f"{nats:.4f}" if nats < 1 else f"{nats:.2f}"


def parameters(number: int) -> str:
    """Parameters as 135M or 8.03B."""
    if number >= 10**9:
        return f"{number / 1e9:.3g}B"
    return f"{number / 1e6:.3g}M" if number else ""


def bar(share: float, cells: int) -> tuple[str, str]:
    """The full and the empty part of a bar."""
    eighths = round(max(0.0, min(1.0, share)) * cells * 8)
    full, rest = divmod(eighths, 8)
    text = "█" * full + (EIGHTHS[rest] if rest else "")
    return text, " " * (cells - len(text))


def sparkline(values: Sequence[float], cells: int) -> str:
    """The last values as blocks from 0 to the largest; several values share a cell by maximum."""
    if not values or cells < 1:
        return ""
    per_cell = max(1, -(-len(values) // cells))
    groups = [max(values[at : at + per_cell]) for at in range(0, len(values), per_cell)]
    top = max(groups) or 1.0
    return "".join(STEPS[min(7, int(value / top * 7.999))] for value in groups)


def ttft_parts(metrics: Metrics) -> str:
    """Where the time to first token went; parts below 2 % of it are left out."""
    parts = (
        ("queue", metrics.queue_s),
        ("template", metrics.template_s),
        ("prefill", metrics.prefill_s),
        ("sample", metrics.first_sample_s),
    )
    least_s = 0.02 * metrics.ttft_s
    shown = [f"{name} {duration(seconds)}" for name, seconds in parts if seconds > least_s]
    return " · ".join(part.replace(" ", "\N{NO-BREAK SPACE}") for part in shown)


def answer_line(metrics: Mapping[str, float | int], ending: str = "") -> str:
    """The figures below an answer, from what the store keeps of it."""
    parts = []
    if "completion_tokens" in metrics:
        parts.append(f"{count(int(metrics['completion_tokens']))} tokens")
    if metrics.get("decode_tok_per_s"):
        parts.append(f"{speed(metrics['decode_tok_per_s'])} tok/s")
    if metrics.get("ttft_s"):
        parts.append(f"TTFT {duration(metrics['ttft_s'])}")
    if ending:
        parts.append(ending)
    return " · ".join(parts)


def kept(metrics: Metrics) -> dict[str, float | int]:
    """What the store keeps of an answer's metrics."""
    return {
        "ttft_s": metrics.ttft_s,
        "prefill_tok_per_s": metrics.prefill_tok_per_s,
        "decode_tok_per_s": metrics.decode_tok_per_s,
        "itl_p50_s": metrics.itl_p50_s,
        "itl_p95_s": metrics.itl_p95_s,
        "prompt_tokens": metrics.prompt_tokens,
        "cached_tokens": metrics.cached_tokens,
        "completion_tokens": metrics.completion_tokens,
        "e2e_s": metrics.e2e_s,
    }


def model_name(name: str) -> str:
    """A model as labels show it: the file or folder where it was named by its path."""
    if name.startswith(("/", "./", "../", "~")) or "\\" in name:
        name = PurePath(name).name
    return name.removesuffix(".gguf")
