"""What the machine can do at most, measured: the limits that speeds are held against.

Owns read and copy bandwidth, the library's matmul rates by number format and the cost of a kernel in
a graph. Nothing else may run meanwhile.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch

CPU_READ_BYTES = 1 << 29
"""Far more than any cache holds."""
CPU_PRODUCT = 1024
GPU_PRODUCT = 8192
GPU_READ_BYTES = 1 << 32
GPU_READ_SHARE = 4
"""At most this part, one in so many, of the free memory is read."""
FP8_SM = 89
INT8_SM = 75
FP8_LARGEST = 448.0
GRAPH_KERNELS = 1000
REPEATS = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """Best of several measurements each; None for what the device does not have."""

    device: str
    read_gb_per_s: float
    """A reduction to one number: nothing is written."""
    copy_gb_per_s: float | None = None
    """Bytes read plus bytes written."""
    fp32_gflops: float | None = None
    bf16_gflops: float | None = None
    fp8_gflops: float | None = None
    """E4M3 by E4M3 into bf16, one scale a tensor."""
    int8_gops: float | None = None
    """int8 by int8 into int32."""
    graph_gap_us: float | None = None
    """Time from one trivial kernel to the next inside a CUDA graph."""


def measure(device: str, threads: int) -> Ceilings:
    """The ceilings of cpu, with as many threads as the engines get, or of cuda."""
    if device == "cuda":
        return _gpu(torch.device("cuda", torch.cuda.current_device()))
    torch.set_num_threads(threads)
    return _cpu()


def _cpu() -> Ceilings:
    data = torch.ones(CPU_READ_BYTES // 4, dtype=torch.float32)
    # Which reduction reads fastest depends on the CPU and the BLAS.
    readers: tuple[Callable[[], object], ...] = (
        lambda: torch.dot(data, data),
        lambda: data.sum(),
        lambda: data.max(),
    )
    seconds = min(_best_s(reader) for reader in readers)
    half = data.numel() // 2
    copy_s = _best_s(lambda: data[:half].copy_(data[half:]))
    return Ceilings(
        device="cpu",
        read_gb_per_s=CPU_READ_BYTES / seconds / 1e9,
        copy_gb_per_s=CPU_READ_BYTES / copy_s / 1e9,
        fp32_gflops=_product_gflops(torch.float32, CPU_PRODUCT),
        bf16_gflops=_product_gflops(torch.bfloat16, CPU_PRODUCT),
    )


def _product_gflops(dtype: torch.dtype, size: int) -> float:
    a = torch.randn(size, size).to(dtype)
    return 2 * size**3 / _best_s(lambda: a @ a, repeats=3) / 1e9


def _best_s(work: Callable[[], object], repeats: int = REPEATS) -> float:
    work()
    best = float("inf")
    for _ in range(repeats):
        started_s = time.perf_counter()
        work()
        best = min(best, time.perf_counter() - started_s)
    return best


def _gpu(device: torch.device) -> Ceilings:
    from quantchat.bench.graph_time import graph_time_s

    read, copy = _gpu_bandwidth(device)
    a = torch.randn(GPU_PRODUCT, GPU_PRODUCT, device=device).to(torch.bfloat16)
    out = torch.empty_like(a)
    product_s = graph_time_s([lambda: torch.mm(a, a, out=out)])
    major, minor = torch.cuda.get_device_capability(device)
    sm = 10 * major + minor
    fp8_s = graph_time_s([_fp8_product(a)]) if sm >= FP8_SM else None
    int8_s = graph_time_s([_int8_product(device)]) if sm >= INT8_SM else None
    small = torch.zeros(32, device=device)
    gap_s = graph_time_s([lambda: small.add_(1)] * GRAPH_KERNELS, repeats=1)
    flops = 2 * GPU_PRODUCT**3
    return Ceilings(
        device="cuda",
        read_gb_per_s=read,
        copy_gb_per_s=copy,
        bf16_gflops=flops / product_s / 1e9,
        fp8_gflops=None if fp8_s is None else flops / fp8_s / 1e9,
        int8_gops=None if int8_s is None else flops / int8_s / 1e9,
        graph_gap_us=gap_s * 1e6,
    )


def _gpu_bandwidth(device: torch.device) -> tuple[float, float]:
    """GB/s of reading random data, and of copying one half of it over the other."""
    from quantchat.bench.graph_time import graph_time_s

    free, _ = torch.cuda.mem_get_info(device)
    words = min(GPU_READ_BYTES, free // GPU_READ_SHARE) // 8 * 2
    data = torch.empty(words, dtype=torch.int32, device=device).random_()
    read_s = graph_time_s([lambda: torch.max(data)], repeats=1)
    half = words // 2
    copy_s = graph_time_s([lambda: data[:half].copy_(data[half:])], repeats=1)
    return data.nbytes / read_s / 1e9, data.nbytes / copy_s / 1e9


def _fp8_product(a: torch.Tensor) -> Callable[[], object]:
    codes = a.float().clamp_(-FP8_LARGEST, FP8_LARGEST).to(torch.float8_e4m3fn)
    columns = codes.t()
    one = torch.ones((), dtype=torch.float32, device=a.device)
    return lambda: torch._scaled_mm(
        codes, columns, scale_a=one, scale_b=one, out_dtype=torch.bfloat16
    )


def _int8_product(device: torch.device) -> Callable[[], object]:
    size = (GPU_PRODUCT, GPU_PRODUCT)
    codes = torch.randint(-127, 128, size, dtype=torch.int8, device=device)
    out = torch.empty(size, dtype=torch.int32, device=device)
    columns = codes.t()
    return lambda: torch._int_mm(codes, columns, out=out)


def ceilings_lines(ceilings: Ceilings) -> list[str]:
    """The machine's limits in words, measured before anything else."""
    reads = f"reads {ceilings.read_gb_per_s:.1f} GB/s"
    if ceilings.copy_gb_per_s is not None:
        reads += f", copies {ceilings.copy_gb_per_s:.1f} GB/s (read + written)"
    rates = (
        ("fp32", ceilings.fp32_gflops, "FLOP/s"),
        ("bf16", ceilings.bf16_gflops, "FLOP/s"),
        ("fp8", ceilings.fp8_gflops, "FLOP/s"),
        ("int8", ceilings.int8_gops, "OP/s"),
    )
    products = ", ".join(f"{name} {_rate(rate, unit)}" for name, rate, unit in rates if rate)
    lines = [f"{ceilings.device} measured: {reads}"]
    if products:
        lines.append(f"{ceilings.device} measured: products {products}")
    if ceilings.graph_gap_us is not None:
        lines.append(
            f"{ceilings.device} measured: a trivial kernel in a graph takes "
            f"{ceilings.graph_gap_us:.2f} us"
        )
    return lines


def _rate(giga: float, unit: str) -> str:
    return f"{giga / 1e3:.0f} T{unit}" if giga >= 10_000 else f"{giga:.0f} G{unit}"
