"""News that is taken down leaves nothing on the screen."""

from __future__ import annotations

from pathlib import Path

from app_support import make_app, ready, wait_until
from textual.widgets._toast import Toast, ToastHolder

from quantchat.tui.toasts import take_down_news


async def test_nothing_is_left_of_news_and_warnings_stay(tmp_path: Path) -> None:
    app = make_app(tmp_path)
    async with app.run_test(notifications=True) as pilot:
        await ready(pilot, app)
        app.notify("saved")
        app.notify("the disk is nearly full", severity="warning")
        await wait_until(pilot, lambda: len(app.screen.query(Toast)) == 2)
        take_down_news(app)
        await wait_until(pilot, lambda: len(app.screen.query(ToastHolder)) == 1)
        assert [each._notification.severity for each in app.screen.query(Toast)] == ["warning"]
