"""What can be set, as data: the settings pane, the file and the command line are drawn from it.

Owns keys, defaults, bounds and the check of one value. Does not own the typed view (model) or
the file (file). Choices that other packages know (schemes, models, themes) are named, not listed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

from quantchat.errors import SettingsError

Value: TypeAlias = bool | int | float | str
Kind: TypeAlias = Literal["bool", "int", "float", "text", "multiline", "choice"]
ChoiceSource: TypeAlias = Literal["schemes", "models", "themes"]

TEXT_LIMIT = 65_536
"""Longest text value in characters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SettingSpec:
    """One setting: how it is called, explained, drawn and checked."""

    key: str
    title: str
    help: str
    section: str
    kind: Kind
    default: Value
    choices: tuple[str, ...] = ()
    """All the words allowed, for a choice known here."""
    choices_from: ChoiceSource | None = None
    """Who knows the words, for a choice that grows elsewhere."""
    minimum: float | None = None
    maximum: float | None = None
    step: float | None = None

    def check(self, value: object) -> Value:
        """The value in the setting's own type; raises SettingsError saying what is allowed."""
        match self.kind:
            case "bool":
                if isinstance(value, bool):
                    return value
                raise self._refusal(value, "true or false")
            case "int":
                if isinstance(value, int) and not isinstance(value, bool):
                    return self._in_bounds(value)
                raise self._refusal(value, f"a whole number{self._bounds()}")
            case "float":
                if isinstance(value, int | float) and not isinstance(value, bool):
                    return self._in_bounds(_finite(value, self))
                raise self._refusal(value, f"a number{self._bounds()}")
            case "choice":
                return self._choice(value)
            case "text" | "multiline":
                return self._text(value)

    def parse(self, text: str) -> Value:
        """The value that a person typed; raises SettingsError."""
        word = text.strip()
        try:
            match self.kind:
                case "bool":
                    return _WORDS[word.lower()]
                case "int":
                    return self.check(int(word))
                case "float":
                    return self.check(float(word))
                case "choice":
                    return self.check(word)
                case "text" | "multiline":
                    return self.check(text)
        except (ValueError, KeyError):
            wanted = {"bool": "true or false", "int": f"a whole number{self._bounds()}"}
            raise self._refusal(text, wanted.get(self.kind, f"a number{self._bounds()}")) from None

    def _choice(self, value: object) -> str:
        if not isinstance(value, str):
            raise self._refusal(value, "a word")
        if self.choices and value not in self.choices:
            raise self._refusal(value, f"one of {', '.join(self.choices)}")
        if not value or len(value) > 4096 or not value.isprintable():
            raise self._refusal(value, f"a name out of {self.choices_from}")
        return value

    def _text(self, value: object) -> str:
        if not isinstance(value, str):
            raise self._refusal(value, "text")
        if len(value) > TEXT_LIMIT:
            raise self._refusal(value, f"at most {TEXT_LIMIT} characters")
        if any("\ud800" <= character <= "\udfff" for character in value):
            raise self._refusal(value, "whole characters")
        if self.kind == "text" and "\n" in value:
            raise self._refusal(value, "a single line")
        return value.replace("\r\n", "\n")

    def _in_bounds(self, value: float) -> float:
        low, high = self.minimum, self.maximum
        if (low is not None and value < low) or (high is not None and value > high):
            raise self._refusal(value, f"a value{self._bounds()}")
        return value

    def _bounds(self) -> str:
        match self.minimum, self.maximum:
            case None, None:
                return ""
            case low, None:
                return f" of at least {low:g}"
            case None, high:
                return f" of at most {high:g}"
            case low, high:
                return f" from {low:g} to {high:g}"

    def _refusal(self, value: object, wanted: str) -> SettingsError:
        shown = repr(value)
        shown = shown if len(shown) <= 60 else shown[:57] + "..."
        return SettingsError(f"{self.key}: {shown} is not allowed", hint=f"it takes {wanted}")


_WORDS = {"true": True, "yes": True, "on": True, "1": True} | {
    "false": False,
    "no": False,
    "off": False,
    "0": False,
}


def _finite(value: float, spec: SettingSpec) -> float:
    number = float(value) if abs(value) < 1e300 else math.inf
    if not math.isfinite(number):
        raise SettingsError(
            f"{spec.key}: {value!r} is not allowed", hint="it takes a finite number"
        )
    return number


KV_CHOICES = ("auto", "16bit", "fp8", "int8", "k8v4", "int4r", "int4")

