"""A model's tokenizer: text to ids, ids to bytes, and which ids mean what.

Owns the one class that engine and evaluations see; `gguf` and `folder` build it.
Does not own streaming (`detokenizer`) or turning a conversation into text (`template`).
"""

from __future__ import annotations

import functools
import hashlib
import re
import threading
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from quantchat.requests import Message
from quantchat.tokenizer.pieces import SPACE, PieceBytes, byte_level, clean, literal
from quantchat.tokenizer.rust import guarded
from quantchat.tokenizer.special import thought_marks
from quantchat.tokenizer.template import ChatTemplate

if TYPE_CHECKING:
    import tokenizers

_MARK = "\ufdd0"
"""A noncharacter that breaks up special tokens which a person typed."""


class Tokenizer:
    """Encodes and decodes with one model's vocabulary. May be used from any thread."""

    def __init__(
        self,
        *,
        path: Path,
        backend: tokenizers.Tokenizer,
        pieces: Sequence[str],
        piece_bytes: PieceBytes,
        literal_ids: frozenset[int],
        special_ids: frozenset[int],
        bos_id: int | None,
        eos_ids: frozenset[int],
        adds_bos: bool,
        strips_space: bool,
        template: ChatTemplate,
    ) -> None:
        self.path = path
        self.vocab_size = len(pieces)
        self.bos_id = bos_id
        self.eos_ids = eos_ids
        """Ids that end an answer."""
        self.special_ids = special_ids
        """Ids that stand for no text: control tokens."""
        self.adds_bos = adds_bos
        """Whether the model was trained on text that starts with BOS."""
        self.strips_space = strips_space
        """Whether encoding put a space before the text, which decoding takes off again."""
        self.template = template
        self._backend = backend
        self._pieces = pieces
        self._piece_bytes = piece_bytes
        self._literal_ids = literal_ids
        self._lock = threading.Lock()

    def encode(self, text: str, *, add_bos: bool, parse_special: bool = False) -> list[int]:
        """Token ids of a text.

        `add_bos` puts BOS in front where the model has one. Special tokens written out in the
        text are ordinary characters unless `parse_special`.
        """
        ids = self._encode(text, parse_special=parse_special)
        return [self.bos_id, *ids] if add_bos and self.bos_id is not None else ids

    def encode_chat(
        self,
        messages: Sequence[Message],
        *,
        add_generation_prompt: bool = True,
        continue_last: bool = False,
    ) -> list[int]:
        """Token ids of a conversation in the model's template, with BOS exactly once if it adds it.

        Special tokens that the template writes are parsed; the same words inside a message are
        plain text, so no message can forge a turn.
        """
        guarded = [Message(m.role, self._guard(m.content)) for m in messages]
        text = self.template.render(
            guarded, add_generation_prompt=add_generation_prompt, continue_last=continue_last
        )
        ids = (
            self._encode_guarded(text) if _MARK in text else self._encode(text, parse_special=True)
        )
        if self.adds_bos and self.bos_id is not None and ids[:1] != [self.bos_id]:
            ids.insert(0, self.bos_id)
        return ids

    def token_bytes(self, token_id: int) -> bytes:
        """Bytes a token stands for; none for special tokens and for ids past the vocabulary."""
        if token_id in self.special_ids or not 0 <= token_id < self.vocab_size:
            return b""
        return self._spelled(token_id)

    def decode(
        self, ids: Iterable[int], *, skip_special: bool = True, mid_text: bool = False
    ) -> str:
        """Text of token ids; bytes that are not UTF-8 become U+FFFD.

        `mid_text` keeps a SentencePiece model's leading space: the ids go on from earlier text.
        """
        spell = self.token_bytes if skip_special else self._spelled
        data = b"".join(map(spell, ids))
        if self.strips_space and not mid_text:
            data = data.removeprefix(b" ")
        return data.decode("utf-8", "replace")

    def shown(self, token_id: int) -> str:
        """One token by itself, for people: its text, `<0xE6>` for a part of a character, a special
        token's own spelling, `<123>` past the vocabulary."""
        if not 0 <= token_id < self.vocab_size:
            return f"<{token_id}>"
        data = self._spelled(token_id)
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            return "".join(f"<0x{byte:02X}>" for byte in data)

    @functools.cached_property
    def vocabulary_digest(self) -> bytes:
        """The same for tokenizers whose ids mean the same pieces."""
        blake = hashlib.blake2b(digest_size=16)
        for piece in self._pieces:
            blake.update(piece.encode("utf-8", "surrogatepass") + b"\0")
        return blake.digest()

    def token_id(self, piece: str) -> int | None:
        """Id of a vocabulary entry by its exact spelling."""
        found: int | None = self._backend.token_to_id(clean(piece))
        return found

    def to_json(self) -> str:
        """What tokenizer.json holds of it, with a decoder by which `folder` knows the spelling."""
        import tokenizers
        from tokenizers import decoders

        with self._lock, guarded(self.path, "its tokenizer cannot be written"):
            whole = tokenizers.Tokenizer.from_str(self._backend.to_str())
        if whole.decoder is None:
            if self._piece_bytes is byte_level:
                whole.decoder = decoders.ByteLevel()
            else:
                steps = [decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
                if self.strips_space:
                    steps.append(decoders.Strip(content=" ", left=1, right=0))
                whole.decoder = decoders.Sequence(steps)
        text: str = whole.to_str()
        return text

    def _spelled(self, token_id: int) -> bytes:
        if not 0 <= token_id < self.vocab_size:
            return b""
        piece = self._pieces[token_id]
        if token_id in self._literal_ids or token_id in self.special_ids:
            return literal(piece)
        return self._piece_bytes(piece)

    def _encode(self, text: str, *, parse_special: bool) -> list[int]:
        with self._lock, guarded(self.path, "its tokenizer fails"):
            self._backend.encode_special_tokens = not parse_special
            ids: list[int] = self._backend.encode(clean(text), add_special_tokens=False).ids
        return ids

    @functools.cached_property
    def _specials(self) -> re.Pattern[str]:
        return self._any_of(self.special_ids)

    @functools.cached_property
    def _written(self) -> re.Pattern[str]:
        """What a template writes as tokens: the backend may call marks of reasoning special."""
        return self._any_of(self.special_ids | thought_marks(self._pieces, self._literal_ids))

    def _any_of(self, ids: Iterable[int]) -> re.Pattern[str]:
        words = sorted((self._pieces[i] for i in ids), key=len, reverse=True)
        alternatives = "|".join(re.escape(word) for word in words if word)
        return re.compile(f"({alternatives or '(?!)'})")

    def _guard(self, content: str) -> str:
        """The content with every special token in it broken up by a mark."""
        plain = content.replace(_MARK, "\ufffd")
        return self._specials.sub(lambda match: match[0][:1] + _MARK + match[0][1:], plain)

    def _encode_guarded(self, text: str) -> list[int]:
        ids: list[int] = []
        for n, part in enumerate(self._written.split(text)):
            if n % 2:
                special = self.token_id(part)
                assert special is not None, part
                ids.append(special)
            elif part:
                ids += self._encode(part.replace(_MARK, ""), parse_special=False)
        return ids
