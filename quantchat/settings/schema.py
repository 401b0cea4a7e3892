"""What can be set, as data: the settings pane, the file and the command line are drawn from it.

Owns keys, defaults and bounds. Does not own the check of a value (spec), the typed view (model) or
the file (file). Choices that other packages know (schemes, models, themes) are named, not listed.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from quantchat.errors import SettingsError
from quantchat.kv_formats import KV_FORMATS
from quantchat.settings.spec import SettingSpec

KV_CHOICES = ("auto", *KV_FORMATS)

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
