"""The look of the app: themes of ours and of the user's folder, and what a poor terminal needs.

Owns which themes there are and which one is on. The files themselves are read by `theming`.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from textual.theme import Theme

from quantchat import paths
from quantchat.tui.theming import BrokenTheme, own_themes, user_themes

if TYPE_CHECKING:
    from quantchat.tui.app import QuantchatApp

log = logging.getLogger(__name__)

DEFAULT = "ink"
SIXTEEN = "sixteen"
"""Uses the terminal's own 16 colours."""
PLAIN = "plain"
"""Uses none: what is chosen is reversed."""


class Looks:
    """Themes as the app has them."""

    def __init__(self, app: QuantchatApp) -> None:
        self._app = app
        self.own: tuple[str, ...] = ()
        self.users: tuple[str, ...] = ()
        """Names of the user's themes."""
        self.broken: tuple[BrokenTheme, ...] = ()
        self._shown: Theme | None = None

    def read(self) -> None:
        """Themes of ours and of the user's folder; says which files were left out."""
        app = self._app
        own = own_themes()
        loaded, broken = user_themes(paths.user_themes_dir())
        for name in self.users:
            if name not in {theme.name for theme in loaded} and name != app.theme:
                app.unregister_theme(name)
        # Ours are there again where the user's of that name are gone.
        for theme in own:
            app.register_theme(theme)
        self.own = tuple(theme.name for theme in own)
        for theme in loaded:
            app.register_theme(theme)
        self.users = tuple(theme.name for theme in loaded)
        for each in broken:
            if each not in self.broken:
                log.warning("theme %s left out: %s", each.path, each.reason)
                app.notify(f"Theme {each.path.name} is left out: {each.reason}", severity="warning")
        self.broken = tuple(broken)
        app.forget_theme()

    def names(self) -> list[str]:
        """Ours, the user's, which may stand for one of ours, then those of Textual."""
        first = [*(name for name in self.own if name not in self.users), *self.users]
        return [*first, *sorted(name for name in self._app.available_themes if name not in first)]

    @property
    def few_colours(self) -> bool:
        """Whether the terminal has 16 colours or fewer."""
        app = self._app
        return not app.is_headless and app.console.color_system in ("standard", "windows")

    def wanted(self) -> str:
        """The theme of the settings; one made for few colours, or none, where there are so few."""
        if self._app.no_color:
            return PLAIN
        chosen = self._app.preferences.settings.theme
        if self.few_colours and chosen == DEFAULT:
            return SIXTEEN
        return chosen if chosen in self._app.available_themes else DEFAULT

    def apply(self) -> None:
        """Theme and animations of the settings."""
        app = self._app
        chosen = app.preferences.settings.theme
        if chosen not in app.available_themes:
            app.notify(f"There is no theme {chosen[:40]!r}: {DEFAULT} is used.", severity="warning")
        self.preview(self.wanted())
        app.animation_level = "full" if app.preferences.settings.animations else "none"

    def preview(self, name: str) -> None:
        """Put a theme on without keeping it, anew where it is on already."""
        app = self._app
        if name not in app.available_themes:
            return
        if app.theme == name and self._shown is not None and app.current_theme != self._shown:
            app.mutate_reactive(type(app).theme)
        app.theme = name
        self._shown = app.current_theme
