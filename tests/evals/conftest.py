"""What tests of studies begin with: the module's `folder` of a tiny model, opened."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from quantchat.evals.subject import Subject, open_subject


@pytest.fixture
def subject(folder: Path) -> Iterator[Subject]:
    torch.set_num_threads(1)
    opened = open_subject(str(folder))
    yield opened
    opened.close()
