"""The wheel holds everything that the tree holds, and works without the tree."""

from __future__ import annotations

import fnmatch
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

import quantchat

ROOT = Path(__file__).resolve().parent.parent
SOURCES = {"quantchat": "quantchat", "quantchat.kernels": "kernels", "quantchat.themes": "themes"}
"""Import name -> folder."""
SCRATCH = ("__pycache__", "*.egg-info", ".*_cache")


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def package_folders() -> dict[str, Path]:
    """Every folder with Python files, by its import name."""
    found = {}
    for name, folder in SOURCES.items():
        for path in sorted((ROOT / folder).rglob("*.py")):
            inside = path.parent.relative_to(ROOT / folder).parts
            if "__pycache__" not in inside:
                found[".".join((name, *inside))] = path.parent
    return found


def test_packages_are_the_folders(project: dict[str, Any]) -> None:
    listed = project["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(package_folders())
    assert len(listed) == len(set(listed))
    assert project["tool"]["setuptools"]["package-dir"] == SOURCES


def test_every_package_has_an_init_that_imports_nothing() -> None:
    for name, folder in package_folders().items():
        init = folder / "__init__.py"
        assert init.is_file(), f"{name}: the editable finder skips folders without __init__.py"
        statements = re.findall(r"^(?:import|from) .*", init.read_text(), re.MULTILINE)
        if name in ("quantchat", "quantchat.kernels", "quantchat.themes"):
            assert statements == [], f"{name} is imported early"


def test_package_data_covers_every_other_file(project: dict[str, Any]) -> None:
    patterns = project["tool"]["setuptools"]["package-data"]
    missing = [
        str(path.relative_to(ROOT))
        for name, folder in package_folders().items()
        for path in folder.iterdir()
        if path.is_file() and path.suffix not in (".py", ".pyc")
        if not any(
            fnmatch.fnmatch(path.name, pattern)
            for pattern in (*patterns.get("*", ()), *patterns.get(name, ()))
        )
    ]
    assert missing == []


def test_versions_are_in_step(project: dict[str, Any]) -> None:
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "quantchat.__version__"}
    headings = re.findall(r"^## \[(\d+\.\d+\.\d+)\]", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert headings[0] == quantchat.__version__


def test_what_moves_fast_has_an_upper_bound(project: dict[str, Any]) -> None:
    wanted = {
        line.partition(";")[0].strip()
        for line in (
            *project["project"]["dependencies"],
            *project["project"]["optional-dependencies"]["test"],
        )
    }
    for requirement in ("torch>=2.11,<2.14", "textual==8.2.8", "pytest>=8.3,<9"):
        assert requirement in wanted
    for name in ("transformers", "huggingface-hub", "triton"):
        assert any(line.startswith(name) and "<" in line for line in wanted), name


@dataclass(frozen=True, slots=True, kw_only=True)
class Installed:
    """A wheel from a clean copy of the tree, installed where the tree cannot be seen."""

    wheel: Path
    environment: Path
    modules: tuple[str, ...]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        """A program of the environment, from another folder."""
        folder = "Scripts" if sys.platform == "win32" else "bin"
        return subprocess.run(
            [self.environment / folder / words[0], *words[1:]],
            cwd=self.environment,
            capture_output=True,
            text=True,
            timeout=240,
        )


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Installed:
    work = tmp_path_factory.mktemp("wheel")
    tree = work / "tree"
    tree.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    for folder in SOURCES.values():
        shutil.copytree(ROOT / folder, tree / folder, ignore=shutil.ignore_patterns(*SCRATCH))
    check(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", work, tree)
    (wheel,) = work.glob("*.whl")
    environment = work / "environment"
    venv.create(environment, with_pip=False, symlinks=sys.platform != "win32")
    python = environment / ("Scripts/python.exe" if sys.platform == "win32" else "bin/python")
    check(
        *(sys.executable, "-m", "pip", "--python", python, "install", "--quiet"),
        *("--no-deps", "--no-index", wheel),
    )
    paths = {"base": str(environment), "platbase": str(environment)}
    site = Path(sysconfig.get_path("purelib", vars=paths))
    dependencies = dict.fromkeys((sysconfig.get_path("purelib"), sysconfig.get_path("platlib")))
    (site / "dependencies.pth").write_text("\n".join(dependencies) + "\n")
    with zipfile.ZipFile(wheel) as archive:
        names = [name for name in archive.namelist() if name.endswith(".py")]
    modules = tuple(
        name.removesuffix(".py").removesuffix("/__init__").replace("/", ".") for name in names
    )
    return Installed(wheel=wheel, environment=environment, modules=modules)


def check(*words: str | Path) -> None:
    done = subprocess.run(words, capture_output=True, text=True, timeout=240)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.slow
def test_the_wheel_holds_every_file(installed: Installed) -> None:
    with zipfile.ZipFile(installed.wheel) as archive:
        held = set(archive.namelist())
    wanted = {
        "/".join((*name.split("."), path.name))
        for name, folder in package_folders().items()
        for path in folder.iterdir()
        if path.is_file() and path.suffix != ".pyc"
    }
    assert wanted - held == set()
    assert {name.split("/")[0] for name in held if ".dist-info/" not in name} == {"quantchat"}
    assert any(name.endswith("licenses/LICENSE") for name in held)


@pytest.mark.slow
def test_every_module_imports_from_the_wheel(installed: Installed) -> None:
    modules = [name for name in installed.modules if not name.endswith("__main__")]
    assert "quantchat.kernels" in modules and "quantchat.cli.main" in modules
    code = (
        "import importlib, pathlib, sys\n"
        "home = pathlib.Path(sys.prefix).resolve()\n"
        "for name in sys.argv[1:]:\n"
        "    file = importlib.import_module(name).__file__\n"
        "    assert home in pathlib.Path(file).resolve().parents, f'{name} came from {file}'\n"
        "assert 'kernels' not in sys.modules\n"
    )
    done = installed.run("python", "-c", code, *modules)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("words", [("quantchat",), ("python", "-m", "quantchat")])
def test_the_command_answers_from_another_folder(
    installed: Installed, words: tuple[str, ...]
) -> None:
    done = installed.run(*words, "--help")
    assert done.returncode == 0, done.stderr
    assert "ask" in done.stdout and "Commands" in done.stdout
    assert quantchat.__version__ in installed.run(*words, "--version").stdout
