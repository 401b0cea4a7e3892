"""GPU kernels, checked and then timed: `python -m quantchat.bench.kernels`.

Gate first (kernel_gate.py), then the read ceiling of the card, then the linears of a model's
shape in int4, int8 and 16 bits, each rotating over more weights than the cache holds, inside a
CUDA graph. The last line of stdout is one JSON object. Not a record of whole decode steps.
"""

from __future__ import annotations

import json
import statistics
import sys
from collections.abc import Callable
from dataclasses import asdict, dataclass

import torch

from quantchat.bench.attention_gate import Heads, make_step
from quantchat.bench.kernel_gate import cases, int4_weights, int8_weights
from quantchat.kernels.rope_append.formats import FORMATS, PARAMS, KvFormat, stored_width

SHAPES = {
    "qkv": (6144, 4096),
    "o": (4096, 4096),
    "gate_up": (28672, 4096),
    "down": (4096, 14336),
    "head": (128256, 4096),
}
"""Llama-3.1-8B: outputs and columns of each linear."""
LAYERS = 32
_ROTATION_BYTES = 400 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Timing:
    """One kernel on one shape."""

    kernel: str
    shape: str
    rows: int
    dtype: str
    time_us: float
    read_gb_per_s: float


def graph_time_s(
    launches: list[Callable[[], object]], *, repeats: int = 3, replays: int = 15
) -> float:
    """Median seconds of one launch, the launches captured in turn in one graph."""
    for launch in launches:
        launch()
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(repeats):
            for launch in launches:
                launch()
    times_ms: list[float] = []
    for _ in range(replays + 2):
        start, stop = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        start.record()
        graph.replay()
        stop.record()
        stop.synchronize()
        times_ms.append(start.elapsed_time(stop))
    return statistics.median(times_ms[2:]) / 1e3 / (repeats * len(launches))


def read_ceiling_gb_per_s(device: torch.device) -> float:
    """Bytes per second of a reduction over 4 GiB of random data."""
    data = torch.empty(1 << 30, dtype=torch.int32, device=device).random_()
    seconds = graph_time_s([lambda: torch.max(data)], repeats=1)
    return data.numel() * 4 / seconds / 1e9


