"""The picker of themes: moving puts one on at once, Enter keeps it, Escape goes back."""

from __future__ import annotations

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from quantchat import paths
from quantchat.tui.markup.palette import Palette, palette_from
from quantchat.tui.screens.base import AppDialog
from quantchat.tui.widgets.bars import Key, KeyBar

KEYS = (
    Key(key="enter", text="keep", action="screen.keep"),
    Key(text="read again", action="screen.read"),
    Key(text="back", action="screen.leave"),
)


class ThemesScreen(AppDialog[None]):
    """Stands at the right, so that the conversation shows what a theme is like."""

    KEYS_TITLE = "Themes"
    CSS_PATH = "themes.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back to the theme before"),
        Binding("enter", "keep", "Keep this theme", show=False),
        Binding("r", "read", "Read the theme files again"),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._before = self.desk.theme
        self._names: list[str] = []

    def compose(self) -> ComposeResult:
        with Vertical(id="box"):
            yield Static("Themes", id="title")
            yield OptionList(id="list")
            yield Static(id="sample", markup=False)
            yield Static(id="about", markup=False)
            yield KeyBar(KEYS, id="keys")

    def on_mount(self) -> None:
        self._fill(self._before)
        self.query_one("#list").focus()
        self.desk.theme_changed_signal.subscribe(self, lambda _: self._draw())

    def on_unmount(self) -> None:
        # The signal holds its subscribers, and with them the whole screen.
        self.app.theme_changed_signal.unsubscribe(self)

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        event.stop()
        if event.option_index < len(self._names):
            self.desk.looks.preview(self._names[event.option_index])
            self._draw()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self.action_keep()

    def action_leave(self) -> None:
        """The theme as it was."""
        self.desk.looks.preview(self._before)
        self.dismiss(None)

    def action_keep(self) -> None:
        """Keep the theme that is on."""
        chosen = self._chosen()
        if chosen:
            self.desk.set_value("theme", chosen)
            self.desk.looks.preview(chosen)
        self.dismiss(None)

    def action_read(self) -> None:
        """Read the theme files again, and put the one that is on anew."""
        chosen = self._chosen()
        self.desk.looks.read()
        self._fill(chosen)
        self.desk.looks.preview(chosen)

    def _chosen(self) -> str:
        at = self.query_one("#list", OptionList).highlighted
        return self._names[at] if at is not None and at < len(self._names) else ""

    def _fill(self, chosen: str) -> None:
        looks = self.desk.looks
        self._names = looks.names()
        palette = palette_from(self.app.theme_variables)
        kept = self.desk.preferences.settings.theme
        options = []
        for name in self._names:
            whose = "yours" if name in looks.users else "ours" if name in looks.own else "Textual's"
            mark = "●" if name == kept else " "
            line = Content.assemble(f"{mark} {name[:20]:<20} ", Content.styled(whose, "dim"))
            options.append(Option(line))
        broken = [
            Option(
                Content.styled(f"✗ {each.path.name}: {each.reason}", palette.error), disabled=True
            )
            for each in looks.broken
        ]
        listed = self.query_one("#list", OptionList)
        listed.clear_options()
        listed.add_options([*options, *broken])
        listed.highlighted = self._names.index(chosen) if chosen in self._names else 0
        self._draw()

    def _draw(self) -> None:
        if not self.is_mounted:
            return
        palette = palette_from(self.app.theme_variables)
        self.query_one("#sample", Static).update(sample(palette))
        self.query_one("#about", Static).update(
            Content.styled(f"Yours go to {paths.user_themes_dir()}/NAME.toml", palette.muted)
        )


def sample(palette: Palette) -> Content:
    """Words in the colours that have a meaning."""
    first = (("primary", palette.primary), ("accent", palette.accent), ("text", palette.strong))
    second = (("good", palette.success), ("warning", palette.warning), ("error", palette.error))
    lines = [
        Content("  ").join(Content.styled(word, style) for word, style in line)
        for line in (first, second, (("muted", palette.muted), ("faint", palette.faint)))
    ]
    return Content("\n").join(lines)
