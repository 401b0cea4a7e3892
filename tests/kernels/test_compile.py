"""Every kernel in every configuration compiles for every SM version, without a card."""

from __future__ import annotations

import concurrent.futures
import multiprocessing

import pytest

pytest.importorskip("triton")

OPS = (
    "linear",
    "wna16",
    "w8a16",
    "norm",
    "quantize",
    "sparse",
    "activation",
    "rope_append",
    "attention",
    "embed",
    "sample",
)
SM_VERSIONS = (90, 75, 80, 86, 89, 100, 120)
"""The one with most to compile comes first."""


@pytest.mark.slow
@pytest.mark.timeout(1800)  # two minutes at most on an idle core
@pytest.mark.parametrize("sm", SM_VERSIONS)
def test_compiles(sm: int) -> None:
    """In a process of its own; a fixture for all would be made by each process that runs tests."""
    from ahead_of_time import compile_op

    context = multiprocessing.get_context("spawn")
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=context) as pool:
        jobs = [pool.submit(compile_op, op, sm) for op in OPS]
        failures = [failure for job in jobs for failure in job.result()]
    assert not failures, "\n".join(failures)
