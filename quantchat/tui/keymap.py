"""Every binding has an id, and the user's keys stand in for ours: which keys work now, by name.

Owns ids, the check of the user's keys against what there is, and how keys are written on the
screen. Reading the file belongs to `settings.keys`, taking the keys to Textual's keymap.
"""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, ClassVar

from textual.app import App
from textual.binding import Binding, BindingType
from textual.dom import DOMNode
from textual.keys import _character_to_key

SHORT_NAMES = {
    "escape": "esc",
    "pageup": "pgup",
    "pagedown": "pgdn",
    "question_mark": "?",
    "slash": "/",
    "at": "@",
    "plus": "+",
    "minus": "-",
    "full_stop": ".",
    "comma": ",",
    "delete": "del",
    "backspace": "bksp",
    "left": "←",
    "right": "→",
    "up": "↑",
    "down": "↓",
}
LONG_NAMES = {"pageup": "PageUp", "pagedown": "PageDown", "question_mark": "?", "slash": "/"} | {
    "plus": "+",
    "minus": "-",
    "at": "@",
    "full_stop": ".",
    "comma": ",",
}
PACKAGES = ("quantchat.tui.screens", "quantchat.tui.widgets")


class Keyed:
    """Gives every binding of a class an id: the class's word, a dot, what the binding does."""

    KEYS_TITLE: ClassVar[str] = ""
    """Heading of the class's keys in the help; a class without one is named by its scope."""

    def __init_subclass__(cls, **kwargs: Any) -> None:
        bindings = cls.__dict__.get("BINDINGS")
        if bindings:
            cls.BINDINGS = with_ids(scope_of(cls), bindings)  # type: ignore[attr-defined]
        super().__init_subclass__(**kwargs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """A binding with the keys that it has by itself."""

    id: str
    action: str
    description: str
    keys: tuple[str, ...]
    priority: bool
    """Its keys reach it before the text that is written."""


def scope_of(cls: type) -> str:
    """ChatScreen -> chat."""
    name = cls.__name__.removeprefix("_").removesuffix("Screen").removesuffix("App")
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", name).lower() if name != "Quantchat" else "app"


def with_ids(scope: str, bindings: Iterable[BindingType]) -> list[BindingType]:
    """The bindings, each with an id of its own; one that is given without a dot gets the scope."""
    taken: set[str] = set()
    named: list[BindingType] = []
    for each in bindings:
        binding = each if isinstance(each, Binding) else Binding(*each)
        name = binding.id or f"{scope}.{_slug(binding.action)}"
        name = name if "." in name else f"{scope}.{name}"
        whole, number = name, 2
        while whole in taken:
            whole, number = f"{name}_{number}", number + 1
        taken.add(whole)
        named.append(replace(binding, id=whole))
    return named


@cache
def bounds_of(cls: type) -> tuple[Bound, ...]:
    """What a class of ours and those it inherits from bind."""
    found: dict[str, Bound] = {}
    for base in reversed(cls.__mro__):
        if not issubclass(base, Keyed):
            continue
        for each in base.__dict__.get("BINDINGS", ()):
            if isinstance(each, Binding) and each.id is not None:
                keys = tuple(_normal(key) for key in each.key.split(","))
                found[each.id] = Bound(
                    id=each.id,
                    action=each.action,
                    description=each.description,
                    keys=keys,
                    priority=each.priority,
                )
    return tuple(found.values())


def keyed_classes(app: type) -> list[type[DOMNode]]:
    """The app, every screen and every widget that binds keys, in the order of their modules.

    What another one inherits from is left out: its keys are among the heir's.
    """
    found: dict[str, type[DOMNode]] = {app.__name__: app}
    for package in PACKAGES:
        parent = importlib.import_module(package)
        for entry in sorted(pkgutil.iter_modules(parent.__path__), key=lambda each: each.name):
            module = importlib.import_module(f"{package}.{entry.name}")
            for value in vars(module).values():
                ours = isinstance(value, type) and issubclass(value, Keyed)
                if ours and value.__module__ == module.__name__ and "BINDINGS" in vars(value):
                    found.setdefault(value.__name__, value)
    every = list(found.values())
    return [cls for cls in every if not any(cls in other.__mro__[1:] for other in every)]


def keys_of(app: App[Any], bound: Bound) -> tuple[str, ...]:
    """The keys that a binding has now."""
    theirs = app._keymap.get(bound.id, "")
    return tuple(theirs.split(",")) if theirs else bound.keys


def key_of(app: App[Any], node: type, action: str) -> str:
    """The first key of an action as `screen.send` names it, on that screen; "" for none."""
    where, _, name = action.rpartition(".") if "(" not in action else _split(action)
    for cls in (type(app),) if where == "app" else (node, type(app)):
        for bound in bounds_of(cls):
            # An action without arguments is any of its kind: choose is choose(-1) and choose(1).
            if bound.action in (name, action) or bound.action.partition("(")[0] == name:
                return keys_of(app, bound)[0]
    return ""


def checked(
    app: type, keys: Mapping[str, str], *, classes: Sequence[type] = ()
) -> tuple[dict[str, str], list[str]]:
    """The user's keys that can be used, and what is said of the others."""
    every = list(classes) or keyed_classes(app)
    of_class = {cls: bounds_of(cls) for cls in every}
    known = {bound.id: bound for bounds in of_class.values() for bound in bounds}
    without_text = {
        bound.id
        for bounds in of_class.values()
        if any(is_character(key) for bound in bounds for key in bound.keys)
        for bound in bounds
    }
    taken: dict[str, str] = {}
    problems: list[str] = []
    for name, text in keys.items():
        bound = known.get(name)
        if bound is None:
            problems.append(f"keys: nothing is called {name[:60]!r}; f1 shows the names")
            continue
        problem = "" if name in without_text else _typing_problem(bound, text.split(","))
        if problem:
            problems.append(f"keys: {name}: {problem}")
        else:
            taken[name] = text
    for cls in every:
        around = of_class[cls] if cls is app else [*of_class[cls], *_outer(cls, app, of_class)]
        problems += _part_clashes(around, taken)
    return taken, list(dict.fromkeys(problems))


def _typing_problem(bound: Bound, keys: Sequence[str]) -> str:
    """Why a key does not reach a binding of a screen on which something is written."""
    for key in keys:
        if is_character(key):
            return f"{key} would be typed; take a key with ctrl or alt"
        if not bound.priority and key not in bound.keys and key in text_keys():
            return f"{short_key(key)} edits what is written; take another key"
    return ""


@cache
def text_keys() -> frozenset[str]:
    """Keys that a text field takes for itself."""
    from textual.widgets import Input, TextArea

    found: set[str] = {"enter", "tab"}
    for cls in (TextArea, Input):
        for each in cls.BINDINGS:
            assert isinstance(each, Binding)
            found.update(key.strip() for key in each.key.split(","))
    return frozenset(found)


def _outer(cls: type, app: type, of_class: Mapping[type, tuple[Bound, ...]]) -> tuple[Bound, ...]:
    """What works on a screen beside its own keys: the app's, unless it stands above another."""
    from textual.screen import ModalScreen

    return () if issubclass(cls, ModalScreen) else of_class.get(app, ())


def _part_clashes(bounds: Sequence[Bound], taken: dict[str, str]) -> list[str]:
    """Take back user's keys that another binding of the place has; what is said of them."""
    problems = []
    by_key: dict[str, list[Bound]] = {}
    for bound in bounds:
        keys = taken[bound.id].split(",") if bound.id in taken else bound.keys
        for key in keys:
            by_key.setdefault(key, []).append(bound)
    for key, sharing in by_key.items():
        changed = [bound for bound in sharing if bound.id in taken]
        ours = [bound for bound in sharing if bound.id not in taken]
        for bound in changed if ours else changed[1:]:
            other = ours[0] if ours else changed[0]
            if key in bound.keys and key in other.keys:
                continue
            taken.pop(bound.id, None)
            problems.append(
                f"keys: {bound.id}: {short_key(key)} is the key of {other.id} already; left as it is"
            )
    return problems


def is_character(key: str) -> bool:
    """Whether a key is a character that would be typed into a text."""
    if "+" in key:
        return False
    return len(key) == 1 or key == "space" or key in _PUNCTUATION


def short_key(key: str) -> str:
    """As the key line has it: ^r, f5, alt+←."""
    *modifiers, last = key.split("+")
    last = SHORT_NAMES.get(last, last)
    if modifiers == ["ctrl"]:
        return f"^{last}"
    return "+".join([*modifiers, last])


def long_key(key: str) -> str:
    """As the help has it: Ctrl+R, F5, Alt+Left."""
    *modifiers, last = key.split("+")
    if not modifiers and len(last) == 1:
        return last
    last = LONG_NAMES.get(last, last.replace("_", " ").capitalize())
    return "+".join([*(word.capitalize() for word in modifiers), last])


def _normal(key: str) -> str:
    key = key.strip()
    return _character_to_key(key) if len(key) == 1 else key


def _slug(action: str) -> str:
    name = action.removeprefix("screen.").removeprefix("app.").lower()
    name = name.replace("(-1)", "_back").replace("(1)", "_forward").replace("-", "minus_")
    return re.sub(r"[^a-z0-9]+", "_", name).strip("_")


def _split(action: str) -> tuple[str, str, str]:
    head, paren, rest = action.partition("(")
    where, dot, name = head.rpartition(".")
    return where, dot, name + paren + rest


_PUNCTUATION = frozenset(_character_to_key(each) for each in "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
