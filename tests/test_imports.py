"""What an import may load, seen from fresh processes: static rules miss deferred imports."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
HEAVY = ("torch", "transformers", "triton")

LIGHT = {
    "quantchat": (*HEAVY, "textual", "huggingface_hub", "click"),
    "quantchat.errors": (*HEAVY, "textual"),
    "quantchat.events": (*HEAVY, "textual"),
    "quantchat.requests": (*HEAVY, "textual"),
    "quantchat.spec": (*HEAVY, "textual"),
    "quantchat.paths": (*HEAVY, "textual"),
    "quantchat.cli.main": (*HEAVY, "textual", "huggingface_hub", "sqlite3", "rich"),
    "quantchat.settings.file": (*HEAVY, "textual"),
    "quantchat.store.chats": (*HEAVY, "textual"),
    "quantchat.hub.catalog": (*HEAVY, "textual"),
    "quantchat.hub.local": (*HEAVY, "textual"),
    "quantchat.hub.fetch": (*HEAVY, "textual"),
    "quantchat.quant.registry": (*HEAVY, "textual"),
    "quantchat.hardware.probe": (*HEAVY, "textual"),
    "quantchat.hardware.plan": (*HEAVY, "textual"),
    "quantchat.engine.api": (*HEAVY, "textual"),
    "quantchat.engine.session": (*HEAVY, "textual"),
    "quantchat.tui.app": HEAVY,
}
"""Module -> what it must not bring along."""


def loaded_after(code: str, *words: str) -> set[str]:
    """Top-level names in sys.modules after running code in a fresh interpreter."""
    code += "\nimport sys; print('LOADED', *{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run(
        [sys.executable, "-P", "-c", code, *words],
        capture_output=True,
        text=True,
        timeout=120,
        cwd=ROOT,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.rpartition("LOADED ")[2].split())


def modules_of(package: str) -> list[str]:
    """Every module in a package of ours, by its file."""
    folder = ROOT.joinpath(*package.split("."))
    return [
        ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")
        for path in sorted(folder.rglob("*.py"))
        if path.name != "__main__.py"
    ]


@pytest.mark.parametrize("module", LIGHT)
def test_a_light_module_stays_light(module: str) -> None:
    assert loaded_after(f"import {module}") & set(LIGHT[module]) == set()


@pytest.mark.parametrize("package", ["settings", "store", "hub", "hardware", "comparing", "cli"])
def test_no_module_of_a_light_package_loads_torch(package: str) -> None:
    modules = modules_of(f"quantchat.{package}")
    assert len(modules) > 1
    loaded = loaded_after("\n".join(f"import {module}" for module in modules))
    assert loaded & set(HEAVY) == set()


def test_no_module_of_the_app_loads_torch() -> None:
    modules = modules_of("quantchat.tui")
    assert len(modules) > 1
    loaded = loaded_after("\n".join(f"import {module}" for module in modules))
    assert "textual" in loaded and loaded & set(HEAVY) == set()


@pytest.mark.slow
def test_nothing_below_the_app_loads_textual() -> None:
    below = [
        module
        for module in modules_of("quantchat")
        if not module.startswith(("quantchat.tui", "quantchat.cli"))
    ]
    loaded = loaded_after("\n".join(f"import {module}" for module in below))
    assert "torch" in loaded and "textual" not in loaded


@pytest.mark.parametrize(
    "words", [("--help",), ("--version",), ("ask", "--help"), ("compare", "--help")]
)
def test_help_loads_nothing_heavy(words: tuple[str, ...]) -> None:
    code = (
        "import quantchat.cli.main as command\n"
        "try:\n    command.main()\n"
        "except SystemExit as stop:\n    assert stop.code == 0"
    )
    loaded = loaded_after(code, *words)
    assert loaded & {*HEAVY, "textual", "huggingface_hub", "numpy", "sqlite3"} == set()


def test_the_import_rules_hold() -> None:
    tool = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run(
        [tool, "--no-cache"], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stdout + done.stderr
