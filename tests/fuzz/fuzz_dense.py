"""Large files without a lie that take the most memory a byte: nests, numbers, short texts."""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Mapping
from random import Random
from types import MappingProxyType

import fuzz_seeds
import raw_gguf
from fuzz_seeds import Files


def _filled(pattern: Callable[[int], str], size: int) -> str:
    """Patterns joined by commas up to a size."""
    first = pattern(0)
    return ",".join(pattern(n) for n in range(max(1, size // (len(first) + 4))))


JSON: Mapping[str, Callable[[int], str]] = MappingProxyType(
    {
        "lists": lambda size: f'{{"x": [{",".join(["[]"] * (size // 3))}]}}',
        "tables": lambda size: f'{{"x": [{",".join(["{}"] * (size // 3))}]}}',
        "zeros": lambda size: f'{{"x": [{",".join("0" * (size // 2))}]}}',
        "numbers": lambda size: f'{{"x": [{_filled(lambda n: str(n + 1000), size)}]}}',
        "floats": lambda size: f'{{"x": [{_filled(lambda n: f"{n}.5", size)}]}}',
        "texts": lambda size: f'{{"x": [{_filled(lambda n: json.dumps(str(n)), size)}]}}',
        "keys": lambda size: f"{{{_filled(lambda n: f'{json.dumps(str(n))}:0', size)}}}",
        "wide text": lambda size: '{"x": "' + "a" * size + '\U0001f642"}',
        "tables of one": lambda size: (
            f'{{"x": [{_filled(lambda n: f"{{{json.dumps(str(n))}:[]}}", size)}]}}'
        ),
        "tensors": lambda size: "{" + _filled(_tensor, size) + "}",
    }
)
"""Tables of about so many bytes."""


def _tensor(n: int) -> str:
    return f'"{n}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}}'


def _texts(count: int, text: Callable[[int], str]) -> bytes:
    return b"".join(raw_gguf.text(text(n)) for n in range(count))


def _gguf(size: int, random: Random) -> bytes:
    shape = random.randrange(6)
    if shape == 0:
        body = raw_gguf.array("k", random.choice([0, 7]), bytes(size), count=size)
    elif shape == 1:
        body = raw_gguf.array("k", 6, random.randbytes(size // 4 * 4), count=size // 4)
    elif shape == 2:
        body = raw_gguf.array("k", 8, bytes(size // 8 * 8), count=size // 8)
    elif shape == 3:
        count = size // 11
        body = raw_gguf.array("k", 8, _texts(count, lambda n: f"{n % 1000:03d}"), count=count)
    elif shape == 4:
        keys = [raw_gguf.key(f"{n:x}", 0, b"\0") for n in range(min(size // 18, 60000))]
        return raw_gguf.file(keys=keys)
    else:
        tensors = [
            raw_gguf.tensor(f"{n:x}", [1], kind=24, offset=n * 32) for n in range(size // 64)
        ]
        return raw_gguf.file(tensors=tensors, data=bytes(len(tensors) * 32))
    return raw_gguf.file(keys=[body])


def _vocabulary(size: int, kind: str) -> bytes:
    """A true vocabulary of as many short tokens as fit."""
    count = size // 24
    tokens = [f"{n:x}" for n in range(count)]
    prefix = "tokenizer.ggml."
    keys = [
        raw_gguf.string(f"{prefix}model", kind),
        raw_gguf.string(f"{prefix}pre", "gpt-2"),
        raw_gguf.array(f"{prefix}tokens", 8, _texts(count, tokens.__getitem__), count=count),
        raw_gguf.array(f"{prefix}merges", 8, b"", count=0),
        raw_gguf.array(f"{prefix}scores", 6, struct.pack(f"<{count}f", *range(count)), count=count),
    ]
    return raw_gguf.file(keys=keys)


def _many_tokens(size: int) -> bytes:
    """A sound tokenizer.json of as many short tokens as fit."""
    table = fuzz_seeds.tokenizer_json("gpt-2")
    vocab = {**table["model"]["vocab"], **{f"{n:x}": n for n in range(400, 400 + size // 14)}}
    return json.dumps({**table, "model": {**table["model"], "vocab": vocab}}).encode()


def made(random: Random, size: int) -> Files:
    """Files of about that size."""
    what = random.random()
    if what < 0.3:
        return {"m.gguf": _gguf(size, random)}
    if what < 0.4:
        return {"m.gguf": _vocabulary(size, random.choice(["gpt2", "llama"]))}
    if what < 0.45:
        return {"tokenizer.json": _many_tokens(size)}
    if what < 0.5:
        return {
            "chat_template.jinja": random.choice(
                ["{{ a }}", "{% if a %}", "{", "a\n ", "{#"]
            ).encode()
            * (size // 8)
        }
    text = random.choice(list(JSON.values()))(size).encode()
    sound = fuzz_seeds.shards()
    where = random.choice(
        ["config.json", "model.safetensors.index.json", "header", "tokenizer.json"]
    )
    if where == "header":
        folder = fuzz_seeds.family("llama")
        return folder | {"model.safetensors": fuzz_seeds.with_header(text, b"")}
    return {where: text} if where == "tokenizer.json" else sound | {where: text}
