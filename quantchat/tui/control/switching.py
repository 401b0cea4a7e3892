"""Changes of scheme and KV precision: what is asked for, what is said when it is there.

Owns the wish to answer the last question again with what is being loaded. The load itself belongs
to `loads`, the answer to `conversation`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantchat.events import Loaded, ModelInfo
from quantchat.requests import LoadRequest
from quantchat.store.told import first_time
from quantchat.tui import figures

if TYPE_CHECKING:
    from quantchat.tui.app import QuantchatApp

CONTEXT = "context: "
"""How the engine's word on what became of the conversation's KV begins."""


class Switching:
    """What happens around a load that was asked for while another model answers."""

    def __init__(self, app: QuantchatApp) -> None:
        self._app = app
        self._again: LoadRequest | None = None
        """Once this is loaded, the last question is answered again."""
        self._chat_id: int | None = None
        """In this conversation, and in no other that was opened since."""

    def take(self, scheme: str, kv: str, *, again: bool = False) -> None:
        """Load another scheme and KV precision, unless they are there; answer again with them."""
        app = self._app
        settings, loads = app.preferences.settings, app.loads
        same = (scheme, kv) == (settings.scheme, settings.kv)
        if same and loads.ready and not loads.busy:
            self.again_with(loads.answering if again else None)
            self.settle()
            return
        if not same or not loads.busy:
            problem = app.preferences.change(scheme=scheme, kv=kv)
            if problem:
                app.notify(problem, severity="warning")
            loads.want(app.preferences.load_request())
        self.again_with(loads.wanted if again else None)
        app.state_changed()

    def again_with(self, request: LoadRequest | None) -> None:
        """Answer the last question again once that request is loaded."""
        self._again, self._chat_id = request, self._open_chat_id()

    def settle(self) -> None:
        """Answer again where that was wanted, the model is there and nothing streams."""
        app, loads = self._app, self._app.loads
        if self._again is None or loads.busy:
            return
        elsewhere = self._open_chat_id() != self._chat_id
        if elsewhere or not loads.ready or loads.answering != self._again:
            self._again = None
            return
        if app.conversation.answering is None and not app.conversation.waiting:
            self._again = None
            app.guarded(app.conversation.regenerate)

    def loaded(self, before: ModelInfo | None, event: Loaded) -> None:
        """Say in a line what changed, and once what of the file was not kept as it is."""
        self._tell_notes(event.info)
        if before is None:
            return
        app = self._app
        title, words = change_words(before, event.info)
        said = next((each for each in event.info.reasons if each.startswith(CONTEXT)), "")
        if app.conversation.path and said:
            words += f"\nContext {said.removeprefix(CONTEXT).partition(';')[0]}"
        app.notify(words, title=title, timeout=8)

    def _open_chat_id(self) -> int | None:
        chat = self._app.conversation.chat
        return None if chat is None else chat.id

    def _tell_notes(self, info: ModelInfo) -> None:
        """In a toast the first time on this machine; they stay with the meter of the model."""
        if not info.notes:
            return
        app = self._app

        def tell() -> None:
            if first_time(info.identity, info.scheme, info.notes):
                title = f"{figures.model_name(info.model)}: not as the file has it"
                app.notify("\n".join(info.notes), title=title, timeout=10)

        app.run_worker(tell, thread=True, exit_on_error=False)


def change_words(before: ModelInfo, after: ModelInfo) -> tuple[str, str]:
    """From one model to another: what is other now; what that takes, and how long it took."""
    parts, costs = [], []
    if after.model != before.model:
        parts.append(f"{figures.model_name(after.model)} instead of {before.model[-40:]}")
    if after.scheme != before.scheme or not parts:
        scheme = f"{after.scheme} instead of {before.scheme}"
        parts.append(scheme if after.scheme != before.scheme else f"{after.scheme} as before")
    if after.kv != before.kv:
        parts.append(f"KV {after.kv} instead of {before.kv}")
    if after.device != before.device:
        parts.append(f"on {after.device_name}")
    saved = before.weight_bytes - after.weight_bytes
    if saved:
        costs.append(f"{signed_size(-saved)} of weights")
    if after.context_tokens != before.context_tokens:
        costs.append(f"room for {figures.count(after.context_tokens)} tokens")
    costs.append(f"loaded in {figures.duration(after.load_s)}")
    words = ", ".join(costs)
    return ", ".join(parts), words[0].upper() + words[1:]


def signed_size(count: int) -> str:
    """Bytes with their sign: −45.0 MiB, +1.20 GiB."""
    return f"{'−' if count < 0 else '+'}{figures.size(abs(count))}"
