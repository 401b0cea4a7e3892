"""Token ids to text while they stream; a character appears once it is whole."""

from __future__ import annotations

import codecs

from quantchat.tokenizer.tokenizer import Tokenizer


class Detokenizer:
    """Text of one answer, token by token; each push costs the token's own length.

    All pushes and the flush, joined, are `tokenizer.decode` of all ids. `mid_text` keeps a
    SentencePiece model's leading space: the answer goes on from earlier text.
    """

    def __init__(self, tokenizer: Tokenizer, *, mid_text: bool = False) -> None:
        self._tokenizer = tokenizer
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._strip = tokenizer.strips_space and not mid_text

    def push(self, token_id: int) -> str:
        """Text that became certain with this token: no half character, no early U+FFFD."""
        data = self._tokenizer.token_bytes(token_id)
        if self._strip and data:
            data = data.removeprefix(b" ")
            self._strip = False
        return self._decoder.decode(data)

    def flush(self) -> str:
        """What is left at the end: U+FFFD where a character stayed incomplete."""
        rest = self._decoder.decode(b"", True)
        self._decoder.reset()
        return rest
