"""Families on a card: codes as stored, caches of fewer bits, gates and sums of every kind."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from card_models import FAMILIES, furthest

from quantchat.kv_formats import KvFormat

pytestmark = pytest.mark.gpu

CASES: list[tuple[str, KvFormat, torch.dtype, float]] = [
    # scheme, cache, compute dtype, most that logits may differ as a share of their spread
    ("fp16", "16bit", torch.float16, 0.02),
    ("fp16", "int8", torch.bfloat16, 0.1),
    ("int8", "16bit", torch.float16, 0.1),
    ("fp8", "fp8", torch.bfloat16, 0.4),
    ("int4", "16bit", torch.bfloat16, 0.6),
]


@pytest.mark.parametrize(("scheme", "kv", "dtype", "most"), CASES)
@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_logits_are_the_model_s(
    family: str, scheme: str, kv: KvFormat, dtype: torch.dtype, most: float, tmp_path: Path
) -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    off = furthest(tmp_path, family, scheme=scheme, device=device, dtype=dtype, kv=kv)
    assert off.logits < most
    assert off.scores < most
