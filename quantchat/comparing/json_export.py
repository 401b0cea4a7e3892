"""A comparison as JSON: every field of the record, and the figures that follow from them.

Owns the file's frame and version. Figures are for scripts; reading a file back ignores them.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

from quantchat.comparing.difference import agreement, decode_ratio, divergence, same_tokens
from quantchat.comparing.plain import from_plain, to_plain
from quantchat.comparing.record import Comparison, Round
from quantchat.errors import UsageError

SCHEMA = "quantchat.comparison"
SCHEMA_VERSION = 1
LIMIT_CHARACTERS = 256 * 2**20


def as_object(comparison: Comparison) -> dict[str, Any]:
    """The comparison as plain values, with the figures of every round."""
    found: dict[str, Any] = {
        "schema": SCHEMA,
        "schema_version": SCHEMA_VERSION,
        "made": datetime.fromtimestamp(comparison.made_s, UTC).isoformat(timespec="seconds"),
        **to_plain(comparison),
    }
    for told, round_ in zip(found["rounds"], comparison.rounds, strict=True):
        told["figures"] = _figures(round_)
    left, right = comparison.left, comparison.right
    found["figures"] = {
        "weight_ratio": left.weight_bytes / right.weight_bytes if right.weight_bytes else None,
        "saved_bytes": left.weight_bytes - right.weight_bytes,
    }
    return found


def to_json(comparison: Comparison, *, indent: int | None = 1) -> str:
    """The comparison as JSON text; `indent` None puts it on one line."""
    return json.dumps(as_object(comparison), ensure_ascii=False, allow_nan=False, indent=indent)


def from_json(text: str) -> Comparison:
    """The comparison that was written; raises UsageError saying what is wrong with the text."""
    if len(text) > LIMIT_CHARACTERS:
        raise UsageError(f"the file is longer than {LIMIT_CHARACTERS} characters")
    try:
        found = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"the file is not JSON: {error}") from error
    if not isinstance(found, dict) or found.get("schema") != SCHEMA:
        raise UsageError("the file is not a comparison", hint="one that quantchat exported as JSON")
    if found.get("schema_version") != SCHEMA_VERSION:
        raise UsageError(
            f"the file has version {found.get('schema_version')!r}, "
            f"this quantchat reads {SCHEMA_VERSION}",
            hint="update quantchat",
        )
    return from_plain(Comparison, found)


def _figures(round_: Round) -> dict[str, Any]:
    right = round_.right
    parting = None if right is None else divergence(round_.left, right)
    agreed = agreement(round_.scores)
    return {
        "same_tokens": same_tokens(round_),
        "divergence": to_plain(parting),
        "decode_ratio": decode_ratio(round_),
        "agreement": to_plain(agreed),
    }
