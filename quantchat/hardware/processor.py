"""The processor and memory as this process may use them: affinity and container limits applied.

Owns reading /proc, cgroups (both versions) and sysctl; draws no conclusion. Whatever cannot be
read is left out, never guessed upward.
"""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import dataclass
from pathlib import Path

import psutil

from quantchat.hardware.facts import CpuFacts

X86_FLAGS = {
    "avx2": "avx2",
    "avx512f": "avx512",
    "avx512_vnni": "avx512_vnni",
    "avx512_bf16": "avx512_bf16",
    "amx_bf16": "amx_bf16",
    "amx_int8": "amx_int8",
    "avx_vnni": "avx_vnni",
}
ARM_FEATURES = {"asimd": "neon", "neon": "neon", "bf16": "bf16", "i8mm": "i8mm"}
SYSCTL_FLAGS = {
    "hw.optional.avx2_0": "avx2",
    "hw.optional.avx512f": "avx512",
    "hw.optional.neon": "neon",
    "hw.optional.AdvSIMD": "neon",
    "hw.optional.arm.FEAT_BF16": "bf16",
    "hw.optional.arm.FEAT_I8MM": "i8mm",
}
SYSCTL_NAME = "machdep.cpu.brand_string"
UNLIMITED_BYTES = 2**60
"""cgroup 1 writes "no limit" as a number near 2**63."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a container leaves to this process; None where it sets no limit."""

    memory_bytes: int | None = None
    memory_used_bytes: int = 0
    """Of the limit, without file cache that can be dropped."""
    cpus: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Description:
    """What the system says about its processor."""

    name: str
    isa: frozenset[str]
    cores: int
    """Physical cores among the allowed logical ones; 0 if the system does not tell."""


