"""The part of the chat screen that writes: prompt, completions, notes, turns that are chosen.

Owns keys and messages of these; the state of writing belongs to `control.composing`.
"""

from __future__ import annotations

from collections.abc import Callable

from textual.binding import Binding, BindingType
from textual.events import DescendantFocus, Key, Paste
from textual.widgets import TextArea

from quantchat.reasoning import parts_of
from quantchat.store.records import Turn as StoredTurn
from quantchat.tui.control.completing import Completing
from quantchat.tui.control.composing import Composing
from quantchat.tui.keymap import key_of, short_key
from quantchat.tui.markup.chunks import code_blocks
from quantchat.tui.screens.base import AppScreen
from quantchat.tui.widgets.completion import Completion
from quantchat.tui.widgets.note import Note
from quantchat.tui.widgets.prompt import Prompt
from quantchat.tui.widgets.transcript import Transcript

WRITING_KEYS: tuple[BindingType, ...] = (
    Binding(
        "ctrl+up", "choose(-1)", "Choose a message: the one before", priority=True, id="choose"
    ),
    Binding(
        "ctrl+down", "choose(1)", "Choose a message: the next", priority=True, id="choose_next"
    ),
    Binding("f3", "copy_answer", "Copy the last answer"),
    Binding("f4", "copy_block", "Copy the last code block"),
    Binding("alt+left", "flip(-1)", "Previous version of the answer", id="version_before"),
    Binding("alt+right", "flip(1)", "Next version of the answer", id="version_after"),
    Binding("alt+e", "editor", "Write in your own editor ($EDITOR)"),
    Binding("f9", "context", "What to do about a context that is nearly full"),
)


class WritingScreen(AppScreen):
    """What can be done with the prompt and with single turns."""

    def __init__(self) -> None:
        super().__init__()
        self.transcript = Transcript(id="transcript")
        self.prompt = Prompt(id="prompt", placeholder="Write a message")
        self.prompt.folds_pastes = True
        self.completion = Completion(id="completion")
        self.note = Note(id="note")
        self.composing = Composing(self)
        self._completing: Completing | None = None

    def refresh_state(self) -> None:
        """Draw what changed beside the conversation itself."""
        raise NotImplementedError

    def action_new(self) -> None:
        """An empty conversation."""
        raise NotImplementedError

    def key_name(self, action: str) -> str:
        """The key of an action here, as it is now."""
        key = key_of(self.app, type(self), action)
        return short_key(key) if key else "no key"

    def begin_writing(self) -> None:
        """Once the widgets are there."""
        self._completing = Completing(self.desk, self.prompt, self.completion)
        self.prompt.focus()

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        event.stop()
        if self._completing is not None:
            self._completing.follow()
        self.composing.changed()

    def on_text_area_selection_changed(self, event: TextArea.SelectionChanged) -> None:
        event.stop()
        if self._completing is not None:
            self._completing.follow()

    def on_completion_picked(self, event: Completion.Picked) -> None:
        event.stop()
        if self._completing is not None:
            self._completing.take(event.offer)

    def on_prompt_submitted(self, event: Prompt.Submitted) -> None:
        event.stop()
        self.action_send()

    def on_transcript_wished(self, event: Transcript.Wished) -> None:
        event.stop()
        if event.wish == "edit":
            self.action_edit_turn(event.key)
        elif event.wish == "copy":
            self.action_copy_turn(event.key)
        elif event.wish == "leave":
            self.transcript.choose(None)
            self.prompt.focus()
        else:
            self.action_version(event.key, -1 if event.wish == "previous" else 1)

    def on_transcript_chosen(self, event: Transcript.Chosen) -> None:
        event.stop()
        self.refresh_state()

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        if event.widget is self.prompt and self.composing.editing is None:
            self.transcript.choose(None)

    def on_key(self, event: Key) -> None:
        """What is typed while the conversation has the focus is meant for the prompt."""
        if self._typed_elsewhere() and event.is_printable and event.character:
            event.stop()
            self.prompt.focus()
            self.prompt.insert(event.character)

    def on_paste(self, event: Paste) -> None:
        """Likewise what is pasted."""
        if self._typed_elsewhere():
            event.stop()
            self.prompt.paste(event.text)

    def action_send(self) -> None:
        """Send what is written; fetch a model that is missing."""
        if self.desk.loads.state == "missing":
            self.desk.loads.fetch()
        self.composing.send()

    def action_give_up(self) -> None:
        """Leave an edited message as it was."""
        self.composing.give_up()

    def action_edit_turn(self, key: int) -> None:
        """A message into the prompt, for a new version."""
        self.composing.edit(key)

    def action_edit_last(self) -> None:
        """The user's last message into the prompt."""
        self.composing.edit_last()

    def action_editor(self) -> None:
        """Write in the user's own editor."""
        self.composing.open_editor()

    def action_context(self) -> None:
        """What to do about the context."""
        self.composing.offer_room()

    def do_or_say(self, action: Callable[[], bool | None], nothing: str) -> None:
        """Run what may not be possible now, and say why where it is not."""
        if self.desk.guarded(action) is False and not self.desk.refuse_busy():
            self.notify(nothing)

    def action_choose(self, step: int) -> None:
        """Choose the message before or after; after the last, the prompt."""
        if not self.transcript.turns:
            self.notify("There is no message to choose yet.")
            return
        key = self.transcript.stack.neighbour(step)
        self.transcript.choose(key)
        # At once: what is pressed next is meant for the message already.
        if key is None:
            self.set_focus(self.prompt)
        else:
            self.set_focus(self.transcript, scroll_visible=False)

    async def action_chosen(self, action: str) -> None:
        """What a key of a chosen message does, for the mouse."""
        await self.transcript.run_action(action)

    def action_flip(self, step: int) -> None:
        """Another version of the last answer."""
        last = self._answer_or_say()
        if last is not None:
            self.action_version(last.id, step)

    def action_version(self, key: int, step: int) -> None:
        """Another version of a turn."""
        conversation = self.desk.conversation
        before = list(conversation.path)
        flipped = self.desk.guarded(lambda: conversation.flip(key, step))
        if flipped is False:
            self.desk.refuse_busy()
        elif flipped and conversation.path == before:
            self.notify("There is one version of it.")

    def action_copy_answer(self) -> None:
        """The last answer to the clipboard."""
        last = self._answer_or_say()
        if last is not None:
            self.action_copy_turn(last.id)

    def action_copy_turn(self, key: int) -> None:
        """A turn to the clipboard, as Markdown; an answer without its reasoning."""
        text = self.desk.conversation.text_of(key)
        turn = self.desk.conversation.turn_of(key)
        if turn is not None and turn.role == "user":
            self.desk.copy_text(text, "message")
        else:
            self.desk.copy_text(parts_of(text).answer or text, "answer")

    def action_copy_block(self) -> None:
        """The last code block of the last answer to the clipboard."""
        last = self._answer_or_say()
        if last is not None:
            self.action_copy_code(last.id, -1)

    def action_copy_code(self, key: int, index: int) -> None:
        """A code block of a turn to the clipboard."""
        blocks = code_blocks(parts_of(self.desk.conversation.text_of(key)).answer)
        if blocks and -len(blocks) <= index < len(blocks):
            self.desk.copy_text(blocks[index], "code")
        else:
            self.notify("There is no code in the last answer.")

    def _answer_or_say(self) -> StoredTurn | None:
        last = self.desk.conversation.last_answer()
        if last is None:
            self.notify("There is no answer yet.")
        return last

    def _typed_elsewhere(self) -> bool:
        return self.focused is self.transcript and self.transcript.stack.chosen is None