SETTINGS: tuple[SettingSpec, ...] = (
    SettingSpec(
        key="model",
        title="Model",
        help="Alias, repository id, folder or file of the model that opens with the app.",
        section="Model",
        kind="choice",
        choices_from="models",
        default="starter",
    ),
    SettingSpec(
        key="scheme",
        title="Scheme",
        help="How weights are stored and multiplied; auto takes what the plan finds best here.",
        section="Model",
        kind="choice",
        choices_from="schemes",
        default="auto",
    ),
    SettingSpec(
        key="kv",
        title="KV cache",
        help=(
            "Precision of the keys and values kept per token; auto follows the device. "
            "k8v4: K in 8 bits, V in 4; int4r: 4 bits, K rotated first, better than int4."
        ),
        section="Model",
        kind="choice",
        choices=KV_CHOICES,
        default="auto",
    ),
    SettingSpec(
        key="device",
        title="Device",
        help="Where the model runs; auto takes the GPU when there is one.",
        section="Model",
        kind="choice",
        choices=("auto", "cpu", "cuda"),
        default="auto",
    ),
    SettingSpec(
        key="context_tokens",
        title="Context",
        help="Longest context in tokens; 0 takes what fits.",
        section="Model",
        kind="int",
        default=0,
        minimum=0,
        maximum=16_777_216,
        step=1024,
    ),
    SettingSpec(
        key="calibration_file",
        title="Calibration text",
        help="A UTF-8 file that calibrated schemes look at; empty: the model writes its own text.",
        section="Model",
        kind="text",
        default="",
    ),
    SettingSpec(
        key="tune",
        title="Tuning",
        help="auto times kernels on a card that has no table of its own, once for each model shape "
        "and at most for seconds; off takes them as they come.",
        section="Model",
        kind="choice",
        choices=("auto", "off"),
        default="auto",
    ),
    SettingSpec(
        key="system_prompt",
        title="System prompt",
        help="Stands before every new conversation; empty leaves it to the model's template.",
        section="Answers",
        kind="multiline",
        default="",
    ),
    SettingSpec(
        key="temperature",
        title="Temperature",
        help="0 always takes the likeliest token; higher is more varied.",
        section="Answers",
        kind="float",
        default=0.7,
        minimum=0.0,
        maximum=5.0,
        step=0.1,
    ),
    SettingSpec(
        key="top_k",
        title="Top-k",
        help="Keep the k likeliest tokens; 0 keeps all.",
        section="Answers",
        kind="int",
        default=0,
        minimum=0,
        maximum=1_000_000,
        step=10,
    ),
    SettingSpec(
        key="top_p",
        title="Top-p",
        help="Keep the smallest set of tokens whose probability reaches p; 1 keeps all.",
        section="Answers",
        kind="float",
        default=0.95,
        minimum=0.0,
        maximum=1.0,
        step=0.05,
    ),
    SettingSpec(
        key="min_p",
        title="Min-p",
        help="Drop tokens below this share of the likeliest one's probability; 0 drops none.",
        section="Answers",
        kind="float",
        default=0.0,
        minimum=0.0,
        maximum=1.0,
        step=0.01,
    ),
    SettingSpec(
        key="repetition_penalty",
        title="Repetition penalty",
        help="Above 1 makes tokens that are already there less likely; 1 does nothing.",
        section="Answers",
        kind="float",
        default=1.0,
        minimum=0.1,
        maximum=10.0,
        step=0.05,
    ),
    SettingSpec(
        key="seed",
        title="Seed",
        help="The same seed gives the same text; -1 draws a fresh one each time.",
        section="Answers",
        kind="int",
        default=-1,
        minimum=-1,
        maximum=2**63 - 1,
        step=1,
    ),
    SettingSpec(
        key="max_tokens",
        title="Longest answer",
        help="In tokens; 0 is bounded by the context alone.",
        section="Answers",
        kind="int",
        default=0,
        minimum=0,
        maximum=16_777_216,
        step=64,
    ),
    SettingSpec(
        key="theme",
        title="Theme",
        help="Colours of the app; files in the themes folder are listed too.",
        section="Screen",
        kind="choice",
        choices_from="themes",
        default="ink",
    ),
    SettingSpec(
        key="enter_sends",
        title="Enter sends",
        help="On: Enter sends, Shift+Enter or Ctrl+J makes a new line. Off: the other way round.",
        section="Screen",
        kind="bool",
        default=True,
    ),
    SettingSpec(
        key="show_meters",
        title="Meters",
        help="Show latency and memory beside the conversation.",
        section="Screen",
        kind="bool",
        default=True,
    ),
    SettingSpec(
        key="animations",
        title="Animations",
        help="Off keeps the screen still: better for mouse selection and slow lines.",
        section="Screen",
        kind="bool",
        default=True,
    ),
    SettingSpec(
        key="compare_mode",
        title="Mode",
        help="free: each writes its own answer; guided: the left writes, the right scores the same "
        "tokens; blind: unlabelled, you vote.",
        section="Side by side",
        kind="choice",
        choices=("free", "guided", "blind"),
        default="free",
    ),
    SettingSpec(
        key="compare_left_model",
        title="Left model",
        help="Model of the left pane, side by side; empty takes the chat's.",
        section="Side by side",
        kind="text",
        default="",
    ),
    SettingSpec(
        key="compare_left_scheme",
        title="Left scheme",
        help="Scheme of the left pane, side by side.",
        section="Side by side",
        kind="choice",
        choices_from="schemes",
        default="fp16",
    ),
    SettingSpec(
        key="compare_left_kv",
        title="Left KV cache",
        help="KV precision of the left pane, side by side.",
        section="Side by side",
        kind="choice",
        choices=KV_CHOICES,
        default="auto",
    ),
    SettingSpec(
        key="compare_right_model",
        title="Right model",
        help="Model of the right pane, side by side; empty takes the chat's.",
        section="Side by side",
        kind="text",
        default="",
    ),
    SettingSpec(
        key="compare_right_scheme",
        title="Right scheme",
        help="Scheme of the right pane, side by side.",
        section="Side by side",
        kind="choice",
        choices_from="schemes",
        default="int4",
    ),
    SettingSpec(
        key="compare_right_kv",
        title="Right KV cache",
        help="KV precision of the right pane, side by side.",
        section="Side by side",
        kind="choice",
        choices=KV_CHOICES,
        default="auto",
    ),
)

SPECS: Mapping[str, SettingSpec] = MappingProxyType({spec.key: spec for spec in SETTINGS})


def spec_of(key: str) -> SettingSpec:
    """The setting of that key; raises SettingsError naming the known ones."""
    try:
        return SPECS[key]
    except KeyError:
        raise SettingsError(
            f"unknown setting {key!r}", hint=f"one of: {', '.join(SPECS)}"
        ) from None
