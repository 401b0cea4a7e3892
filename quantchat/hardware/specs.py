"""Peaks of known cards from the makers' data sheets: what a measurement is held against.

Owns a literal table; a card that is not in it has no share-of-peak. Figures are dense, without
sparsity, at boost clocks; 16-bit and fp8 products accumulate in fp32 (half rate on GeForce).
Sources: NVIDIA data sheets of each data-centre card; the Turing, Ampere, Ada and Blackwell
architecture white papers for GeForce and RTX. None where no document states the figure.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from quantchat.hardware.facts import GpuFacts
from quantchat.hardware.memory import GIB


@dataclass(frozen=True, slots=True, kw_only=True)
class CardSpecs:
    """One card's peaks."""

    card: str
    pattern: str
    """Regular expression searched in the name that the driver gives; the first row wins."""
    sm: int
    gb_per_s: float
    """Memory bandwidth in 1e9 bytes per second."""
    fp16_tflops: float | None = None
    fp8_tflops: float | None = None
    int8_tops: float | None = None
    memory_gib: int = 0
    """Only for cards of this size, where one name covers two; 0 for any."""


def _card(
    card: str,
    pattern: str,
    sm: int,
    gb_per_s: float,
    fp16: float | None = None,
    fp8: float | None = None,
    int8: float | None = None,
    memory_gib: int = 0,
) -> CardSpecs:
    return CardSpecs(
        card=card,
        pattern=pattern,
        sm=sm,
        gb_per_s=gb_per_s,
        fp16_tflops=fp16,
        fp8_tflops=fp8,
        int8_tops=int8,
        memory_gib=memory_gib,
    )


