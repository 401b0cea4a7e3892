"""Typed getters: value, default, or one line with file, key and what was found."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from quantchat.checkpoints.facts import Facts
from quantchat.errors import CheckpointError

FACTS = Facts(
    Path("m/config.json"),
    {
        "text": "silu",
        "whole": 64,
        "real": 0.5,
        "yes": True,
        "nothing": None,
        "nan": float("nan"),
        "vast": 10**400,
        "texts": ["a", "b"],
        "mixed": [1, "a"],
        "flags": [True, False],
        "wholes": [1, 2],
        "empty": [],
        "rope": {"factor": 8, "type": None},
    },
)


def test_values() -> None:
    assert FACTS.text("text") == "silu" and FACTS.integer("whole") == 64
    assert FACTS.number("real") == 0.5 and FACTS.number("whole") == 64.0
    assert FACTS.flag("yes") is True and FACTS.texts("texts") == ["a", "b"]
    assert FACTS.integers("wholes") == [1, 2] and FACTS.numbers("wholes") == [1.0, 2.0]
    assert FACTS.integers("empty") == [] and FACTS.section("rope").number("factor") == 8
    assert len(FACTS) == 13 and "whole" in FACTS and FACTS["whole"] == 64


def test_missing_is_an_error_a_default_or_none() -> None:
    for key in ("none", "nothing"):
        with pytest.raises(CheckpointError, match=f"config.json: {key} is missing"):
            FACTS.integer(key)
        assert FACTS.integer(key, default=0) == 0 and FACTS.flag(key, default=False) is False
        assert FACTS.number(key, default=1.0) == 1.0 and FACTS.text(key, default="") == ""
        assert FACTS.optional_integer(key) is None and FACTS.optional_text(key) is None
        assert FACTS.optional_flag(key) is None and FACTS.optional_number(key) is None
        assert FACTS.optional_section(key) is None and FACTS.optional_texts(key) is None


@pytest.mark.parametrize(
    ("read", "key"),
    [
        (Facts.text, "whole"),
        (Facts.integer, "yes"),
        (Facts.integer, "real"),
        (Facts.integer, "text"),
        (Facts.number, "yes"),
        (Facts.number, "nan"),
        (Facts.number, "vast"),
        (Facts.flag, "whole"),
        (Facts.texts, "mixed"),
        (Facts.texts, "text"),
        (Facts.integers, "flags"),
        (Facts.numbers, "mixed"),
        (Facts.section, "texts"),
    ],
)
def test_the_wrong_type_is_named(read: Callable[[Facts, str], Any], key: str) -> None:
    with pytest.raises(CheckpointError, match=f"config.json: {key} is .* expected") as caught:
        read(FACTS, key)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 200


def test_a_wrong_type_is_no_default() -> None:
    with pytest.raises(CheckpointError, match="whole is integer 64, text expected"):
        FACTS.text("whole", default="x")


def test_bounds() -> None:
    assert FACTS.integer("whole", minimum=64, maximum=64) == 64
    with pytest.raises(CheckpointError, match="whole is 64, at least 65 expected"):
        FACTS.integer("whole", minimum=65)
    with pytest.raises(CheckpointError, match="whole is 64, at most 63 expected"):
        FACTS.integer("whole", maximum=63)
    with pytest.raises(CheckpointError, match=r"vast is .* at most 9 expected"):
        FACTS.integer("vast", maximum=9)


def test_nested_keys_are_named_in_full() -> None:
    with pytest.raises(CheckpointError, match=r"rope\.type is missing"):
        FACTS.section("rope").text("type")
