"""One seed for both sides, so that what differs comes from the weights."""

from __future__ import annotations

import random
from dataclasses import replace

from quantchat.requests import Sampling

SEED_BITS = 31


def seeded(sampling: Sampling) -> Sampling:
    """The sampling with its seed, or with one drawn for both sides and every repetition."""
    if sampling.seed is not None:
        return sampling
    return replace(sampling, seed=random.getrandbits(SEED_BITS))
