"""Machines for plans: facts of cards and processors that no test has to own."""

from __future__ import annotations

from quantchat.hardware.facts import CpuFacts, Facts, GpuFacts, SoftwareFacts

GIB = 2**30

CARDS: dict[str, tuple[str, int, int, float]] = {
    "V100": ("Tesla V100-SXM2-16GB", 70, 80, 16),
    "T4": ("Tesla T4", 75, 40, 15),
    "2080Ti": ("NVIDIA GeForce RTX 2080 Ti", 75, 68, 11),
    "A100": ("NVIDIA A100-SXM4-80GB", 80, 108, 80),
    "3060": ("NVIDIA GeForce RTX 3060", 86, 28, 12),
    "3070": ("NVIDIA GeForce RTX 3070", 86, 46, 8),
    "3090": ("NVIDIA GeForce RTX 3090", 86, 82, 24),
    "4060Ti": ("NVIDIA GeForce RTX 4060 Ti", 89, 34, 16),
    "H100": ("NVIDIA H100 80GB HBM3", 90, 132, 80),
    "B200": ("NVIDIA B200", 100, 148, 180),
    "5090": ("NVIDIA GeForce RTX 5090", 120, 170, 32),
}
"""Short name -> driver's name, SM version, multiprocessors, memory in GiB."""

ZEN3 = frozenset({"avx2"})
ZEN5 = frozenset({"avx2", "avx512", "avx512_vnni", "avx512_bf16", "avx_vnni"})


def card(name: str, *, index: int = 0, used_gib: float = 0.4, driver: str = "580.65") -> GpuFacts:
    """A card of the table with some memory already taken."""
    full, sm, sm_count, gib = CARDS[name]
    return GpuFacts(
        index=index,
        name=full,
        sm=sm,
        sm_count=sm_count,
        total_bytes=int(gib * GIB),
        free_bytes=int((gib - used_gib) * GIB),
        driver=driver,
    )


def machine(
    *cards: GpuFacts | str,
    torch: str | None = "2.11.0",
    cuda: str | None = "13.0",
    triton: str | None = "3.6.0",
    isa: frozenset[str] = ZEN3,
    cores: int = 8,
    ram_gib: float = 32.0,
) -> Facts:
    """A machine with those cards."""
    return Facts(
        gpus=tuple(
            card(one, index=index) if isinstance(one, str) else one
            for index, one in enumerate(cards)
        ),
        cpu=CpuFacts(
            name="Test CPU",
            physical_cores=cores,
            logical_cores=2 * cores,
            isa=isa,
            ram_total_bytes=int(ram_gib * GIB),
            ram_free_bytes=int(ram_gib * GIB * 0.9),
        ),
        software=SoftwareFacts(
            python="3.11.9",
            system="Linux x86_64",
            torch=torch,
            torch_cuda=cuda,
            triton=triton,
            transformers="5.0.0",
            textual="8.2.8",
        ),
    )
