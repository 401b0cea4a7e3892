"""Every function of kernels/ that Python calls is fully typed; only Triton's own are exempt."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

KERNELS = Path(__file__).resolve().parents[2] / "kernels"
FILES = sorted(KERNELS.rglob("*.py"))
COMPILERS = {"triton", "gluon"}


def names_in(node: ast.AST) -> set[str]:
    """Names that an expression begins with or calls."""
    return {part.id for part in ast.walk(node) if isinstance(part, ast.Name)}


def untyped(path: Path) -> list[str]:
    """Names of functions that lack an annotation and are not compiled by Triton."""
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.FunctionDef):
            continue
        if any(COMPILERS & names_in(decorator) for decorator in node.decorator_list):
            continue
        arguments = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        bare = [argument.arg for argument in arguments if argument.annotation is None]
        if node.returns is None or set(bare) - {"self", "cls"}:
            found.append(node.name)
    return found


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(KERNELS)))
def test_functions_are_typed(path: Path) -> None:
    assert untyped(path) == []


def test_the_check_finds_what_it_looks_for(tmp_path: Path) -> None:
    path = tmp_path / "example.py"
    path.write_text(
        "@triton.jit\ndef kernel(a): pass\n"
        "@gluon.jit\ndef lanes(a): pass\n"
        "@functools.cache\ndef kept(a) -> int: pass\n"
        "@triton.autotune(configs=[])\n@triton.jit\ndef tuned(a): pass\n"
        "def good(a: int, *, b: int) -> int: return a\n"
        "def bad(a, b: int) -> int: return b\n"
        "def worse(a: int): pass\n"
    )
    assert untyped(path) == ["kept", "bad", "worse"]
