"""What one repository offers to fetch: its safetensors folder and each of its GGUF models.

Owns the labels (format, type, bits, size), read from the list of files and config.json; no weight
is opened, so a label is what the names and the config claim.
"""

from __future__ import annotations

import re
import threading
from dataclasses import dataclass
from typing import Any

from quantchat.errors import Cancelled
from quantchat.hub.http import SourceError, get_bytes, parse_json
from quantchat.hub.hub_api import Hub, Listed, Listing, check_online
from quantchat.hub.hub_files import INDEX, gguf_files, lone_weights, side_files
from quantchat.hub.manifest import Container
from quantchat.hub.search import license_of, parameters_of, plain, tags_of, time_limit
from quantchat.hub.splits import split_parts

VARIANTS_S = 15.0
_CONFIG_BYTES = 1 << 20
_SHARD = re.compile(r"[^/]+-\d{5}-of-\d{5}\.safetensors")
_GGUF_TYPE = re.compile(
    r"(?:^|[-._/])((?:UD-)?(?:I?Q\d+(?:_[A-Z0-9]+)*|TQ\d_\d|BF16|F16|F32|FP16|FP32|MXFP4(?:_MOE)?))"
    r"(?=[-._/]|$)",
    re.IGNORECASE,
)
_BITS = re.compile(r"(?:UD-)?I?T?Q(\d+)", re.IGNORECASE)
_PLAIN_BITS = {"BF16": 16.0, "F16": 16.0, "FP16": 16.0, "F32": 32.0, "FP32": 32.0}
_DTYPE_BITS = {"bfloat16": 16.0, "float16": 16.0, "float32": 32.0}
_METHODS = {
    "awq": "AWQ",
    "gptq": "GPTQ",
    "bitsandbytes": "bitsandbytes",
    "compressed-tensors": "compressed-tensors",
    "fp8": "FP8",
    "mxfp4": "MXFP4",
    "squeezellm": "SqueezeLLM",
    "qserve": "QServe",
}
_METHOD_BITS = {"fp8": 8.0, "mxfp4": 4.25, "awq": 4.0, "squeezellm": 4.0, "qserve": 4.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """One thing that `fetch` takes from a repository."""

    name: str
    """What to give to `fetch`."""
    container: Container
    label: str
    """Format or type, such as Q4_K_M, AWQ or BF16."""
    bits: float | None
    """Per weight by name, without scales; None where nothing tells."""
    size_bytes: int
    files: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """A repository and its variants, smallest first."""

    repo: str
    """Its name today."""
    revision: str
    gated: bool
    private: bool
    may_fetch: bool
    """False where a licence must be accepted or a log-in is missing."""
    license: str
    parameters: int
    """0 where not told."""
    architecture: str
    config: dict[str, Any]
    """The parsed config.json; empty where there is none or it may not be read."""
    variants: tuple[Variant, ...]
    refusal: str = ""
    """Why it may not be fetched, and what to do."""
    hint: str = ""


def variants(repo: str, *, timeout_s: float = VARIANTS_S, cancel: threading.Event) -> Offer:
    """Look a repository up. Raises Cancelled, SourceError in words for each kind of refusal."""
    check_online()
    with time_limit(cancel, timeout_s) as stop:
        hub = Hub(stop.event, patient=False)
        try:
            listing = hub.listing(repo)
            may_fetch = hub.may_fetch(listing)
            config = _config(hub, listing) if may_fetch else {}
        except Cancelled:
            stop.check(hub.host)
            raise
    refusal = None if may_fetch else hub.gated(listing.repo)
    names = config.get("architectures")
    tags = tags_of(listing.data)
    found = [_gguf(listing, name) for name in gguf_files(listing)]
    folder = _folder(listing, config)
    if folder is not None:
        found.append(folder)
    return Offer(
        repo=listing.repo,
        revision=listing.revision,
        gated=listing.gated,
        private=listing.private,
        may_fetch=may_fetch,
        license=license_of(tags),
        parameters=parameters_of(listing.data),
        architecture=plain(str(names[0])) if isinstance(names, list) and names else "",
        config=config,
        variants=tuple(sorted(found, key=lambda each: (each.size_bytes, each.name))),
        refusal=refusal.message if refusal is not None else "",
        hint=refusal.hint if refusal is not None else "",
    )


def gguf_type(name: str) -> str:
    """The type in a GGUF file's name, such as Q4_K_M; empty where it names none."""
    found = _GGUF_TYPE.findall(name.removesuffix(".gguf"))
    return str(found[-1]).upper() if found else ""


def type_bits(label: str) -> float | None:
    """Bits per weight that a GGUF type's name tells."""
    if label in _PLAIN_BITS:
        return _PLAIN_BITS[label]
    if label.startswith("MXFP4"):
        return 4.25
    found = _BITS.match(label)
    return float(found[1]) if found is not None else None


def config_label(config: dict[str, Any]) -> tuple[str, float | None]:
    """Format and bits of a safetensors folder by its config."""
    told = config.get("quantization_config")
    if not isinstance(told, dict):
        dtype = str(config.get("torch_dtype") or config.get("dtype") or "")
        bits = _DTYPE_BITS.get(dtype)
        return {16.0: "BF16" if dtype == "bfloat16" else "FP16", 32.0: "FP32"}.get(
            bits or 0.0, "safetensors"
        ), bits
    method = str(told.get("quant_method") or "").lower()
    label = _METHODS.get(method) or plain(method) or "quantized"
    bits = told.get("bits", told.get("w_bit"))
    if isinstance(bits, int) and 0 < bits <= 32:
        return label, float(bits)
    if method == "bitsandbytes":
        return label, 4.0 if told.get("load_in_4bit") or told.get("_load_in_4bit") else 8.0
    if method == "compressed-tensors":
        return label, _group_bits(told)
    return label, _METHOD_BITS.get(method)


def _group_bits(told: dict[str, Any]) -> float | None:
    groups = told.get("config_groups")
    for group in groups.values() if isinstance(groups, dict) else ():
        weights = group.get("weights") if isinstance(group, dict) else None
        bits = weights.get("num_bits") if isinstance(weights, dict) else None
        if isinstance(bits, int) and 0 < bits <= 32:
            return float(bits)
    return None


def _gguf(listing: Listing, name: str) -> Variant:
    parts = split_parts(name) or (name,)
    label = gguf_type(name)
    return Variant(
        name=f"{listing.repo}:{name}",
        container="gguf",
        label=label or "GGUF",
        bits=type_bits(label),
        size_bytes=sum(listing.files[part].size_bytes for part in parts),
        files=len(parts),
    )


def _folder(listing: Listing, config: dict[str, Any]) -> Variant | None:
    """The safetensors folder; its size may count shards that the index does not name."""
    if "config.json" not in listing.files:
        return None
    lone = lone_weights(listing) if INDEX not in listing.files else None
    weights: list[Listed] = [lone] if lone is not None else []
    if not weights and INDEX in listing.files:
        weights = [file for path, file in listing.files.items() if _SHARD.fullmatch(path)]
        weights = [file for file in weights if "consolidated" not in file.path]
        weights.append(listing.files[INDEX])
    if not weights:
        return None
    label, bits = config_label(config)
    files = [*weights, *side_files(listing)]
    return Variant(
        name=listing.repo,
        container="safetensors",
        label=label,
        bits=bits,
        size_bytes=sum(file.size_bytes for file in files),
        files=len(files),
    )


def _config(hub: Hub, listing: Listing) -> dict[str, Any]:
    """config.json; empty where there is none."""
    file = listing.files.get("config.json")
    if file is None or file.size_bytes > _CONFIG_BYTES:
        return {}
    remote = hub.remote(listing, file)
    status, _, body, _ = get_bytes(
        remote.url,
        cancel=hub.cancel,
        limit_bytes=_CONFIG_BYTES,
        authorization=remote.authorization,
    )
    if status != 200:
        raise SourceError(f"{hub.host} answered {status} for config.json of {listing.repo}")
    data = parse_json(body, hub.host)
    return data if isinstance(data, dict) else {}
