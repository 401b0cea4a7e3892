"""What the machine can do at most, measured: the limits that speeds are held against.

Owns read bandwidth (CPU and GPU), 16- and 32-bit matmul rates and the cost of a kernel in a graph.
Nothing else may run meanwhile.
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
GRAPH_KERNELS = 1000
REPEATS = 7


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceilings:
    """Best of several measurements each; None for what the device does not have."""

    device: str
    read_gb_per_s: float
    fp32_gflops: float | None = None
    bf16_gflops: float | None = None
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
    return Ceilings(
        device="cpu",
        read_gb_per_s=CPU_READ_BYTES / seconds / 1e9,
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
    from quantchat.bench.kernels import graph_time_s, read_ceiling_gb_per_s

    read = read_ceiling_gb_per_s(device)
    a = torch.randn(GPU_PRODUCT, GPU_PRODUCT, device=device).to(torch.bfloat16)
    out = torch.empty_like(a)
    product_s = graph_time_s([lambda: torch.mm(a, a, out=out)])
    small = torch.zeros(32, device=device)
    gap_s = graph_time_s([lambda: small.add_(1)] * GRAPH_KERNELS, repeats=1)
    return Ceilings(
        device="cuda",
        read_gb_per_s=read,
        bf16_gflops=2 * GPU_PRODUCT**3 / product_s / 1e9,
        graph_gap_us=gap_s * 1e6,
    )
