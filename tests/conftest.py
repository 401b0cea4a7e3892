"""What every test stands on: a home of its own, fixed seeds, no network, the starter model.

Owns isolation only; fakes and factories live in tests/support.
"""

from __future__ import annotations

import contextlib
import gc
import os
import random
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent

# A folder named `kernels` on the path is taken for another package by transformers.
sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != ROOT]

SWITCHES = {
    "HF_HUB_OFFLINE": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "TEXTUAL_ANIMATIONS": "none",
    "TEXTUAL_COLOR_SYSTEM": "truecolor",
    "TOKENIZERS_PARALLELISM": "false",
}
FOREIGN = (
    *("QUANTCHAT_HOME", "HF_HOME", "HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_ENDPOINT"),
    *("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "TEXTUAL_THEME"),
    *("NO_COLOR", "FORCE_COLOR", "CLICOLOR_FORCE", "COLUMNS", "LINES"),
)
"""Variables of the user's own environment that would change what tests see."""

OUTSIDE = {name: os.environ.get(name) for name in (*SWITCHES, *FOREIGN)}
"""The environment before isolation; the starter model is looked for there."""

# textual and huggingface_hub read these when they are imported.
os.environ.update(SWITCHES)


def pytest_configure(config: pytest.Config) -> None:
    """Only tests of cards see one (`-m gpu`): the others expect what a machine without one does."""
    if "gpu" not in config.option.markexpr:
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


def pytest_collection_finish() -> None:
    """What was imported stays: full collections took a third of the time of tests of the app."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(5000, 10, 10)


def pytest_unconfigure() -> None:
    """At the end everything goes; bindings say what is left over."""
    gc.unfreeze()


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Tests marked `gpu` are for machines that have one."""
    if item.get_closest_marker("gpu") is not None:
        import torch

        if not torch.cuda.is_available():
            pytest.skip("no CUDA device to be seen; `make card` runs these where there is one")


@pytest.fixture(autouse=True, scope="module")
def imports_stay() -> Iterator[None]:
    """The collector leaves alone what a module of tests imported."""
    known = len(sys.modules)
    yield
    if len(sys.modules) != known:
        gc.collect()
        gc.freeze()


@pytest.fixture(autouse=True)
def isolated_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Data, settings, cache and log of this test alone."""
    for name in FOREIGN:
        monkeypatch.delenv(name, raising=False)
    home = tmp_path / "quantchat-home"
    monkeypatch.setenv("QUANTCHAT_HOME", str(home))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "huggingface"))
    return home


@pytest.fixture(autouse=True)
def fixed_seeds() -> None:
    """The same numbers in every run, for what is loaded already."""
    random.seed(20)
    if "numpy" in sys.modules:
        sys.modules["numpy"].random.seed(20)
    if "torch" in sys.modules:
        sys.modules["torch"].manual_seed(20)


@pytest.fixture(autouse=True)
def still_cursor(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """No blinking in tests of the app: pictures and waits depend on it."""
    if "tui" not in request.path.relative_to(ROOT).parts:
        return
    from textual.widgets import Input, TextArea

    monkeypatch.setattr(Input.cursor_blink, "_default", False)
    monkeypatch.setattr(TextArea.cursor_blink, "_default", False)


@pytest.fixture(autouse=True)
def poisoned_memory(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """In tests of kernels, memory that a wrapper allocates is NaN until a kernel writes it."""
    torch = sys.modules.get("torch")
    if torch is None or "kernels" not in request.path.relative_to(ROOT).parts:
        return
    for name in ("empty", "empty_like"):
        monkeypatch.setattr(torch, name, _poisoned(torch, getattr(torch, name)))


def _poisoned(torch: ModuleType, allocate: Callable[..., Any]) -> Callable[..., Any]:
    def poisoned(*args: Any, **kwargs: Any) -> Any:
        tensor = allocate(*args, **kwargs)
        caller = sys._getframe(1).f_globals.get("__name__", "")
        if not caller.startswith("quantchat.kernels"):
            return tensor
        if tensor.dtype.is_floating_point:
            return tensor.fill_(float("nan"))
        return tensor if tensor.dtype == torch.bool else tensor.fill_(torch.iinfo(tensor.dtype).max)

    return poisoned


@pytest.fixture(scope="session")
def starter_path() -> Path:
    """The starter model's GGUF file: on disk already, or fetched once.

    QUANTCHAT_TEST_STARTER names a file to take instead; QUANTCHAT_TESTS_WITHOUT_STARTER=1
    skips where no source answers.
    """
    named = os.environ.get("QUANTCHAT_TEST_STARTER")
    if named:
        path = Path(named).expanduser().resolve()
        if not path.is_file():
            pytest.fail(f"QUANTCHAT_TEST_STARTER: {path} is no file", pytrace=False)
        return path
    from quantchat.errors import QuantchatError
    from quantchat.hub.fetch import fetch

    try:
        with _outside():
            return fetch("starter", on_progress=lambda _: None, cancel=threading.Event()).path
    except QuantchatError as error:
        reason = str(error)
    if os.environ.get("QUANTCHAT_TESTS_WITHOUT_STARTER") == "1":
        pytest.skip(f"no starter model: {reason}")
    pytest.fail(
        f"the starter model cannot be had: {reason}; QUANTCHAT_TEST_STARTER=FILE names one, "
        "QUANTCHAT_TESTS_WITHOUT_STARTER=1 goes on without",
        pytrace=False,
    )


@contextlib.contextmanager
def _outside() -> Iterator[None]:
    """The user's own environment, for as long as the starter model is looked for."""
    inside = {name: os.environ.get(name) for name in OUTSIDE}
    _set(OUTSIDE)
    try:
        yield
    finally:
        _set(inside)


def _set(values: dict[str, str | None]) -> None:
    for name, value in values.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value