CARDS: tuple[CardSpecs, ...] = (
    _card("GB200", r"\bGB200\b", 100, 8000, 2500, 5000, 5000),
    _card("B200", r"\bB200\b", 100, 8000, 2250, 4500, 4500),
    _card("B300", r"\bB300\b", 103, 8000, 2250, 4500),
    _card("GB10", r"\bGB10\b", 121, 273),
    _card("GH200 144 GB", r"\bGH200 144G", 90, 4900, 989, 1979, 1979),
    _card("GH200 96 GB", r"\bGH200\b", 90, 4000, 989, 1979, 1979),
    _card("H200 NVL", r"\bH200 NVL\b", 90, 4800, 835, 1671, 1671),
    _card("H200 SXM", r"\bH200\b", 90, 4800, 989, 1979, 1979),
    _card("H100 NVL", r"\bH100 NVL\b", 90, 3900, 835, 1671, 1671),
    _card("H100 PCIe", r"\bH100 PCIe\b", 90, 2000, 756, 1513, 1513),
    _card("H100 SXM", r"\bH100\b.*HBM3", 90, 3350, 989, 1979, 1979),
    _card("H20", r"\bH20\b", 90, 4000, 148, 296, 296),
    _card("A100 SXM 80 GB", r"\bA[18]00-SXM4?-80GB", 80, 2039, 312, None, 624),
    _card("A100 PCIe 80 GB", r"\bA[18]00 80GB PCIe", 80, 1935, 312, None, 624),
    _card(
        "A100 40 GB", r"\bA[18]00-(SXM4|PCIE|PG509).*40GB|\bA100-SXM4\b", 80, 1555, 312, None, 624
    ),
    _card("A30", r"\bA30\b", 80, 933, 165, None, 330),
    _card("A40", r"\bA40\b", 86, 696, 149.7, None, 299.3),
    _card("A10G", r"\bA10G\b", 86, 600, 70, None, 140),
    _card("A10", r"\bA10\b", 86, 600, 125, None, 250),
    _card("A2", r"\bA2\b", 86, 200, 18, None, 36),
    _card("L40S", r"\bL40S\b", 89, 864, 362, 733, 733),
    _card("L40", r"\bL40\b", 89, 864, 181, 362, 362),
    _card("L4", r"\bL4\b", 89, 300, 121, 242, 242),
    _card("T4", r"\bT4\b", 75, 320, 65, None, 130),
    _card("V100S", r"\bV100S\b", 70, 1134, 130),
    _card("V100 SXM", r"\bV100-SXM", 70, 900, 125),
    _card("V100 PCIe", r"\bV100\b", 70, 900, 112),
    _card("RTX PRO 6000 Blackwell", r"RTX PRO 6000 Blackwell", 120, 1792, 503.8, 1007.6, 1007.6),
    _card("RTX 6000 Ada", r"RTX 6000 Ada", 89, 960, 364.2, 728.5, 728.5),
    _card("RTX 5000 Ada", r"RTX 5000 Ada", 89, 576),
    _card("RTX 4500 Ada", r"RTX 4500 Ada", 89, 432),
    _card("RTX 4000 Ada", r"RTX 4000 Ada", 89, 360),
    _card("RTX A6000", r"RTX A6000", 86, 768, 154.8, None, 309.7),
    _card("RTX A5000", r"RTX A5000", 86, 768, 111.1, None, 222.2),
    _card("RTX A4000", r"RTX A4000", 86, 448, 76.7, None, 153.4),
    _card("RTX 5090", r"RTX 5090(?! D)", 120, 1792, 209.5, 419, 838),
    _card("RTX 5080", r"RTX 5080", 120, 960, 112.6, 225.1, 450.2),
    _card("RTX 5070 Ti", r"RTX 5070 Ti", 120, 896, 87.9, 175.8, 351.5),
    _card("RTX 5070", r"RTX 5070", 120, 672, 61.7, 123.5, 246.9),
    _card("RTX 5060 Ti", r"RTX 5060 Ti", 120, 448),
    _card("RTX 5060", r"RTX 5060", 120, 448),
    _card("RTX 4090", r"RTX 4090(?! D)", 89, 1008, 165.2, 330.3, 660.6),
    _card("RTX 4080 Super", r"RTX 4080 SUPER", 89, 736),
    _card("RTX 4080", r"RTX 4080", 89, 717, 97.5, 194.9, 389.9),
    _card("RTX 4070 Ti Super", r"RTX 4070 Ti SUPER", 89, 672),
    _card("RTX 4070 Ti", r"RTX 4070 Ti", 89, 504, 80.2, 160.4, 320.7),
    _card("RTX 4070 Super", r"RTX 4070 SUPER", 89, 504),
    _card("RTX 4070", r"RTX 4070", 89, 504),
    _card("RTX 4060 Ti", r"RTX 4060 Ti", 89, 288),
    _card("RTX 4060", r"RTX 4060", 89, 272),
    _card("RTX 3090 Ti", r"RTX 3090 Ti", 86, 1008, 80, None, 320),
    _card("RTX 3090", r"RTX 3090", 86, 936, 71, None, 284),
    _card("RTX 3080 Ti", r"RTX 3080 Ti", 86, 912),
    _card("RTX 3080 12 GB", r"RTX 3080", 86, 912, memory_gib=12),
    _card("RTX 3080", r"RTX 3080", 86, 760, 59.5, None, 238),
    _card("RTX 3070 Ti", r"RTX 3070 Ti", 86, 608),
    _card("RTX 3070", r"RTX 3070", 86, 448, 40.6, None, 162.6),
    _card("RTX 3060 Ti", r"RTX 3060 Ti", 86, 448),
    _card("RTX 3060 12 GB", r"RTX 3060", 86, 360, memory_gib=12),
    _card("TITAN RTX", r"TITAN RTX", 75, 672, 130.5, None, 261),
    _card("Quadro RTX 8000", r"Quadro RTX 8000", 75, 672),
    _card("Quadro RTX 6000", r"Quadro RTX 6000", 75, 672),
    _card("RTX 2080 Ti", r"RTX 2080 Ti", 75, 616, 53.8, None, 215.2),
    _card("RTX 2080 Super", r"RTX 2080 SUPER", 75, 496),
    _card("RTX 2080", r"RTX 2080", 75, 448),
    _card("RTX 2070", r"RTX 2070", 75, 448),
)
"""Specific names before general ones."""

OTHER_CLOCKS = re.compile(r"laptop|max-q|mobile|\bMIG\b", re.IGNORECASE)
"""Same name, other silicon or a slice of it: no row holds for these."""


def specs_of(gpu: GpuFacts) -> CardSpecs | None:
    """The table's row for a card, by name, SM version and memory; None for an unknown one."""
    if OTHER_CLOCKS.search(gpu.name):
        return None
    for row in CARDS:
        if row.sm != gpu.sm or not re.search(row.pattern, gpu.name, re.IGNORECASE):
            continue
        if row.memory_gib and abs(gpu.total_bytes / GIB - row.memory_gib) > 1:
            continue
        return row
    return None
