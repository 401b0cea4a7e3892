"""Every binding has an id and words; the user's keys replace ours everywhere they are shown."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from app_support import answered, ask, fake, make_app, ready, wait_until
from textual.binding import Binding

from quantchat.tui.app import QuantchatApp
from quantchat.tui.keymap import (
    bounds_of,
    checked,
    is_character,
    key_of,
    keyed_classes,
    long_key,
    short_key,
    with_ids,
)
from quantchat.tui.screens.chat import ChatScreen
from quantchat.tui.screens.help import HelpScreen
from quantchat.tui.screens.schemes import SchemesScreen
from quantchat.tui.widgets.bars import KeyBar

CLASSES = keyed_classes(QuantchatApp)


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__name__)
def test_every_binding_has_an_id_of_its_own_and_words(cls: type) -> None:
    bounds = bounds_of(cls)
    assert bounds and len({bound.id for bound in bounds}) == len(bounds)
    for bound in bounds:
        assert re.fullmatch(r"[a-z_]+\.[a-z0-9_]+", bound.id), bound
        assert len(bound.description) > 1, bound
        assert bound.keys and all(bound.keys)


def test_no_binding_of_ours_is_without_an_id() -> None:
    """Also in classes that forgot to be Keyed."""
    import importlib
    import pkgutil

    for package in ("quantchat.tui.screens", "quantchat.tui.widgets"):
        parent = importlib.import_module(package)
        for entry in pkgutil.iter_modules(parent.__path__):
            module = importlib.import_module(f"{package}.{entry.name}")
            for value in vars(module).values():
                if isinstance(value, type) and value.__module__ == module.__name__:
                    for each in value.__dict__.get("BINDINGS", ()):
                        assert isinstance(each, Binding) and each.id, (value, each)


def test_ids_are_unique_among_all_classes() -> None:
    owners: dict[str, type] = {}
    for cls in CLASSES:
        for bound in bounds_of(cls):
            other = owners.setdefault(bound.id, cls)
            assert other is cls or set(other.__mro__) & set(cls.__mro__[:-1]), bound.id


def test_our_own_keys_do_not_clash() -> None:
    """As they are, no two bindings of a screen share a key."""
    for cls in CLASSES:
        seen: dict[str, str] = {}
        for bound in bounds_of(cls):
            for key in bound.keys:
                assert seen.setdefault(key, bound.id) == bound.id, (cls, key)


def test_ids_come_from_actions() -> None:
    made = with_ids("a", [("x", "go(-1)", "Go"), Binding("y", "screen.go('b')"), ("z", "go(-1)")])
    assert [each.id for each in made if isinstance(each, Binding)] == [
        *("a.go_back", "a.go_b", "a.go_back_2")
    ]


def test_what_cannot_be_is_said_and_left_as_it_is() -> None:
    keys, problems = checked(
        QuantchatApp,
        {
            "chat.new": "ctrl+r",
            "chat.regenerate": "ctrl+n",
            "app.models": "ctrl+l",
            "nope": "f3",
            "app.quit": "q",
            "schemes.kv": "v",
            "chat.go_on": "ctrl+z",
            "chat.toggle_meters": "ctrl+k",
            "dial.load": "l",
        },
    )
    assert keys == {
        "chat.new": "ctrl+r",
        "chat.regenerate": "ctrl+n",
        "schemes.kv": "v",
        "chat.toggle_meters": "ctrl+k",
        "dial.load": "l",
    }
    assert problems == [
        "keys: nothing is called 'nope'; f1 shows the names",
        "keys: app.quit: q would be typed; take a key with ctrl or alt",
        "keys: chat.go_on: ^z edits what is written; take another key",
        "keys: app.models: ^l is the key of app.conversations already; left as it is",
    ]
    keys, problems = checked(QuantchatApp, {"app.models": "ctrl+g"})
    assert not keys and "chat.go_on" in problems[0], "the chat's keys work beside the app's"
    keys, problems = checked(QuantchatApp, {"chat.new": "f12", "chat.to_end": "f12"})
    assert len(keys) == 1 and "f12" in problems[0]


def test_keys_are_written_short_and_long() -> None:
    names = ("ctrl+r", "alt+left", "escape", "question_mark", "f5", "ctrl+home", "r", "ctrl+alt+up")
    assert [short_key(name) for name in names] == [
        *("^r", "alt+←", "esc", "?", "f5", "^home", "r", "ctrl+alt+↑")
    ]
    assert [long_key(name) for name in names] == [
        *("Ctrl+R", "Alt+Left", "Escape", "?", "F5", "Ctrl+Home", "r", "Ctrl+Alt+Up")
    ]
    assert is_character("r") and is_character("slash") and not is_character("f1")


async def test_the_user_s_keys_work_and_are_shown_everywhere(tmp_path: Path) -> None:
    (tmp_path / "settings.toml").write_text(
        '[keys]\n"chat.regenerate" = "alt+y"\n"app.schemes" = "f12"\n"app.help" = "f11"\n'
        '"schemes.kv" = "v"\n"no.such" = "f3"\n"app.quit" = "q"\n'
    )
    app = make_app(tmp_path)
    async with app.run_test(size=(200, 50)) as pilot:
        await ready(pilot, app)
        said = "\n".join(each.message for each in app._notifications)
        assert "no.such" in said and "app.quit: q would be typed" in said
        await ask(pilot, app, "go")
        await answered(pilot, app, 2)
        bar = app.chat_screen.query_one(KeyBar)
        assert "alt+y again" in bar.render().plain and "f12 scheme" in bar.render().plain
        await pilot.press("ctrl+r")
        await pilot.press("alt+y")
        await wait_until(pilot, lambda: len(fake(app).chats) == 2)
        commands = {command.title: command.help for command in app.get_system_commands(app.screen)}
        assert commands["Answer again"].endswith("(alt+y)")
        assert commands["Dial"].endswith("(alt+↑)")
        await answered(pilot, app, 2)
        await pilot.press("f11")
        await wait_until(pilot, lambda: isinstance(app.screen, HelpScreen))
        screen = app.screen
        assert isinstance(screen, HelpScreen)
        text = screen.keys_text(names=True)
        assert re.search(r"\| Alt\+Y \| answer again.*\| `chat\.regenerate` \|", text)
        assert (
            "| v | other KV precision | `schemes.kv` |" in text and "| Ctrl+R | answer" not in text
        )
        assert text.startswith("# Chat")
        await pilot.press("escape")
        await pilot.press("f12")
        await wait_until(pilot, lambda: app.screen.query("#table"))
        assert "v KV precision" in app.screen.query_one(KeyBar).render().plain
        await pilot.press("v")
        await wait_until(pilot, lambda: "KV 16bit" in str(app.screen.query_one("#title").render()))
        await pilot.press("escape")
        (tmp_path / "settings.toml").write_text('[keys]\n"chat.regenerate" = "alt+r"\n')
        app.action_read_keys()
        await wait_until(pilot, lambda: "alt+r again" in bar.render().plain)
        assert "f5 scheme" in bar.render().plain


async def test_every_key_on_a_key_line_is_bound(tmp_path: Path) -> None:
    """What the bottom line names as an action's key is what a binding has."""
    app = make_app(tmp_path)
    async with app.run_test(size=(200, 50)) as pilot:
        await ready(pilot, app)
        unbound = {"screen.send"}
        for key in app.chat_screen.query_one(KeyBar)._keys:
            if key.action and key.action not in unbound:
                assert key_of(app, ChatScreen, key.action), key


async def test_the_help_names_every_binding(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot, app)
        await pilot.press("f1")
        await wait_until(pilot, lambda: isinstance(app.screen, HelpScreen))
        screen = app.screen
        assert isinstance(screen, HelpScreen)
        # In this window they stand below.
        await wait_until(pilot, lambda: "chat.regenerate" in str(screen.query_one("#text").content))
        for text in (screen.keys_text(names=True), screen.names_text()):
            for cls in CLASSES:
                for bound in bounds_of(cls):
                    assert f"`{bound.id}`" in text, bound
        await pilot.press("f1")
        await wait_until(pilot, lambda: not isinstance(app.screen, HelpScreen))
        await pilot.press("f5")
        await wait_until(pilot, lambda: isinstance(app.screen, SchemesScreen))
        await pilot.press("f1")
        await wait_until(pilot, lambda: isinstance(app.screen, HelpScreen))
        assert app.screen.keys_text(names=False).startswith("# Schemes")
        await pilot.press("q")
        await wait_until(pilot, lambda: isinstance(app.screen, SchemesScreen))