def read_cpu(root: Path = Path("/")) -> CpuFacts:
    """Facts of the processor; `root` holds proc and sys."""
    allowed = _allowed()
    described = describe(root, allowed)
    limits = container_limits(root)
    logical = len(allowed)
    physical = described.cores or min(psutil.cpu_count(logical=False) or logical, logical)
    if limits.cpus is not None:
        logical = max(1, min(logical, -int(-limits.cpus // 1)))
        physical = max(1, min(physical, int(limits.cpus)))
    memory = psutil.virtual_memory()
    total_bytes, free_bytes = int(memory.total), int(memory.available)
    if limits.memory_bytes is not None:
        total_bytes = min(total_bytes, limits.memory_bytes)
        free_bytes = min(free_bytes, max(0, limits.memory_bytes - limits.memory_used_bytes))
    return CpuFacts(
        name=described.name,
        physical_cores=physical,
        logical_cores=logical,
        isa=described.isa,
        ram_total_bytes=total_bytes,
        ram_free_bytes=free_bytes,
    )


def describe(root: Path, allowed: frozenset[int]) -> Description:
    """Name, instruction sets and cores from /proc/cpuinfo, from sysctl where there is none."""
    text = _read(root / "proc/cpuinfo")
    if text:
        return parse_cpuinfo(text, allowed)
    if platform.system() == "Darwin":
        return parse_sysctl(_sysctl())
    return Description(name=_fallback_name(), isa=frozenset(), cores=0)


def parse_cpuinfo(text: str, allowed: frozenset[int]) -> Description:
    """Read /proc/cpuinfo's blocks; cores are counted among the `allowed` processors."""
    name = ""
    isa: set[str] = set()
    cores: set[tuple[str, str]] = set()
    for block in text.split("\n\n"):
        entries = {
            key.strip(): value.strip()
            for key, colon, value in (line.partition(":") for line in block.splitlines())
            if colon
        }
        name = name or entries.get("model name", "")
        isa |= {X86_FLAGS[flag] for flag in entries.get("flags", "").split() if flag in X86_FLAGS}
        isa |= {
            ARM_FEATURES[word]
            for word in entries.get("Features", "").split()
            if word in ARM_FEATURES
        }
        number = entries.get("processor", "")
        if number.isdecimal() and int(number) in allowed and "core id" in entries:
            cores.add((entries.get("physical id", "0"), entries["core id"]))
    return Description(name=name or _fallback_name(), isa=frozenset(isa), cores=len(cores))


def parse_sysctl(text: str) -> Description:
    """Read `sysctl` lines, as in "hw.optional.neon: 1"."""
    entries = {
        key.strip(): value.strip()
        for key, colon, value in (line.partition(":") for line in text.splitlines())
        if colon
    }
    isa = frozenset(flag for key, flag in SYSCTL_FLAGS.items() if entries.get(key) == "1")
    cores = entries.get("hw.physicalcpu", "")
    return Description(
        name=entries.get(SYSCTL_NAME) or _fallback_name(),
        isa=isa,
        cores=int(cores) if cores.isdecimal() else 0,
    )


def container_limits(root: Path) -> Limits:
    """The tightest limits on the way from this process's cgroup to the root."""
    base = root / "sys/fs/cgroup"
    paths: dict[str, str] = {}
    for line in _read(root / "proc/self/cgroup").splitlines():
        parts = line.split(":", 2)
        if len(parts) == 3:
            for controller in parts[1].split(","):
                paths[controller] = parts[2]
    memory: list[tuple[int, int]] = []
    cpus: list[float] = []
    for folder in _upward(base, paths.get("", "/")):
        limit = _number(folder / "memory.max")
        if limit is not None:
            used = (_number(folder / "memory.current") or 0) - _stat(folder, "inactive_file")
            memory.append((limit, max(0, used)))
        quota = _read(folder / "cpu.max").split()
        if len(quota) == 2 and quota[0].isdecimal() and quota[1].isdecimal() and int(quota[1]):
            cpus.append(int(quota[0]) / int(quota[1]))
    for folder in _upward(base / "memory", paths.get("memory", "/")):
        limit = _number(folder / "memory.limit_in_bytes")
        if limit is not None and limit < UNLIMITED_BYTES:
            used = (_number(folder / "memory.usage_in_bytes") or 0) - _stat(
                folder, "total_inactive_file"
            )
            memory.append((limit, max(0, used)))
    for folder in _upward(base / "cpu", paths.get("cpu", "/")):
        slice_us = _number(folder / "cpu.cfs_quota_us")
        period_us = _number(folder / "cpu.cfs_period_us")
        if slice_us and period_us:
            cpus.append(slice_us / period_us)
    tightest = min(memory, key=lambda pair: pair[0] - pair[1], default=None)
    return Limits(
        memory_bytes=None if tightest is None else tightest[0],
        memory_used_bytes=0 if tightest is None else tightest[1],
        cpus=min(cpus, default=None),
    )


def _upward(base: Path, path: str) -> list[Path]:
    """`base`/`path` and its parents up to `base`; a path that leaves `base` counts as `base`."""
    parts = [part for part in path.split("/") if part]
    if ".." in parts:
        parts = []
    return [base.joinpath(*parts[:depth]) for depth in range(len(parts), -1, -1)]


def _allowed() -> frozenset[int]:
    if hasattr(os, "sched_getaffinity"):
        return frozenset(os.sched_getaffinity(0))
    return frozenset(range(os.cpu_count() or 1))


def _sysctl() -> str:
    names = (SYSCTL_NAME, "hw.physicalcpu", *SYSCTL_FLAGS)
    try:
        done = subprocess.run(
            ["/usr/sbin/sysctl", *names], capture_output=True, text=True, timeout=1.0, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout


def _fallback_name() -> str:
    return platform.processor() or platform.machine() or "unknown processor"


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _number(path: Path) -> int | None:
    text = _read(path).strip()
    return int(text) if text.isdecimal() else None


def _stat(folder: Path, key: str) -> int:
    for line in _read(folder / "memory.stat").splitlines():
        name, _, value = line.partition(" ")
        if name == key and value.strip().isdecimal():
            return int(value)
    return 0
