"""What makes or repeats things in a template without a call, made one: calls are counted.

Owns the change of the syntax tree; `sandbox` has the functions that are called.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from jinja2 import nodes
from jinja2.visitor import NodeTransformer


class Counted(NodeTransformer):
    """What makes or repeats things without a call becomes a call."""

    def visit_For(self, node: nodes.For) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        node.iter = _call("counted", node.iter)
        return node

    def visit_Concat(self, node: nodes.Concat) -> nodes.Node:  # noqa: N802
        self.generic_visit(node)
        return _call("joined", *node.nodes)

    def visit_List(self, node: nodes.List) -> nodes.Node:  # noqa: N802
        return self._watched(node)

    def visit_Dict(self, node: nodes.Dict) -> nodes.Node:  # noqa: N802
        return self._watched(node)

    def visit_Tuple(self, node: nodes.Tuple) -> nodes.Node:  # noqa: N802
        return self._watched(node) if node.ctx == "load" else node

    def visit_Getitem(self, node: nodes.Getitem) -> nodes.Node:  # noqa: N802
        sliced = isinstance(node.arg, nodes.Slice)
        return self._watched(node) if sliced else self.generic_visit(node)

    def _watched(self, node: nodes.Expr) -> nodes.Expr:
        self.generic_visit(node)
        return _call("watched", node)


def _call(name: str, *args: Any) -> nodes.Call:
    line = args[0].lineno if args else 1
    function = nodes.EnvironmentAttribute(name, lineno=line)
    return nodes.Call(function, list(args), [], None, None, lineno=line)


class Steps:
    """A sequence whose length loops may ask for, each value a step."""

    def __init__(self, values: Any, step: Callable[[], None]) -> None:
        self._values = values
        self._step = step

    def __len__(self) -> int:
        return len(self._values)

    def __iter__(self) -> Iterator[Any]:
        for value in self._values:
            self._step()
            yield value
