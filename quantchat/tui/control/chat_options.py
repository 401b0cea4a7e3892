"""Options of the open conversation: title, tags, system prompt, sampling of its own.

Owns the way from a change to the store, and what a conversation that is not there yet will have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from quantchat.errors import SettingsError
from quantchat.settings.presets import Presets, checked_sampling, load_presets
from quantchat.store.chats import Chats
from quantchat.store.records import Chat, Figures, title_from
from quantchat.store.tags import clean


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What belongs to one conversation alone."""

    title: str = ""
    tags: tuple[str, ...] = ()
    system_prompt: str = ""
    sampling: Figures | None = None
    """Settings that stand over the app's, by their keys."""


def options_of(chat: Chat) -> Options:
    """Those that a conversation has."""
    return Options(
        title=chat.title,
        tags=chat.tags,
        system_prompt=chat.system_prompt,
        sampling=chat.sampling,
    )


def store_options(chats: Chats, chat: Chat, options: Options) -> Chat:
    """Keep what differs; an empty title is taken from the first message. Raises StoreError."""
    title = options.title
    if not title.strip():
        first = next(iter(chats.path(chat.id)), None)
        title = "" if first is None else title_from(first.content)
    if title != chat.title:
        chats.rename(chat.id, title)
    return chats.configure(
        chat.id,
        system_prompt=options.system_prompt,
        tags=clean(options.tags),
        sampling=options.sampling or {},
    )


class ChatOptions:
    """Changes the open conversation's options by name, for screens and commands."""

    def __init__(
        self,
        presets_path: Path,
        *,
        get: Callable[[], Options],
        put: Callable[[Options], object],
    ) -> None:
        self.presets_path = presets_path
        self._get = get
        self._put = put

    def presets(self) -> Presets:
        """What can be chosen by name; reads the file."""
        return load_presets(self.presets_path)[0]

    def change(
        self,
        *,
        title: str | None = None,
        tags: tuple[str, ...] | None = None,
        system_prompt: str | None = None,
        sampling: Figures | None = None,
    ) -> Options:
        """Change some of them; raises StoreError, SettingsError. No sampling is `{}`."""
        now = self._get()
        options = Options(
            title=now.title if title is None else title,
            tags=now.tags if tags is None else clean(tags),
            system_prompt=now.system_prompt if system_prompt is None else system_prompt,
            sampling=now.sampling if sampling is None else checked_sampling(dict(sampling)) or None,
        )
        if options != now:
            self._put(options)
        return options

    def use_preset(self, name: str) -> None:
        """Sampling by name, "" for the app's; raises SettingsError for an unknown one."""
        presets = self.presets()
        if name and name not in presets.sampling:
            raise SettingsError(
                f"there is no preset {name!r}", hint=f"one of: {', '.join(presets.sampling)}"
            )
        self.change(sampling=presets.sampling[name] if name else {})

    def use_prompt(self, name: str) -> None:
        """A system prompt out of the library; raises SettingsError for an unknown one."""
        prompts = self.presets().prompts
        if name not in prompts:
            known = (
                ", ".join(prompts) or "there are none yet; the options of a conversation save one"
            )
            raise SettingsError(f"there is no system prompt {name!r}", hint=f"one of: {known}")
        self.change(system_prompt=prompts[name])