def time_linears(
    device: torch.device, dtype: torch.dtype, rows: int, *, group: int = 128
) -> list[Timing]:
    """int4, int8 and 16-bit linears of every shape, in microseconds."""
    from quantchat.kernels.w8a16 import gemv as w8
    from quantchat.kernels.wna16 import gemv as w4

    found = []
    for shape, (outputs, columns) in SHAPES.items():
        x = torch.randn(rows, columns, device=device).to(dtype)
        out = torch.empty(rows, outputs, dtype=dtype, device=device)
        size = outputs * columns

        def int4_set(n: int = outputs, k: int = columns) -> tuple[torch.Tensor, ...]:
            return int4_weights(n, k, group, device)

        def int8_set(n: int = outputs, k: int = columns) -> tuple[torch.Tensor, ...]:
            return int8_weights(n, k, device)

        def dense_set(n: int = outputs, k: int = columns) -> tuple[torch.Tensor, ...]:
            return ((torch.randn(n, k, device=device, dtype=dtype) * 0.02),)

        def int4_launch(parts: tuple[torch.Tensor, ...], a=x, b=out) -> object:  # type: ignore[no-untyped-def]
            return w4.gemv(a, parts[0], parts[1], parts[2], group_size=group, out=b)

        def int8_launch(parts: tuple[torch.Tensor, ...], a=x, b=out) -> object:  # type: ignore[no-untyped-def]
            return w8.gemv(a, parts[0], parts[1], out=b)

        def dense_launch(parts: tuple[torch.Tensor, ...], a=x) -> object:  # type: ignore[no-untyped-def]
            return torch.nn.functional.linear(a, parts[0])

        kinds = (
            ("int4", size // 2 + size // group * 4, int4_set, int4_launch),
            ("int8", size + outputs * 4, int8_set, int8_launch),
            ("dense", size * 2, dense_set, dense_launch),
        )
        for kernel, read_bytes, make, launch in kinds:
            sets = [make() for _ in range(max(2, -(-_ROTATION_BYTES // read_bytes)))]
            seconds = graph_time_s([lambda p=parts, f=launch: f(p) for parts in sets])  # type: ignore[misc]
            found.append(
                Timing(
                    kernel=kernel,
                    shape=shape,
                    rows=rows,
                    dtype=str(dtype).removeprefix("torch."),
                    time_us=seconds * 1e6,
                    read_gb_per_s=read_bytes / seconds / 1e9,
                )
            )
            del sets
    return found


def time_attention(device: torch.device, dtype: torch.dtype, context: int, kv: KvFormat) -> Timing:
    """Decode attention of one layer for one sequence, rope and append included."""
    from quantchat.kernels.attention.attend import attend

    shape = Heads(heads=32, kv_heads=8, head_dim=128)
    steps = [make_step([context], shape, kv, dtype, device) for _ in range(16)]
    seconds = graph_time_s(
        [lambda s=step: attend(*s.inputs, **s.pages, **s.options) for step in steps]  # type: ignore[misc]
    )
    vector_bytes = stored_width(shape.head_dim, kv) * (2 if kv == "16bit" else 1) + 2 * PARAMS[kv]
    read_bytes = 2 * context * shape.kv_heads * vector_bytes
    return Timing(
        kernel=f"attention {kv}",
        shape=f"{context} tokens",
        rows=1,
        dtype=str(dtype).removeprefix("torch."),
        time_us=seconds * 1e6,
        read_gb_per_s=read_bytes / seconds / 1e9,
    )


def run_gate(device: torch.device) -> bool:
    """Prints every failing case; True when there is none."""
    failures = total = 0
    for dtype in (torch.float16, torch.bfloat16):
        for case in cases(device, dtype):
            total += 1
            error = case.error()
            if not error <= case.tolerance:
                failures += 1
                print(f"FAIL {case.name} {dtype}: {error:.2e} > {case.tolerance:.1e}")
    print(f"gate: {total - failures} of {total} cases agree with their reference")
    return failures == 0


def main() -> int:
    """Gate, ceiling, timings; exit code 1 and no timing when a kernel is wrong."""
    if not torch.cuda.is_available():
        print("no CUDA device", file=sys.stderr)
        return 1
    import triton

    device = torch.device("cuda", torch.cuda.current_device())
    torch.manual_seed(20)
    if not run_gate(device):
        return 1
    card = torch.cuda.get_device_name(device)
    ceiling = read_ceiling_gb_per_s(device)
    print(f"{card}, torch {torch.__version__}, triton {triton.__version__}")
    print(f"read ceiling {ceiling:.0f} GB/s")
    timings: list[Timing] = []
    for dtype, rows in (
        *((torch.float16, 1), (torch.bfloat16, 1)),
        *((torch.float16, 2), (torch.float16, 4), (torch.float16, 8), (torch.bfloat16, 8)),
    ):
        timings += time_linears(device, dtype, rows)
    for kv in FORMATS:
        for context in (512, 4096, 8192):
            timings.append(time_attention(device, torch.float16, context, kv))
    for timing in timings:
        print(
            f"{timing.kernel:16} {timing.shape:12} rows {timing.rows} {timing.dtype:9}"
            f" {timing.time_us:8.2f} us {timing.read_gb_per_s:6.0f} GB/s"
            f" {100 * timing.read_gb_per_s / ceiling:5.1f} %"
        )
    for key in sorted({(t.kernel, t.rows, t.dtype) for t in timings if t.shape in SHAPES}):
        layer = sum(
            t.time_us for t in timings if (t.kernel, t.rows, t.dtype) == key and t.shape != "head"
        )
        print(f"{LAYERS} layers of linears, {key}: {layer * LAYERS / 1e3:.3f} ms")
    print(
        json.dumps(
            {
                "card": card,
                "torch": torch.__version__,
                "triton": triton.__version__,
                "read_ceiling_gb_per_s": ceiling,
                "timings": [asdict(timing) for timing in timings],
            }
        )
    )
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
