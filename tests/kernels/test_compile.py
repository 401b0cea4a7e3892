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
SM_VERSIONS = (75, 80, 86, 89, 90, 100, 120)


@pytest.fixture(scope="module")
def failures() -> dict[int, list[str]]:
    """Failures by SM version, from two worker processes that share nothing but the machine."""
    from ahead_of_time import compile_op

    context = multiprocessing.get_context("spawn")
    found: dict[int, list[str]] = {sm: [] for sm in SM_VERSIONS}
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        jobs = {pool.submit(compile_op, op, sm): sm for op in OPS for sm in SM_VERSIONS}
        for job in concurrent.futures.as_completed(jobs):
            found[jobs[job]] += job.result()
    return found


@pytest.mark.slow
@pytest.mark.timeout(900)  # three minutes on two idle cores, more on busy ones
@pytest.mark.parametrize("sm", SM_VERSIONS)
def test_compiles(failures: dict[int, list[str]], sm: int) -> None:
    assert not failures[sm], "\n".join(failures[sm])
