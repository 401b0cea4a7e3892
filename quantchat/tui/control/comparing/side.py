"""One side of a comparison: what is chosen for it and what is loaded there."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, TypeAlias

from quantchat.events import LoadProgress, MemoryUse, ModelInfo
from quantchat.requests import LoadRequest, Slot
from quantchat.settings.model import Settings
from quantchat.store.votes import Contender
from quantchat.tui.figures import model_name

SideName: TypeAlias = Literal["left", "right"]
NAMES: tuple[SideName, SideName] = ("left", "right")


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """What a side is asked to be."""

    model: str
    """Empty takes the chat's model."""
    scheme: str
    kv: str

    @staticmethod
    def of(settings: Settings, name: SideName) -> Choice:
        """As the settings remember it."""
        if name == "left":
            return Choice(
                model=settings.compare_left_model,
                scheme=settings.compare_left_scheme,
                kv=settings.compare_left_kv,
            )
        return Choice(
            model=settings.compare_right_model,
            scheme=settings.compare_right_scheme,
            kv=settings.compare_right_kv,
        )

    def kept(self, name: SideName) -> dict[str, object]:
        """As the settings remember it."""
        prefix = f"compare_{name}"
        return {
            f"{prefix}_model": self.model,
            f"{prefix}_scheme": self.scheme,
            f"{prefix}_kv": self.kv,
        }

    def request(self, settings: Settings, slot: Slot) -> LoadRequest:
        """The load that brings it in."""
        return LoadRequest(
            slot=slot,
            model=self.model or settings.model,
            scheme=self.scheme,
            kv=self.kv,
            device=settings.device,
            context_tokens=settings.context_tokens,
            calibration_file=settings.calibration_file,
            tune=settings.tune == "auto",
        )


@dataclass(slots=True, kw_only=True)
class Side:
    """One pane's model: its slot, what is loaded there, what went wrong."""

    name: SideName
    choice: Choice
    chat_model: str
    """Whom a choice without a model means."""
    info: ModelInfo | None = None
    """Of the model that is, or was last, loaded there."""
    loaded: bool = False
    memory: MemoryUse | None = None
    """None while nothing is loaded."""
    progress: LoadProgress | None = None
    problem: str = ""
    load_id: int = 0
    """Of the load under way; 0 when there is none."""
    worked: Choice | None = None
    """The choice behind `info`."""
    wish: Choice = field(init=False)
    """The latest choice, whether it was loaded or not."""

    def __post_init__(self) -> None:
        self.wish = self.choice

    @property
    def slot(self) -> Slot:
        """Where its model lives in the engine."""
        return self.name

    @property
    def scheme(self) -> str:
        """As it is loaded, else as it was chosen."""
        return self.info.scheme if self.info is not None else self.choice.scheme

    @property
    def contender(self) -> Contender:
        """For votes: as it is loaded."""
        if self.info is None:
            model = self.choice.model or self.chat_model
            return Contender(model=model, scheme=self.choice.scheme, kv=self.choice.kv)
        return Contender(model=self.info.model, scheme=self.info.scheme, kv=self.info.kv)

    def emptied(self) -> None:
        """Its slot is empty; what it was is remembered."""
        self.loaded, self.memory = False, None

    def back_to_what_worked(self) -> None:
        """The load failed: what is loaded goes on."""
        if self.worked is not None:
            self.choice = self.worked


def labels(left: Side, right: Side) -> tuple[str, str]:
    """What tells the two apart, in a few characters each."""
    return told_apart(left.contender, right.contender)


def told_apart(left: Contender, right: Contender) -> tuple[str, str]:
    """Scheme, with the model before and the KV precision behind it where they differ."""
    words: list[str] = []
    for one in (left, right):
        parts = [one.scheme]
        if left.model != right.model:
            parts.insert(0, model_name(one.model))
        if left.kv != right.kv:
            parts.append(f"kv {one.kv}")
        words.append(" ".join(parts))
    if words[0] == words[1]:
        return f"{words[0]} (left)", f"{words[1]} (right)"
    return words[0], words[1]
