"""GGUF files that lie, field by field: counts, types, lengths, offsets, values of metadata."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field, replace
from random import Random
from typing import TypeAlias

import fuzz_bytes
import raw_gguf
from fuzz_json import TEXTS, mutated, text_of

STRING, ARRAY, BOOL = 8, 9, 7
WIDTHS = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
FLOATS = (float("nan"), float("inf"), -float("inf"), 0.0, -0.0, -1.0, 1e-30, 1e30, 5e-324, 3.4e38)

Key: TypeAlias = tuple[bytes, int, bytes]
"""Name, value type, payload."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One description, its counts as they are or as it claims."""

    name: bytes
    sizes: tuple[int, ...]
    kind: int
    offset: int
    dimensions: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Gguf:
    """A file taken apart."""

    keys: tuple[Key, ...]
    tensors: tuple[Tensor, ...]
    data: bytes
    version: int = 3
    magic: bytes = raw_gguf.MAGIC
    claims: dict[str, int] = field(default_factory=dict)

    def file(self) -> bytes:
        """The whole file."""
        return raw_gguf.file(
            keys=[raw_gguf.key(*key) for key in self.keys],
            tensors=[
                raw_gguf.tensor(
                    t.name, t.sizes, kind=t.kind, offset=t.offset, dimensions=t.dimensions
                )
                for t in self.tensors
            ],
            data=self.data,
            magic=self.magic,
            version=self.version,
            key_count=self.claims.get("keys"),
            tensor_count=self.claims.get("tensors"),
        )


