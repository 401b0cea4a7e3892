"""The schema and one value at a time."""

from __future__ import annotations

import math
from typing import get_type_hints

import pytest

from quantchat.errors import SettingsError
from quantchat.requests import Sampling
from quantchat.settings.model import Settings
from quantchat.settings.schema import SETTINGS, SPECS, spec_of
from quantchat.settings.spec import TEXT_LIMIT, SettingSpec, Value

TYPES = {"bool": bool, "int": int, "float": float, "text": str, "multiline": str, "choice": str}


def test_typed_view_and_schema_name_the_same_settings() -> None:
    hints = get_type_hints(Settings)
    assert set(hints) == {spec.key for spec in SETTINGS}
    assert {spec.key: TYPES[spec.kind] for spec in SETTINGS} == hints


@pytest.mark.parametrize("spec", SETTINGS, ids=lambda spec: spec.key)
def test_every_spec_is_whole(spec: SettingSpec) -> None:
    assert spec.check(spec.default) == spec.default
    assert type(spec.default) is TYPES[spec.kind]
    assert getattr(Settings(), spec.key) == spec.default
    assert spec.title and spec.help.endswith(".") and spec.section
    assert (spec.kind == "choice") == bool(spec.choices or spec.choices_from)
    if spec.kind in ("int", "float"):
        assert spec.minimum is not None and spec.maximum is not None and spec.step


def test_sections_are_not_scattered() -> None:
    sections = [spec.section for spec in SETTINGS]
    runs = [name for place, name in enumerate(sections) if sections[:place][-1:] != [name]]
    assert len(runs) == len(set(runs))


def test_sampling_defaults_are_the_engine_s() -> None:
    assert Settings().sampling() == Sampling()


def test_sampling_carries_every_value() -> None:
    settings = Settings(
        temperature=0.0, top_k=40, top_p=0.5, min_p=0.1, repetition_penalty=1.1, seed=0
    )
    assert settings.sampling() == Sampling(
        temperature=0.0, top_k=40, top_p=0.5, min_p=0.1, repetition_penalty=1.1, seed=0
    )


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("temperature", -0.1),
        ("temperature", 5.01),
        ("temperature", math.nan),
        ("temperature", math.inf),
        ("temperature", 10**400),
        ("temperature", True),
        ("temperature", "0.5"),
        ("top_k", 1.0),
        ("top_k", -1),
        ("top_k", True),
        ("seed", -2),
        ("seed", 2**63),
        ("enter_sends", 1),
        ("enter_sends", "true"),
        ("kv", "int7"),
        ("kv", 8),
        ("scheme", ""),
        ("scheme", "a\nb"),
        ("model", None),
        ("system_prompt", ["a"]),
        ("system_prompt", "x" * (TEXT_LIMIT + 1)),
        ("system_prompt", "\ud800"),
    ],
)
def test_bad_values_are_refused_by_key(key: str, value: object) -> None:
    with pytest.raises(SettingsError) as caught:
        Settings().with_value(key, value)
    assert caught.value.message.startswith(f"{key}: ")
    assert caught.value.hint
    assert len(caught.value.message) < 200 or key == "temperature"


def test_unknown_key_names_the_known() -> None:
    with pytest.raises(SettingsError) as caught:
        Settings().with_value("temprature", 1.0)
    assert "temperature" in caught.value.hint


def test_with_value_changes_one_and_keeps_the_type() -> None:
    settings = Settings().with_value("temperature", 1)
    assert settings.temperature == 1.0 and type(settings.temperature) is float
    assert Settings().temperature == SPECS["temperature"].default
    assert settings.with_value("temperature", SPECS["temperature"].default) == Settings()


def test_line_ends_are_the_same_everywhere() -> None:
    assert Settings().with_value("system_prompt", "a\r\nb").system_prompt == "a\nb"


def test_the_record_itself_refuses_bad_values() -> None:
    with pytest.raises(SettingsError):
        Settings(top_p=2.0)


@pytest.mark.parametrize(
    ("key", "text", "value"),
    [
        ("temperature", " 0.25 ", 0.25),
        ("temperature", "1", 1.0),
        ("top_k", "40", 40),
        ("enter_sends", "Off", False),
        ("enter_sends", "yes", True),
        ("kv", " int8 ", "int8"),
        ("system_prompt", "  be kind\n", "  be kind\n"),
    ],
)
def test_parse_reads_what_a_person_types(key: str, text: str, value: Value) -> None:
    parsed = spec_of(key).parse(text)
    assert parsed == value and type(parsed) is type(value)


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("temperature", "warm"),
        ("temperature", "nan"),
        ("temperature", ""),
        ("top_k", "4.5"),
        ("top_k", "9" * 5000),
        ("enter_sends", "maybe"),
        ("kv", "INT8"),
    ],
)
def test_parse_refuses_with_a_hint(key: str, text: str) -> None:
    with pytest.raises(SettingsError) as caught:
        spec_of(key).parse(text)
    assert caught.value.hint.startswith("it takes ")


def test_kv_choices_are_the_plan_s() -> None:
    from quantchat.kv_formats import KV_FORMATS
    from quantchat.settings.schema import SETTINGS

    kv = next(spec for spec in SETTINGS if spec.key == "kv")
    assert kv.choices == ("auto", *KV_FORMATS)
