"""Kernels that a model will need, compiled by several processes before anything runs.

Whatever goes wrong here leaves a kernel to be compiled where it is first launched.
"""

from __future__ import annotations

import logging
import os
import pickle
import queue
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

from quantchat.kernels._ahead import KernelJob
from quantchat.kernels._ahead import install as name_kernels_alike
from quantchat.kernels._ahead import noting as noting

__all__ = ["compile_kernels", "name_kernels_alike", "noting"]

logger = logging.getLogger(__name__)

WORKER = (sys.executable, "-P", "-m", "quantchat.ops.compile_worker")
FEWEST_JOBS = 6
"""Below, processes take longer to start than the compiling lasts."""
MOST_WORKERS = 12
JOBS_OF_A_WORKER = 2
"""At least, for the same reason."""
CLOSE_S = 5.0


def compile_kernels(
    jobs: list[KernelJob], *, done: Callable[[int], None], cancelled: Callable[[], bool]
) -> None:
    """Leaves kernels on disk, where there are enough of them; `done` hears how many there are."""
    if len(jobs) < FEWEST_JOBS:
        return
    workers = min(MOST_WORKERS, os.cpu_count() or 1, len(jobs) // JOBS_OF_A_WORKER)
    waiting: queue.SimpleQueue[KernelJob] = queue.SimpleQueue()
    # Kernels of many arguments take the longest: they come first.
    for job in sorted(jobs, key=lambda job: -len(job.signature)):
        waiting.put(job)
    ended: queue.SimpleQueue[bool] = queue.SimpleQueue()
    with ThreadPoolExecutor(workers, "compile") as pool:
        for _ in range(workers):
            pool.submit(_serve, waiting, ended.put, cancelled).add_done_callback(
                lambda _: ended.put(False)
            )
        count, serving = 0, workers
        while serving:
            if ended.get():
                count += 1
                done(count)
            else:
                serving -= 1


def _serve(
    waiting: queue.SimpleQueue[KernelJob],
    ended: Callable[[bool], None],
    cancelled: Callable[[], bool],
) -> None:
    """One process, until nothing waits; `ended` hears True for each kernel."""
    try:
        worker = subprocess.Popen(
            WORKER,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        )
    except OSError as error:
        logger.warning("no process to compile kernels in: %s", error)
        return
    assert worker.stdin is not None and worker.stdout is not None
    try:
        while not cancelled():
            try:
                job = waiting.get_nowait()
            except queue.Empty:
                break
            worker.stdin.write(pickle.dumps(job))
            worker.stdin.flush()
            answer = worker.stdout.readline()
            if not answer:
                logger.warning("a process that compiles kernels has ended")
                break
            if answer.strip():
                logger.warning("%s is not compiled: %s", job.name, answer.decode().strip())
            ended(True)
    except (OSError, pickle.PicklingError) as error:
        logger.warning("a process that compiles kernels has failed: %s", error)
    finally:
        _end(worker)


def _end(worker: subprocess.Popen[bytes]) -> None:
    assert worker.stdin is not None and worker.stdout is not None
    try:
        worker.stdin.close()
        worker.wait(timeout=CLOSE_S)
    except (OSError, subprocess.TimeoutExpired):
        worker.kill()
        worker.wait()
    worker.stdout.close()