def parse(data: bytes) -> Gguf:
    """A sound file taken apart; alignment 32."""
    version, tensors, keys = struct.unpack_from("<IQQ", data, 4)
    at = 24
    found: list[Key] = []
    for _ in range(keys):
        name, at = _text(data, at)
        (kind,) = struct.unpack_from("<I", data, at)
        end = _value_end(data, at + 4, kind)
        found.append((name, kind, data[at + 4 : end]))
        at = end
    described = []
    for _ in range(tensors):
        name, at = _text(data, at)
        (count,) = struct.unpack_from("<I", data, at)
        sizes = struct.unpack_from(f"<{count}Q", data, at + 4)
        kind, offset = struct.unpack_from("<IQ", data, at + 4 + 8 * count)
        at += 16 + 8 * count
        described.append(Tensor(name=name, sizes=sizes, kind=kind, offset=offset))
    start = -(-at // 32) * 32
    parts = Gguf(keys=tuple(found), tensors=tuple(described), data=data[start:], version=version)
    assert parts.file() == data
    return parts


def damaged(random: Random, sound: Gguf, *, prefix: bytes = b"") -> bytes:
    """A file with one to four lies; `prefix` narrows those in metadata to keys of that start."""
    file = sound
    for _ in range(random.choice([1, 1, 1, 2, 4])):
        what = random.random()
        if prefix or what < 0.5:
            file = replace(file, keys=_keys(random, file.keys, prefix))
        elif what < 0.9:
            file = replace(file, tensors=_tensors(random, file.tensors, len(file.data)))
        else:
            file = _frame(random, file)
    data = file.file()
    if random.random() < 0.15:
        data = fuzz_bytes.mutated(random, data, reach=max(64, len(data) - len(file.data)))
    return data


def _text(data: bytes, at: int) -> tuple[bytes, int]:
    (length,) = struct.unpack_from("<Q", data, at)
    return data[at + 8 : at + 8 + length], at + 8 + length


def _value_end(data: bytes, at: int, kind: int) -> int:
    if kind == STRING:
        return _text(data, at)[1]
    if kind != ARRAY:
        return at + WIDTHS[kind]
    inner, count = struct.unpack_from("<IQ", data, at)
    at += 12
    if inner != STRING:
        return at + int(count) * WIDTHS[inner]
    for _ in range(count):
        _, at = _text(data, at)
    return at


def _frame(random: Random, file: Gguf) -> Gguf:
    what = random.randrange(6)
    count = random.choice(fuzz_bytes.EXTREMES)
    if what == 0:
        return replace(
            file, claims={**file.claims, "keys": random.choice([count, len(file.keys) + 1])}
        )
    if what == 1:
        near = random.choice([count, len(file.tensors) - 1, len(file.tensors) + 1])
        return replace(file, claims={**file.claims, "tensors": max(near, 0)})
    if what == 2:
        return replace(file, version=random.choice([0, 1, 2, 4, 3 << 24, 2**32 - 1]))
    if what == 3:
        return replace(file, magic=random.choice([b"GGML", b"gguf", b"\0\0\0\0", b"FUGG"]))
    return replace(file, data=file.data[: random.randrange(len(file.data) + 1)])


def _keys(random: Random, keys: tuple[Key, ...], prefix: bytes) -> tuple[Key, ...]:
    places = [n for n, key in enumerate(keys) if key[0].startswith(prefix)]
    if not places:
        return keys
    n = random.choice(places)
    name, kind, payload = keys[n]
    what = random.random()
    if what < 0.08:
        return keys[:n] + keys[n + 1 :]
    if what < 0.12:
        return (*keys, keys[n])
    if what < 0.17:
        odd = [text.encode("utf-8", "surrogatepass") for text in TEXTS if isinstance(text, str)]
        changed: Key = (random.choice([*odd, b"\xff\xfe", name + b"x"]), kind, payload)
    elif what < 0.25:
        other = keys[random.choice(places)]
        changed = (name, other[1], other[2])
    elif what < 0.3:
        changed = (name, random.choice([*range(14), 77, 2**31, 2**32 - 1]), payload)
    elif kind == ARRAY:
        changed = (name, kind, _array(random, payload))
    elif kind == STRING:
        changed = (name, kind, _string(random, payload[8:]))
    else:
        changed = (name, *_scalar(random, kind))
    return (*keys[:n], changed, *keys[n + 1 :])


def _scalar(random: Random, kind: int) -> tuple[int, bytes]:
    if kind == 6:
        return kind, struct.pack("<f", random.choice(FLOATS))
    if kind == 12:
        return kind, struct.pack("<d", random.choice([*FLOATS, 1e300]))
    if kind == BOOL or kind not in WIDTHS or random.random() < 0.2:
        return BOOL, bytes([random.choice([0, 1, 2, 255])])
    packs = {1: "<B", 2: "<H", 4: "<I", 8: "<Q"}
    return kind, fuzz_bytes.extreme(random, packs[WIDTHS[kind]])


def _string(random: Random, data: bytes) -> bytes:
    what = random.random()
    if what < 0.2:
        return raw_gguf.text(data, claimed=random.choice([*fuzz_bytes.EXTREMES, len(data) + 1]))
    if what < 0.5:
        return raw_gguf.text(fuzz_bytes.mutated(random, data or b"x"))
    return raw_gguf.text(text_of(random, mutated(random, data.decode("utf-8", "replace"))))


def _array(random: Random, payload: bytes) -> bytes:
    if len(payload) < 12:  # an earlier lie
        return payload
    inner, count = struct.unpack_from("<IQ", payload)
    body = payload[12:]
    what = random.random()
    if what < 0.15:
        count = random.choice([*fuzz_bytes.EXTREMES, count + 1, max(count - 1, 0)])
    elif what < 0.25:
        inner = random.choice([*range(14), 99, 2**31])
    elif inner not in WIDTHS and inner != STRING:
        return payload
    elif inner == STRING:
        texts = _texts(body, count)
        texts = _listed(random, texts)
        count, body = len(texts), b"".join(texts)
    else:
        body = _numbers(random, inner, body)
        if random.random() < 0.2:
            count = len(body) // WIDTHS[inner] + random.choice([-1, 1])
            body = body[: max(count, 0) * WIDTHS[inner]].ljust(count * WIDTHS[inner], b"\0")
            count = max(count, 0)
    return struct.pack("<IQ", inner, count) + body


def _texts(body: bytes, count: int) -> list[bytes]:
    found, at = [], 0
    for _ in range(count):
        if at + 8 > len(body):
            break  # an earlier lie
        _, end = _text(body, at)
        found.append(body[at:end])
        at = end
    return found


def _listed(random: Random, texts: list[bytes]) -> list[bytes]:
    for _ in range(random.randint(1, 4)):
        if not texts:
            return texts
        n = random.randrange(len(texts))
        what = random.random()
        if what < 0.15:
            texts[n] = texts[random.randrange(len(texts))]
        elif what < 0.25:
            del texts[n]
        elif what < 0.35:
            texts.insert(n, raw_gguf.text(random.choice([b"", b" ", b"a b", b"\xff", b"a" * 5000])))
        elif what < 0.42:
            texts.reverse()
        elif what < 0.47:
            texts = texts[: random.randrange(len(texts) + 1)]
        else:
            texts[n] = _string(random, texts[n][8:])
    return texts


def _numbers(random: Random, inner: int, body: bytes) -> bytes:
    content, width = bytearray(body), WIDTHS[inner]
    for _ in range(random.choice([1, 3, 30])):
        if len(content) < width:
            break
        at = random.randrange(len(content) // width) * width
        content[at : at + width] = _scalar(random, inner)[1][:width].ljust(width, b"\0")
    return bytes(content)


def _tensors(random: Random, tensors: tuple[Tensor, ...], size: int) -> tuple[Tensor, ...]:
    if not tensors:
        return tensors
    n = random.randrange(len(tensors))
    old, other = tensors[n], random.choice(tensors)
    what = random.random()
    if what < 0.1:
        return tensors[:n] + tensors[n + 1 :]
    if what < 0.15:
        return (*tensors, old)
    if what < 0.35:
        made = replace(old, sizes=_sizes(random, old.sizes))
    elif what < 0.42:
        made = replace(old, dimensions=random.choice([0, 1, 2, 3, 4, 5, 2**31, 2**32 - 1]))
    elif what < 0.6:
        made = replace(old, kind=random.choice([*range(42), 2**31, 2**32 - 1]))
    elif what < 0.85:
        wraps = [2**64 - 32, 2**63, size, size - size % 32, other.offset, other.offset + 32]
        made = replace(old, offset=random.choice([*wraps, old.offset + 1, max(old.offset - 32, 0)]))
    elif what < 0.93:
        made = replace(
            old, name=random.choice([other.name, b"", b"\xff", b"x" * 300, old.name + b"\0"])
        )
    else:
        made = replace(other, name=old.name)
    return (*tensors[:n], made, *tensors[n + 1 :])


def _sizes(random: Random, sizes: tuple[int, ...]) -> tuple[int, ...]:
    what = random.random()
    if what < 0.2:
        return tuple(reversed(sizes))
    if what < 0.3:
        return (*sizes, random.choice([1, 2, 2**63]))
    if what < 0.4 or not sizes:
        return sizes[1:]
    n = random.randrange(len(sizes))
    near = [sizes[n] + 1, sizes[n] - 1, sizes[n] * 2, sizes[n] // 2, sizes[n] + 32]
    return (*sizes[:n], random.choice([*near, random.choice(fuzz_bytes.EXTREMES)]), *sizes[n + 1 :])
