"""The bottom line of side by side."""

from __future__ import annotations

from quantchat.tui.widgets.bars import Key


def keys(*, busy: bool, voting: bool, cursor: bool) -> list[Key]:
    """The bottom line, by what can be done now."""
    if voting:
        return [
            Key(text="the first", action="screen.vote(1)"),
            Key(text="the second", action="screen.vote(2)"),
            Key(text="a tie", action="screen.vote(0)"),
            Key(text="no vote", action="screen.leave"),
        ]
    line = [
        Key(text="stop", action="screen.leave")
        if busy
        else Key(key="enter", text="ask both", action="screen.send"),
    ]
    sides = [
        Key(text="mode", action="screen.next_mode"),
        Key(text="left", action="screen.choose('left')"),
        Key(text="right", action="screen.choose('right')"),
    ]
    tokens = [
        Key(text="next difference", action="screen.parting(1)"),
        *((Key(text="go on from here", action="screen.go_on"),) if cursor else ()),
        Key(text="token", action="screen.token(1)"),
    ]
    # A narrow line shows the first ones: at the cursor those that are about it.
    line += [*tokens, *sides] if cursor else [*sides, *tokens]
    return [
        *line,
        Key(text="view", action="screen.view"),
        Key(text="export", action="screen.export"),
        Key(text="again", action="screen.again"),
        Key(text="anew", action="screen.clear"),
        *(() if busy else (Key(text="leave", action="screen.leave"),)),
        Key(text="help", action="app.help"),
        Key(text="quit", action="app.quit"),
    ]
