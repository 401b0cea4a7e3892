"""Whole tiny models through the card's ops, interpreted: blocks that are not as Llama's too."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from card_models import FAMILIES, furthest

MOST = 0.02
"""Of the logits' spread: what 16 bits cost."""


@pytest.mark.parametrize("family", FAMILIES)
@torch.inference_mode()
def test_the_card_s_ops_give_the_model_s_logits(family: str, tmp_path: Path) -> None:
    off = furthest(tmp_path, family)
    assert off.logits < MOST
    assert off.scores < MOST
