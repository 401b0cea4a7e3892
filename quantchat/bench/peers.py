"""The engines that can be measured beside ours, and what has to be installed for each."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from quantchat.bench.contest import EngineKind
from quantchat.errors import UsageError


@dataclass(frozen=True, slots=True, kw_only=True)
class Peer:
    """One word of `--peers`."""

    kind: EngineKind
    modules: tuple[str, ...]
    """All must be there."""
    variants: tuple[str, ...]
    cpu_variants: tuple[str, ...]
    """Instead of `variants` where it runs on the CPU."""

    def variants_on(self, device: str) -> tuple[str, ...]:
        """What is measured on cpu or cuda."""
        return self.cpu_variants if device == "cpu" else self.variants

    def missing(self) -> str:
        """Why it cannot run here; empty where it can."""
        absent = [name for name in self.modules if importlib.util.find_spec(name) is None]
        return f"not installed ({', '.join(absent)})" if absent else ""


def _peer(
    kind: EngineKind, modules: tuple[str, ...], *variants: str, cpu: tuple[str, ...] = ()
) -> Peer:
    return Peer(kind=kind, modules=modules, variants=variants, cpu_variants=cpu or variants)


PEERS: Mapping[str, Peer] = MappingProxyType(
    {
        "transformers": _peer("transformers", ("transformers",), "bf16", cpu=("bf16", "fp32")),
        "transformers-static": _peer("transformers", ("transformers",), "bf16-static"),
        "bitsandbytes": _peer("bitsandbytes", ("transformers", "bitsandbytes"), "nf4-dq"),
        "torchao": _peer("torchao", ("transformers", "torchao"), "int4-g128-static"),
        "llama.cpp": _peer("llama.cpp", ("xllamacpp",), "file"),
    }
)
"""transformers eager with its dynamic cache; with static cache and compiled steps; NF4 with double
quantization; int4 weight only, compiled; llama.cpp on the same GGUF file."""


def peer_named(name: str) -> Peer:
    """The peer of that name; raises UsageError naming the known ones."""
    try:
        return PEERS[name]
    except KeyError:
        raise UsageError(f"unknown peer {name!r}", hint=f"one of: {', '.join(PEERS)}") from None
