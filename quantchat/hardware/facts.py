"""What a machine is, as read: cards, processor, software; no judgement.

Owns the records. Reading them is `probe`'s job, drawing conclusions is `plan`'s.
Sizes in bytes; an SM version is major * 10 + minor (compute capability 9.0 is 90).
"""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class GpuFacts:
    """One CUDA card that this process may use."""

    index: int
    """Ordinal among the visible cards, as CUDA counts them in PCI order."""
    name: str
    sm: int
    sm_count: int
    """Streaming multiprocessors; 0 where the driver does not tell."""
    total_bytes: int
    free_bytes: int
    driver: str
    uuid: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuFacts:
    """The processor and memory as this process may use them: container limits are applied."""

    name: str
    physical_cores: int
    logical_cores: int
    isa: frozenset[str] = field(default_factory=frozenset)
    """Of avx2, avx512, avx512_vnni, avx512_bf16, amx_bf16, amx_int8, avx_vnni, neon, bf16, i8mm."""
    ram_total_bytes: int
    ram_free_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SoftwareFacts:
    """Installed versions; None for what is not there."""

    python: str
    system: str
    """As in "Linux x86_64"."""
    torch: str | None = None
    torch_cuda: str | None = None
    """CUDA version torch was built for; None for a CPU build."""
    triton: str | None = None
    transformers: str | None = None
    textual: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """All that a plan may depend on."""

    gpus: tuple[GpuFacts, ...] = ()
    cpu: CpuFacts
    software: SoftwareFacts
    notes: tuple[str, ...] = ()
    """What could not be read and why, a sentence each."""
