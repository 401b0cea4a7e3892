"""From what is written to what is sent: files and pastes, edited turns, commands, the editor.

Owns the state of writing. The prompt owns the text, `conversation` what is said.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from textual.app import SuspendNotSupported
from textual.content import Content

from quantchat.errors import QuantchatError
from quantchat.store.records import Attachment
from quantchat.store.records import Turn as StoredTurn
from quantchat.tui.control.attachments import Gathered, gather, mentions, pastes_of
from quantchat.tui.control.draft_size import DraftSize
from quantchat.tui.control.editor import edit_text, editor_command
from quantchat.tui.control.slash import find, literal, parse
from quantchat.tui.markup.palette import Palette, palette_from
from quantchat.tui.screens.dialog import Dialog, Way
from quantchat.tui.widgets.turn import click

if TYPE_CHECKING:
    from quantchat.tui.screens.writing import WritingScreen

FOLLOW_S = 0.15
"""After a key, the lines above the prompt are drawn no sooner."""


class Composing:
    """What is being written on the chat screen."""

    def __init__(self, screen: WritingScreen) -> None:
        self._screen = screen
        self.editing: StoredTurn | None = None
        """The turn that the text will be a new version of."""
        self._kept: dict[str, Attachment] = {}
        """Files of the edited turn: sent as they were."""
        self._before = ""
        """What was written before a turn was edited."""
        self._reading = False
        self._due = False
        self._size = DraftSize(screen)

    def send(self) -> None:
        """Send what is written, run it where it is a command."""
        screen, text = self._screen, self._screen.prompt.text.strip()
        conversation = screen.desk.conversation
        if not text or self._reading:
            return
        if self.editing is None and parse(text) is not None:
            # A folded paste is an argument in full.
            command = parse(screen.prompt.unfolded())
            assert command is not None
            self._run(*command)
            return
        if conversation.busy:
            screen.desk.refuse_busy()
            return
        if self.editing is not None and self.editing.role == "assistant":
            self._deliver(screen.prompt.unfolded(), ())
            return
        text = literal(text) if self.editing is None else text
        pastes = screen.prompt.pastes()
        if not mentions(text):
            self._check(text, pastes)
            return
        self._read(text, pastes)

    def edit(self, turn_id: int) -> None:
        """Put a turn into the prompt, to be sent as a new version of it."""
        screen = self._screen
        desk = screen.desk
        if desk.conversation.busy:
            desk.refuse_busy()
            return
        turn = desk.conversation.turn_of(turn_id)
        if turn is None:
            return
        if self.editing is None:
            self._before = screen.prompt.text
        self.editing = turn
        pastes = pastes_of(turn.content, turn.attachments).values()
        self._kept = {each.name: each for each in turn.attachments if each.text not in pastes}
        screen.prompt.fill(turn.content, turn.attachments)
        screen.transcript.choose(turn_id)
        screen.prompt.focus()
        self.draw()
        screen.refresh_state()

    def edit_last(self) -> None:
        """Edit the last message of the user."""
        path = self._screen.desk.conversation.path
        last = next((turn for turn in reversed(path) if turn.role == "user"), None)
        if last is not None:
            self.edit(last.id)

    def give_up(self) -> bool:
        """Leave the edited turn as it is; False where none is edited."""
        if self.editing is None:
            return False
        self._end_edit(self._before)
        return True

    def check_edited(self) -> None:
        """The conversation changed: the edited turn may be gone."""
        turn = self.editing
        if turn is not None and self._screen.desk.conversation.turn_of(turn.id) is None:
            self._end_edit(self._before)

    def open_editor(self) -> None:
        """Write in the user's own editor."""
        screen = self._screen
        before, problem = screen.prompt.text, None
        text = before
        try:
            command = editor_command()
            with screen.app.suspend():
                # Textual would not take the terminal back after an exception.
                try:
                    text = edit_text(before, command)
                except QuantchatError as error:
                    problem = error
        except QuantchatError as error:
            problem = error
        except SuspendNotSupported:
            screen.app.notify("This terminal cannot be handed to an editor.", severity="warning")
        screen.app.refresh(layout=True)
        if problem is not None:
            screen.app.notify(f"{problem.message}. {problem.hint}".strip(), severity="warning")
        if text != before:
            screen.prompt.history.checkpoint()
            screen.prompt.replace(text, (0, 0), screen.prompt.document.end)
        screen.prompt.focus()

    def changed(self) -> None:
        """The text changed: look at it a little later, once for many keys."""
        if not self._due:
            self._due = True
            self._screen.set_timer(FOLLOW_S, self._follow)

    def draw(self) -> None:
        """The lines above the prompt."""
        palette = palette_from(self._screen.app.theme_variables)
        lines = []
        if self.editing is not None:
            lines.append(self._editing_line(self.editing, palette))
        if self._reading:
            lines.append(Content.styled(" reading files", palette.muted))
        room = self._size.line(palette)
        if room is not None:
            lines.append(room)
        self._screen.note.show(lines)

    def offer_room(self) -> None:
        """What can be done about a context that is nearly full."""
        self._size.offer(self.edit_last)

    def _follow(self) -> None:
        self._due = False
        if self._screen.is_mounted:
            self._size.measure(self._screen.prompt, self._kept, self.draw)
            self.draw()

    def _editing_line(self, turn: StoredTurn, palette: Palette) -> Content:
        whose = "your message" if turn.role == "user" else "the answer"
        then = "sends a new version" if turn.role == "user" else "keeps it as a new version"
        enter = "enter" if self._screen.prompt.enter_sends else "^j"
        return Content.assemble(
            Content.styled(f" ✎ editing {whose}", palette.warning),
            Content.styled(f" · {enter} {then} · ", palette.muted),
            click(
                f"{self._screen.key_name('screen.stop')} gives it up",
                "screen.give_up",
                palette.marker,
            ),
        )

    def _run(self, name: str, argument: str) -> None:
        screen, command = self._screen, find(name)
        app = screen.desk
        if command is None:
            said = f"There is no command /{name}. / lists them; // at the start sends a slash."
            app.notify(said, severity="warning")
        elif argument and command.take is not None:
            screen.prompt.take()
            command.take(app, argument)
        elif argument:
            app.notify(f"/{name} takes nothing after it.", severity="warning")
        elif command.action:
            screen.prompt.take()
            screen.call_later(screen.run_action, command.action)
        else:
            app.notify(f"/{name} needs a {command.argument}.", severity="warning")

    def _read(self, text: str, pastes: tuple[Attachment, ...]) -> None:
        """Read the files that a text names, in a thread."""
        screen, kept = self._screen, dict(self._kept)
        app, folder = screen.desk, Path.cwd()

        def work() -> None:
            try:
                gathered = gather(text, folder, kept)
            except QuantchatError as error:
                app.call_from_thread(refused, error)
            else:
                app.call_from_thread(read, gathered)

        def refused(error: QuantchatError) -> None:
            self._hold(False)
            app.notify(f"Not sent: {error.message}. {error.hint}".strip(), severity="warning")

        def read(gathered: Gathered) -> None:
            self._hold(False)
            for name in gathered.unknown:
                app.notify(f"@{name} names no file; it is sent as words.")
            self._check(text, (*gathered.attachments, *pastes))

        self._hold(True)
        app.run_worker(work, thread=True, exit_on_error=False)

    def _hold(self, held: bool) -> None:
        self._reading = held
        self._screen.prompt.read_only = held
        self.draw()

    def _check(self, text: str, attachments: Sequence[Attachment]) -> None:
        """Send, unless the message alone is clearly too long: then ask."""
        screen = self._screen
        room = self._size.room(text, attachments)
        if room is None or not room.draft_too_long:
            self._deliver(text, attachments)
            return
        message = (
            f"It has about {room.draft:,} tokens; {room.budget:,} of the context's "
            f"{room.limit:,} are free for what is sent."
        )
        ways = (
            Way(key="e", label="Edit it", result=""),
            Way(key="m", label="More context", result="more"),
            Way(key="s", label="Send anyway", result="send"),
        )

        def take(result: str | None) -> None:
            if result == "send":
                self._deliver(text, attachments)
            elif result == "more":
                self.offer_room()

        screen.app.push_screen(Dialog("The message alone does not fit", message, "", ways), take)

    def _deliver(self, text: str, attachments: Sequence[Attachment]) -> None:
        screen, turn = self._screen, self.editing
        desk = screen.desk
        # The turn leaves the conversation when its new version comes.
        self.editing = None
        if turn is None or desk.loads.engine_gone:
            done = desk.send(text, attachments)
        else:
            key = turn.id
            done = bool(desk.guarded(lambda: desk.conversation.revise(key, text, attachments)))
        if not done:
            self.editing = turn
            return
        screen.prompt.take()
        if turn is not None:
            self._end_edit(self._before)
        screen.transcript.action_scroll_end()
        self.draw()

    def _end_edit(self, text: str) -> None:
        self.editing, self._before, self._kept = None, "", {}
        self._screen.prompt.fill(text)
        self._screen.transcript.choose(None)
        self.draw()
        self._screen.refresh_state()
