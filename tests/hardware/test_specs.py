"""The table of peaks: names as drivers give them, and the table's own soundness."""

from __future__ import annotations

import re

import pytest

from quantchat.hardware.facts import GpuFacts
from quantchat.hardware.specs import CARDS, specs_of


def gpu(name: str, sm: int, gib: float = 24) -> GpuFacts:
    size = int(gib * 2**30)
    return GpuFacts(
        index=0, name=name, sm=sm, sm_count=1, total_bytes=size, free_bytes=size, driver="580"
    )


@pytest.mark.parametrize(
    ("name", "sm", "gib", "gb_per_s"),
    [
        ("NVIDIA H100 80GB HBM3", 90, 80, 3350),
        ("NVIDIA H100 PCIe", 90, 80, 2000),
        ("NVIDIA H100 NVL", 90, 94, 3900),
        ("NVIDIA H200", 90, 141, 4800),
        ("NVIDIA A100-SXM4-40GB", 80, 40, 1555),
        ("NVIDIA A100-PCIE-40GB", 80, 40, 1555),
        ("NVIDIA A100-SXM4-80GB", 80, 80, 2039),
        ("NVIDIA A100 80GB PCIe", 80, 80, 1935),
        ("NVIDIA A10", 86, 23, 600),
        ("NVIDIA A10G", 86, 23, 600),
        ("NVIDIA A30", 80, 24, 933),
        ("NVIDIA L4", 89, 23, 300),
        ("NVIDIA L40", 89, 45, 864),
        ("NVIDIA L40S", 89, 45, 864),
        ("Tesla T4", 75, 15, 320),
        ("Tesla V100-SXM2-16GB", 70, 16, 900),
        ("Tesla V100S-PCIE-32GB", 70, 32, 1134),
        ("NVIDIA B200", 100, 180, 8000),
        ("NVIDIA GeForce RTX 5090", 120, 32, 1792),
        ("NVIDIA GeForce RTX 4090", 89, 24, 1008),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", 89, 16, 672),
        ("NVIDIA GeForce RTX 4070 Ti", 89, 12, 504),
        ("NVIDIA GeForce RTX 3090", 86, 24, 936),
        ("NVIDIA GeForce RTX 3090 Ti", 86, 24, 1008),
        ("NVIDIA GeForce RTX 3080", 86, 10, 760),
        ("NVIDIA GeForce RTX 3080", 86, 12, 912),
        ("NVIDIA GeForce RTX 2080 Ti", 75, 11, 616),
        ("NVIDIA RTX 6000 Ada Generation", 89, 48, 960),
        ("NVIDIA RTX A6000", 86, 48, 768),
    ],
)
def test_names_of_drivers(name: str, sm: int, gib: float, gb_per_s: float) -> None:
    found = specs_of(gpu(name, sm, gib))
    assert found is not None
    assert found.gb_per_s == gb_per_s


@pytest.mark.parametrize(
    ("name", "sm"),
    [
        ("NVIDIA GeForce RTX 4090 Laptop GPU", 89),
        ("NVIDIA GeForce RTX 2080 with Max-Q Design", 75),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", 80),
        ("NVIDIA GeForce RTX 4090 D", 89),
        ("NVIDIA T400 4GB", 75),
        ("NVIDIA GeForce RTX 9090", 130),
        ("NVIDIA H100 80GB HBM3", 80),
        ("", 90),
    ],
)
def test_unknown_cards_have_no_peaks(name: str, sm: int) -> None:
    assert specs_of(gpu(name, sm)) is None


def test_every_row_can_be_reached_and_is_sound() -> None:
    assert len(CARDS) >= 25
    assert len({row.card for row in CARDS}) == len(CARDS)
    for row in CARDS:
        re.compile(row.pattern)
        assert 100 <= row.gb_per_s <= 10_000
        for peak in (row.fp16_tflops, row.fp8_tflops, row.int8_tops):
            assert peak is None or 10 < peak <= 6000
        assert row.fp8_tflops is None or row.sm >= 89
        if row.fp16_tflops and row.fp8_tflops:
            assert row.fp8_tflops == pytest.approx(2 * row.fp16_tflops, rel=0.03)
