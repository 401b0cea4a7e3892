"""What a load could not keep as the file has it is said once, and stays to be read."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from app_support import fake, make_app, ready, wait_until
from fake_facts import model_info
from fakes import FakeEngine

from quantchat.requests import LoadRequest
from quantchat.tui.app import QuantchatApp
from quantchat.tui.markup.palette import palette_from
from quantchat.tui.reading import Reading
from quantchat.tui.screens.explain import explanation

NOTES = (
    "Q6_K blocks re-encoded as int8 rows: relative error 0.93 %",
    "the file's scales of an 8-bit KV cache are not used",
)


def told(app: QuantchatApp, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is said from now on of files, however long it is shown."""
    found: list[str] = []

    def notify(message: str, *, title: str = "", **_: object) -> None:
        if "as the file has it" in title:
            found.append(message)

    monkeypatch.setattr(app, "notify", notify)
    return found


async def test_what_is_rounded_is_said_once_for_each_scheme(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(tmp_path, engine=FakeEngine(notes=NOTES), scheme="int8")
    found = told(app, monkeypatch)
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        await wait_until(pilot, lambda: found == ["\n".join(NOTES)])
        for count, (scheme, known) in enumerate((("int4", 2), ("int8", 2), ("fp8", 3)), start=2):
            app.switching.take(scheme, "auto")
            await wait_until(
                pilot, lambda wanted=scheme: app.loads.info and app.loads.info.scheme == wanted
            )
            assert len(fake(app).loads) == count
            await wait_until(pilot, lambda known=known: len(found) == known)
        assert len(found) == 3


async def test_the_next_start_does_not_say_it_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    starts = []
    for _ in range(2):
        app = make_app(tmp_path, engine=FakeEngine(notes=NOTES), scheme="int8")
        starts.append(told(app, monkeypatch))
        async with app.run_test(size=(120, 40)) as pilot:
            await ready(pilot, app)
            await app.workers.wait_for_complete()
    assert starts == [["\n".join(NOTES)], []]


def test_the_model_meter_explains_it() -> None:
    info = replace(model_info(LoadRequest(model="starter")), notes=NOTES)
    palette = palette_from({})
    lines = [line.plain for line in explanation("model", Reading(info=info), (), 64, palette)]
    assert "Not as the file has it:" in lines
    assert "relative error 0.93 %" in " ".join(lines)


async def test_nothing_is_said_of_a_file_that_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app(tmp_path)
    found = told(app, monkeypatch)
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot, app)
        assert not found
