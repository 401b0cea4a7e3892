"""The list above the prompt: files after an @, commands after a slash."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from textual.content import Content
from textual.message import Message
from textual.style import Style

from quantchat.tui.widgets.painted import Painted
from quantchat.tui.widgets.turn import ACTION

ROWS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """Something that can stand for what is being written."""

    text: str
    """What is put in its place."""
    title: str
    detail: str = ""


class Completion(Painted):
    """Hidden without offers; the prompt hands its keys over while there are some."""

    class Picked(Message):
        """The user took an offer."""

        def __init__(self, offer: Offer) -> None:
            super().__init__()
            self.offer = offer

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._offers: tuple[Offer, ...] = ()
        self._at = 0
        self._typed = ""
        self._refused: str | None = None
        self.display = False

    @property
    def offers(self) -> tuple[Offer, ...]:
        """What is shown."""
        return self._offers

    def show(self, offers: Sequence[Offer], typed: str) -> None:
        """Other offers for what is typed; none hides the list."""
        if typed == self._refused:
            offers = ()
        else:
            self._refused = None
        if tuple(offers) == self._offers and typed == self._typed:
            return
        self._offers, self._typed, self._at = tuple(offers), typed, 0
        self.display = bool(offers)
        if offers:
            self.styles.height = min(ROWS, len(offers))
            self.refresh()

    def take_key(self, key: str) -> bool:
        """Move, take or close; whether the key was for the list."""
        if not self.display:
            return False
        if key in ("up", "down"):
            self._at = (self._at + (1 if key == "down" else -1)) % len(self._offers)
            self.refresh()
        elif key == "tab" or (key == "enter" and not self._complete()):
            self.action_pick(self._at)
        elif key == "escape":
            self._refused = self._typed
            self.show((), self._typed)
        else:
            return False
        return True

    def _complete(self) -> bool:
        """Whether the offer is written already."""
        offer = self._offers[self._at]
        return self._typed in (offer.text, offer.title)

    def action_pick(self, at: int) -> None:
        """Take an offer."""
        if at < len(self._offers):
            self.post_message(self.Picked(self._offers[at]))

    def render(self) -> Content:
        """The rows around the one that would be taken."""
        palette, width = self.palette, self.size.width
        first = max(0, min(self._at - ROWS // 2, len(self._offers) - ROWS))
        rows = []
        widest = min(width // 2, max((len(each.title) for each in self._offers), default=0))
        for at in range(first, min(first + ROWS, len(self._offers))):
            offer, chosen = self._offers[at], at == self._at
            title = Content(offer.title).truncate(widest, ellipsis=True, pad=True)
            style = palette.primary if chosen else palette.muted
            row = Content.assemble(
                Content.styled(" ▸ " if chosen else "   ", palette.accent),
                title.stylize(palette.strong if chosen else palette.muted),
                Content.styled(f"  {offer.detail}", style),
            ).truncate(width, ellipsis=True, pad=True)
            row = row.stylize(Style.from_meta({ACTION: f"pick({at})"}))
            rows.append(row)
        return Content("\n").join(rows)
