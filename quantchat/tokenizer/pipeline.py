"""What a tokenizer.json does to every text, checked before any text goes through it.

Owns the bounds: a row of steps each of which lengthens the text, or a pattern that tries everything
with everything, takes forever in a library that cannot be stopped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from quantchat.errors import UnsupportedModelError
from quantchat.tokenizer.rust import guarded

if TYPE_CHECKING:
    import tokenizers

MOST_STEPS = 32
MOST_GROWTH = 256
"""Real ones lengthen a text 12-fold at most, where each of its characters is a space."""
MOST_PATTERN_CHARS = 4096
GROWTH: Mapping[str, float] = MappingProxyType(
    {
        "ByteLevel": 2,
        "Lowercase": 2,
        "NFC": 3,
        "NFD": 3,
        "BertNormalizer": 3,
        "Metaspace": 4,
        "NFKC": 11,
        "NFKD": 11,
        "Precompiled": 11,
    }
)
"""How often as long a text may become in a step; those not named here lengthen nothing."""
_INNER = ("normalizers", "pretokenizers", "decoders")
_HINT = "a real model's tokenizer is simpler; get it from another source"

_TOKEN = re.compile(
    r"\\.|\[(?:\\.|\[:\^?\w+:\]|[^\]\\])*\]|\(\?(?:[a-zA-Z-]*:|<?[=!]|<\w+>|>)?|.", re.DOTALL
)
_REPEATED = re.compile(r"[*+]|\{\d*,\d*\}")
_REPEATING = re.compile(r"[*+]|\{\d+(?:,\d*)?\}")


def check_pipeline(path: Path, backend: tokenizers.Tokenizer) -> None:
    """Raises UnsupportedModelError where encoding could take without end."""
    growth, count = 1.0, 0
    for part in (backend.normalizer, backend.pre_tokenizer):
        for step in steps_of(path, part):
            count += 1
            growth *= _growth(step)
            pattern = step.get("pattern")
            if isinstance(pattern, dict) and isinstance(pattern.get("Regex"), str):
                _check_pattern(path, pattern["Regex"])
    if count > MOST_STEPS or growth > MOST_GROWTH:
        raise UnsupportedModelError(
            path, f"has a tokenizer of {count} steps that swell any text", hint=_HINT
        )


def steps_of(path: Path, part: Any) -> list[dict[str, Any]]:
    """The steps of a normalizer, pre-tokenizer or decoder in order, sequences opened."""
    if part is None:
        return []
    with guarded(path, "is not a tokenizer"):
        return list(_flat(json.loads(part.__getstate__())))


def _flat(step: Any) -> Iterator[dict[str, Any]]:
    if not isinstance(step, dict):
        return
    inner = next((step[key] for key in _INNER if isinstance(step.get(key), list)), None)
    if inner is None:
        yield step
    for each in inner or ():
        yield from _flat(each)


def _growth(step: Mapping[str, Any]) -> float:
    kind = str(step.get("type"))
    if kind == "Prepend":
        return 1 + len(str(step.get("prepend", "")).encode("utf-8", "replace"))
    if kind == "Replace":
        pattern = step.get("pattern")
        found = pattern.get("String") if isinstance(pattern, dict) else None
        least = len(found.encode("utf-8", "replace")) if isinstance(found, str) else 0
        content = len(str(step.get("content", "")).encode("utf-8", "replace"))
        return max(1.0, content / least) if least else 1 + content
    return GROWTH.get(kind, 1)


def _check_pattern(path: Path, pattern: str) -> None:
    if len(pattern) > MOST_PATTERN_CHARS or _nested(pattern):
        raise UnsupportedModelError(
            path,
            f"cuts words by a pattern that may take forever: {pattern[:60]!r}",
            hint=_HINT,
        )


def _nested(pattern: str) -> bool:
    """Whether a group that repeats holds something that repeats any number of times."""
    open_groups = [False]
    at = 0
    while at < len(pattern):
        match = _TOKEN.match(pattern, at)
        assert match is not None
        token, at = match[0], match.end()
        if token.startswith("(") and not token.startswith("\\"):
            open_groups.append(False)
        elif token == ")" and len(open_groups) > 1:
            inner = open_groups.pop()
            if inner and _REPEATING.match(pattern, at):
                return True
            open_groups[-1] |= inner or _REPEATED.match(pattern, at) is not None
        elif _REPEATED.match(pattern, at) and token not in "*+?|":
            open_groups[-1] = True
    return False
