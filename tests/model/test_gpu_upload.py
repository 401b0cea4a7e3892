"""On a card: bytes are right while copies, reused memory and other work are under way."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from quantchat.model.upload import Range, Uploader

pytestmark = pytest.mark.gpu
SIZE = 60_000_003
COUNTS = (1, 77, 4096, 3_000_001, 20_000_000)


def test_ranges_in_any_order_beside_work_that_reuses_memory(tmp_path: Path) -> None:
    device = torch.device("cuda", torch.cuda.current_device())
    path = tmp_path / "bytes"
    data = torch.randint(0, 256, (SIZE,), dtype=torch.uint8)
    path.write_bytes(data.numpy().tobytes())
    whole, chance = data.to(device), random.Random(1)
    starts = [chance.randrange(SIZE) for _ in range(80)]
    ranges = [Range(path, at, min(chance.choice(COUNTS), SIZE - at)) for at in starts]
    with torch.inference_mode(), Uploader(device) as uploader:
        uploader.expect(ranges)
        for i, wanted in enumerate(ranges):
            if i % 17 == 3:
                wanted = ranges[min(i + 5, len(ranges) - 1)]
            got = uploader.fetch(*wanted)
            square = torch.randn(2000, 2000, device=device)
            busy = square @ square
            assert torch.equal(got, whole[wanted.offset : wanted.offset + wanted.nbytes]), i
            got.fill_(7)
            del got, busy
