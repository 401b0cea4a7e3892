"""Numbers as people read them: bytes, seconds, speeds, bars and sparklines."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import PurePath

from quantchat.events import FinishReason, Metrics, ModelInfo
from quantchat.sizes import size_words
from quantchat.store.records import Figures

EIGHTHS = " ▏▎▍▌▋▊▉█"
STEPS = "▁▂▃▄▅▆▇█"
ENDINGS: Mapping[FinishReason, str] = {
    "stop": "",
    "length": "reached the longest answer",
    "context": "context full",
    "cancelled": "stopped",
}


size = size_words
"""Bytes in MiB or GiB, three digits."""


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


def time_left(seconds: float) -> str:
    """A guess: whole seconds, then minutes, then hours."""
    whole = max(1, round(seconds))
    if whole < 100:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    if minutes < 100:
        return f"{minutes}:{rest:02d} min"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def speed(per_s: float) -> str:
    """A speed in its unit, three digits: the unit is said elsewhere."""
    return f"{per_s:.1f}" if per_s < 100 else f"{per_s:,.0f}"


def count(number: int) -> str:
    """A whole number with thousands apart."""
    return f"{number:,}"


def short_count(number: int) -> str:
    """A whole number in three digits: 812, 12.3k, 1.2M."""
    for unit, scale in (("M", 10**6), ("k", 10**3)):
        if number >= scale:
            value = number / scale
            return f"{value:.1f}{unit}" if value < 100 else f"{value:.0f}{unit}"
    return str(number)


def divergence(nats: float) -> str:
    """A KL divergence in nats, three digits: 0.0123, 1.2e-5."""
    if 0 < nats < 0.001:
        return f"{nats:.0e}".replace("e-0", "e-")
    return f"{nats:.4f}" if nats < 1 else f"{nats:.2f}"


def parameters(number: int) -> str:
    """Parameters as 135M or 8.03B."""
    for unit, scale in (("B", 10**9), ("M", 10**6)):
        if number >= scale * 0.9995:
            value = number / scale
            return f"{value:.3g}{unit}" if value < 999.5 else f"{value:,.0f}{unit}"
    return f"{number / 1e3:.3g}k" if number else ""


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


def gigabytes(bytes_per_s: float) -> str:
    """A bandwidth in GB/s, as data sheets have it."""
    value = bytes_per_s / 1e9
    return f"{value:.1f} GB/s" if value < 100 else f"{value:,.0f} GB/s"


def energy(joules: float) -> str:
    """Joules, three digits."""
    if joules < 1:
        return f"{joules * 1e3:.0f} mJ"
    return f"{joules:.2f} J" if joules < 10 else f"{joules:.1f} J"


TTFT_PARTS: tuple[tuple[str, str], ...] = (
    ("queue", "queue_s"),
    ("template", "template_s"),
    ("prefill", "prefill_s"),
    ("sample", "first_sample_s"),
)
"""Parts of the time to first token in the order they come, and where they are kept."""


def ttft_parts(kept_figures: Figures) -> str:
    """Where the time to first token went; parts below 2 % of it are left out."""
    least_s = 0.02 * kept_figures.get("ttft_s", 0.0)
    shown = [
        f"{name} {duration(kept_figures[key])}"
        for name, key in TTFT_PARTS
        if kept_figures.get(key, 0.0) > least_s
    ]
    return " · ".join(part.replace(" ", "\N{NO-BREAK SPACE}") for part in shown)


def tokens(number: int) -> str:
    """How many tokens."""
    return f"{count(number)} {'token' if number == 1 else 'tokens'}"


def answer_line(metrics: Figures, ending: str = "") -> str:
    """The figures below an answer, from what the store keeps of it."""
    parts = []
    if "completion_tokens" in metrics:
        parts.append(tokens(int(metrics["completion_tokens"])))
    if metrics.get("decode_tok_per_s"):
        parts.append(f"{speed(metrics['decode_tok_per_s'])} tok/s")
    if metrics.get("ttft_s"):
        parts.append(f"TTFT {duration(metrics['ttft_s'])}")
    if ending:
        parts.append(ending)
    return " · ".join(parts)


def kept(metrics: Metrics, info: ModelInfo | None = None) -> dict[str, float | int]:
    """What the store keeps of an answer's metrics; what is not known is left out."""
    figures: dict[str, float | int] = {
        "ttft_s": metrics.ttft_s,
        "queue_s": metrics.queue_s,
        "template_s": metrics.template_s,
        "prefill_s": metrics.prefill_s,
        "first_sample_s": metrics.first_sample_s,
        "prefill_tok_per_s": metrics.prefill_tok_per_s,
        "decode_tok_per_s": metrics.decode_tok_per_s,
        "itl_p50_s": metrics.itl_p50_s,
        "itl_p95_s": metrics.itl_p95_s,
        "itl_max_s": metrics.itl_max_s,
        "prompt_tokens": metrics.prompt_tokens,
        "cached_tokens": metrics.cached_tokens,
        "completion_tokens": metrics.completion_tokens,
        "context_tokens": metrics.context_tokens,
        "context_tokens_max": metrics.context_tokens_max,
        "read_bytes_per_token": metrics.read_bytes_per_token,
        "e2e_s": metrics.e2e_s,
    }
    if metrics.decode_joules is not None:
        figures["decode_joules"] = metrics.decode_joules
    if info is not None:
        figures["kv_bytes_per_token"] = info.kv_bytes_per_token
        if info.read_bytes_per_s is not None:
            figures["read_bytes_per_s"] = info.read_bytes_per_s
    return figures


def model_name(name: str) -> str:
    """A model as labels show it: the file where a path, or one of a repository, was named."""
    if name.startswith(("/", "./", "../", "~")) or "\\" in name:
        name = PurePath(name).name
    elif name.endswith(".gguf") and ":" in name:
        name = PurePath(name.partition(":")[2]).name
    return name.removesuffix(".gguf")
