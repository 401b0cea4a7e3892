"""Recommended models: they come with their scheme, and the first start names one."""

from __future__ import annotations

from pathlib import Path

import pytest
from app_support import FakeLibrary, make_app, wait_until
from picker_app import Library, opened

from quantchat.settings.model import Settings
from quantchat.tui.app import QuantchatApp
from quantchat.tui.control.library import ShelfPick
from quantchat.tui.control.preferences import Preferences, scheme_for


async def test_a_recommended_model_comes_with_its_scheme(tmp_path: Path) -> None:
    library = Library()
    library.picks = [ShelfPick(name="other", scheme="int4", memory="8 GiB")]
    async with opened(tmp_path, library) as made:
        await made.until(lambda: "8 GiB, int4" in made.text)
        assert made.picker.rows.go_to("other")
        await made.until(lambda: "loads it in int4" in made.about)
        assert made.app.preferences.settings.scheme == "auto"
        await made.pilot.press("enter")
        await made.until(lambda: made.app.loads.info and made.app.loads.info.model == "other")
        assert made.app.loads.answering is not None
        assert made.app.loads.answering.scheme == "int4"
        assert made.app.preferences.settings.scheme == "int4"
        # Its line among the downloads went first, its line on disk came later.
        await made.until(lambda: made.chosen == "other" and "◆ other" in made.text)


@pytest.mark.parametrize(
    ("now", "scheme", "model", "would"),
    [
        ("starter", "auto", "qwen3-4b", "int8"),
        ("starter", "fp16", "qwen3-4b", "fp16"),
        ("starter", "fp16", "other", "fp16"),
        ("qwen3-4b", "int8", "starter", "auto"),
        ("qwen3-4b", "int8", "qwen2.5-1.5b", "int4"),
        ("qwen3-4b", "fp16", "starter", "fp16"),
        ("qwen3-4b", "fp16", "qwen3-4b", "fp16"),
    ],
)
def test_a_recommended_scheme_goes_with_its_model(
    now: str, scheme: str, model: str, would: str
) -> None:
    settings = Settings(model=now, scheme=scheme)
    assert scheme_for(settings, model) == would
    preferences = Preferences(settings, None)
    assert preferences.choose(model) == ""
    assert (preferences.settings.model, preferences.settings.scheme) == (model, would)
    assert scheme_for(settings, "qwen2.5-7b", recommended=True) == "int8"
    preferences.choose("other", "nf4")
    assert preferences.settings.scheme == "nf4"


async def test_the_first_start_names_the_model_for_this_machine(tmp_path: Path) -> None:
    library = FakeLibrary(on_disk=False)
    library.picks = [ShelfPick(name="other", scheme="int4", memory="8 GiB", best=True)]
    app = make_app(tmp_path, library=library)
    async with app.run_test(size=(80, 24)) as pilot:
        await wait_until(pilot, lambda: app.loads.state == "missing")
        await wait_until(pilot, lambda: "★ other suits this machine best" in welcome(app))
        assert "Enter" in welcome(app)


def welcome(app: QuantchatApp) -> str:
    """The middle of an empty conversation, as it was drawn last."""
    return app.chat_screen.transcript._empty.plain
