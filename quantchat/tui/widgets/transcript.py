"""The conversation as one scrolling widget that draws only the lines on the screen.

Owns scrolling, following the end, selection, choosing a turn. A turn's look belongs to
`drawn_turn`, which turns are drawn to `turn_stack`. Cost per flush: the lines of the open block
plus the rows on the screen, whatever the length of the conversation.
"""

from __future__ import annotations

from typing import ClassVar, Literal, TypeAlias

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import Click, Resize
from textual.geometry import Size
from textual.message import Message
from textual.widget import Widget

from quantchat.tui.markup.palette import palette_from
from quantchat.tui.widgets.turn import ACTION, Turn
from quantchat.tui.widgets.turn_rows import TurnRows

STRIPS_KEPT = 1000

Wish: TypeAlias = Literal["edit", "copy", "previous", "next", "leave"]


class Transcript(TurnRows, can_focus=True):
    """Turns from top to bottom; `follow` keeps the end in view until the user scrolls up."""

    KEYS_TITLE = "A chosen message"

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("e,enter", "wish('edit')", "Edit the chosen message"),
        Binding("c", "wish('copy')", "Copy the chosen message"),
        Binding("left", "wish('previous')", "Its previous version"),
        Binding("right", "wish('next')", "Its next version"),
        Binding("space", "fold_chosen", "Fold or unfold it"),
        Binding("escape", "wish('leave')", "Back to the prompt"),
    ]

    class FollowChanged(Message):
        """The view began or ceased to follow the end."""

        def __init__(self, following: bool) -> None:
            super().__init__()
            self.following = following

    class Wished(Message):
        """The user wants something done with a turn; it is chosen, or was clicked twice."""

        def __init__(self, key: int, wish: Wish) -> None:
            super().__init__()
            self.key = key
            self.wish = wish

    class Chosen(Message):
        """Another turn is chosen, or none."""

    def __init__(self, *, id: str | None = None, empty: Content | None = None) -> None:
        super().__init__(id=id)
        self._empty = empty or Content("")
        self._moving = False
        self.follow = True

    def show(self, turns: list[Turn], stay: int | None = None) -> None:
        """Replace the conversation and go to its end, or stay at the turn with that key."""
        had = self.stack.chosen
        self.stack.set(turns)
        self._set_follow(stay is None)
        self._redraw()
        if stay is not None:
            self._reach(stay)
            self._show_turn(stay)
        if had is not None and self.has_focus and stay is not None:
            self.stack.chosen = stay
        if had != self.stack.chosen:
            self.post_message(self.Chosen())

    def add(self, turn: Turn, before: int | None = None) -> None:
        """Put a turn at the end, or before the one with that key."""
        at = self.stack.insert(turn, before)
        if at is None:
            return
        if self._palette is not None and self._width:
            self.stack.drawn[at].draw(self._width, self._palette)
        if self.follow and self.stack.trim():
            self._shifted()
        else:
            self._changed(at, 0)

    def remove_from(self, key: int) -> None:
        """Take the turn with that key and all after it away."""
        if not self.stack.remove_from(key):
            return
        if self.turns and not self.stack.drawn:
            self._redraw()
        else:
            self._changed(max(0, len(self.stack.drawn) - 1), 0)

    def append(self, key: int, text: str) -> None:
        """Streamed text for a turn."""
        at = self.stack.index(key)
        if at is None:
            self.stack.say(key, text)
            return
        drawn = self.stack.drawn[at]
        if self._palette is None:
            drawn.turn.text += text
            return
        if drawn.turn.state != "streaming":
            drawn.turn.state = "streaming"
            drawn.draw(self._width, self._palette)
        self._changed(at, drawn.append(text, self._palette))

    def update(self, turn: Turn) -> None:
        """Draw a turn anew after its fields changed."""
        at = self.stack.replace(turn)
        if at is None or self._palette is None:
            return
        drawn = self.stack.drawn[at]
        if not drawn.shows(self._width, self._palette):
            drawn.draw(self._width, self._palette)
            self._changed(at, 0)

    def restyle(self) -> None:
        """Take the colours of the app's theme."""
        self._palette = palette_from(self.app.theme_variables)
        self._redraw()

    def choose(self, key: int | None) -> None:
        """Let keys act on a turn and bring it into view; None on none."""
        before, self.stack.chosen = self.stack.chosen, key
        if key is not None:
            self._reach(key)
        for each in (before, key):
            self._repaint_turn(each)
        if key is not None:
            self._show_turn(key)
        if before != key:
            self.post_message(self.Chosen())

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys for a turn work while one is chosen."""
        if action in ("wish", "fold_chosen"):
            return self.stack.chosen is not None
        return super().check_action(action, parameters)

    def action_wish(self, wish: Wish) -> None:
        """Have something done with the chosen turn."""
        if self.stack.chosen is not None:
            self.post_message(self.Wished(self.stack.chosen, wish))

    def action_fold_chosen(self) -> None:
        """Fold or unfold what the chosen turn has to fold."""
        at = None if self.stack.chosen is None else self.stack.index(self.stack.chosen)
        if at is not None:
            turn = self.stack.drawn[at].turn
            self._fold(turn.key, *self.stack.foldable(turn))

    def action_fold(self, key: int, what: str) -> None:
        """Fold or unfold a part of a turn."""
        self._fold(key, what)

    def action_scroll_end(self) -> None:
        """Go to the end and follow it."""
        self._set_follow(True)
        if self._palette is not None and not self.stack.at_end:
            self.stack.draw_end(self._width, self._palette)
            self._shifted()
        self._to_end()

    def action_scroll_home(self) -> None:
        """Go to the first turn."""
        if self._palette is not None and self.stack.first > 0:
            self._set_follow(False)
            self.stack.draw_start(self._width, self._palette)
            self._shifted()
        self.scroll_to(y=0, animate=False)
        self._set_follow(self._at_bottom())

    def on_mount(self) -> None:
        self._palette = palette_from(self.app.theme_variables)
        self.app.theme_changed_signal.subscribe(self, lambda _: self.restyle())

    def on_unmount(self) -> None:
        # The signal holds its subscribers, and with them the whole screen.
        self.app.theme_changed_signal.unsubscribe(self)

    async def on_click(self, event: Click) -> None:
        action = event.style.meta.get(ACTION)
        if event.chain > 1:
            # Textual would select the whole conversation.
            event.prevent_default()
        if action:
            event.stop()
            if event.chain == 1 or not action.startswith("fold"):
                await self.run_action(action)
        elif event.chain == 2:
            event.stop()
            top = self.styles.padding.top
            at = self.stack.at_row(self.scroll_offset.y + event.y - top)
            if at is not None and self.stack.drawn[at].turn.editable:
                self.post_message(self.Wished(self.stack.drawn[at].turn.key, "edit"))

    def on_resize(self, event: Resize) -> None:
        width = self._text_width()
        if width != self._width:
            self._redraw()
        elif self.follow:
            self._to_end()

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if self._moving:
            return
        self._set_follow(self._at_bottom())
        if new_value < 1 and new_value < old_value and self.stack.first > 0:
            self.call_later(self._draw_earlier)
        elif new_value >= self.max_scroll_y - 0.5 and not self.stack.at_end:
            self.call_later(self._draw_later)

    def _redraw(self) -> None:
        if self._palette is None or not self.size.width:
            return
        self._width = self._text_width()
        self.stack.draw(self._width, self._palette)
        self._changed(0, 0)

    def _draw_earlier(self) -> None:
        if self._palette is None or self.scroll_y >= 1:
            return
        rows = self.stack.draw_earlier(self._width, self._palette)
        self._shifted()
        self.scroll_to(y=rows, animate=False)

    def _draw_later(self) -> None:
        if self._palette is None or self.scroll_y < self.max_scroll_y - 0.5:
            return
        y = self.scroll_y - self.stack.draw_later(self._width, self._palette)
        self._shifted()
        self.scroll_to(y=y, animate=False)

    def _reach(self, key: int) -> None:
        palette, width = self._palette, self._width
        if palette is not None and width and self.stack.reach(key, width, palette):
            self._set_follow(False)
            self._shifted()

    def _shifted(self) -> None:
        """Other turns are drawn than before: every row has moved."""
        if self.text_selection is not None:
            self.screen.clear_selection()
        self._changed(0, 0)

    def _at_bottom(self) -> bool:
        return self.stack.at_end and self.scroll_y >= self.max_scroll_y - 0.5

    def _fold(self, key: int, *whats: str) -> None:
        at = self.stack.index(key)
        if at is None or self._palette is None:
            return
        for what in whats:
            self.stack.flip(key, what)
        drawn = self.stack.drawn[at]
        drawn.draw(self._width, self._palette)
        following = self.follow and drawn.turn.state in ("waiting", "streaming")
        self.follow = following
        self._changed(at, 0)
        self._set_follow(following or self._at_bottom())

    def _show_turn(self, key: int) -> None:
        """Scroll until the turn is on the screen, or its first line at the top."""
        at = self.stack.index(key)
        if at is None:
            return
        start, height = self.stack.start(at), self.size.height
        end = start + len(self.stack.drawn[at].lines)
        top = self.scroll_y
        if start < top or end - start > height:
            top = start
        elif end > top + height:
            top = end - height
        if top != self.scroll_y:
            self.scroll_to(y=top, animate=False)

    def _repaint_turn(self, key: int | None) -> None:
        at = None if key is None else self.stack.index(key)
        if at is None:
            return
        start, rows = self.stack.start(at), len(self.stack.drawn[at].lines)
        for row in range(start, start + rows):
            self._strips.pop(row, None)
        self.refresh_lines(start, rows)

    def _changed(self, at: int, line: int) -> None:
        if self._palette is not None and not self._width and self.size.width:
            self._redraw()
            return
        self.stack.count()
        total = self.stack.rows
        from_row = self.stack.start(at) + line
        for row in [row for row in self._strips if row >= from_row]:
            del self._strips[row]
        if len(self._strips) > STRIPS_KEPT:
            self._strips.clear()
        grown = total != self.virtual_size.height
        if grown or self.size.width != self.virtual_size.width:
            self._resize_content(Size(self.size.width, total))
        if grown and self.follow:
            self._to_end()
        self.refresh_lines(from_row, max(self.size.height, total - from_row))

    def _resize_content(self, size: Size) -> None:
        """Set the virtual size without laying out the screen: only the scrollbar depends on it.

        Through the reactive every new line would cost a layout and two more paints of all rows.
        """
        self.set_reactive(Widget.virtual_size, size)
        self._scroll_update(size)
        if self.scroll_y > self.max_scroll_y:
            self._to_end()

    def _to_end(self) -> None:
        self._moving = True
        self.scroll_to(y=self.max_scroll_y, animate=False)
        self._moving = False

    def _set_follow(self, following: bool) -> None:
        if following != self.follow:
            self.follow = following
            self.post_message(self.FollowChanged(following))
