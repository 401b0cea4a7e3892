"""A tokenizer from a GGUF file's metadata: `tokenizer.ggml.*` and `tokenizer.chat_template`.

Owns the two kinds that the families here use: gpt2 (byte-level BPE) and llama (SentencePiece BPE).
Reads facts through the checkpoint reader's typed getters; opens no file.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from quantchat.checkpoints.facts import Facts
from quantchat.checkpoints.room import check_room
from quantchat.errors import TokenizerError, UnsupportedModelError
from quantchat.tokenizer.fallback import choose_template
from quantchat.tokenizer.pieces import SPACE, PieceBytes, byte_level, sentencepiece
from quantchat.tokenizer.pretokenizers import PRETOKENIZERS, PreTokenizer
from quantchat.tokenizer.rust import guarded
from quantchat.tokenizer.sentencepiece import TooManySplits, merges_from_scores
from quantchat.tokenizer.special import marks, thought_marks, turn_ends
from quantchat.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    import tokenizers

MAX_TOKENS = 2_000_000
MAX_MERGES = 4_000_000
MAX_PIECE_CHARS = 4096
TOKEN_BYTES = 400
MERGE_BYTES = 200
"""What one costs in memory, the library's own tables included."""

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6
"""Token types of the format."""

_BROKEN_HINT = "the file is damaged or was converted wrongly; get another conversion"


class GgufLike(Protocol):
    """What this module asks of an open GGUF file."""

    @property
    def path(self) -> Path: ...

    @property
    def metadata(self) -> Facts: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class _Vocabulary:
    """The file's token table, checked."""

    path: Path
    facts: Facts
    pieces: list[str]
    ids: dict[str, int]
    types: Sequence[int]

    def of_type(self, *kinds: int) -> list[int]:
        return [token_id for token_id, kind in enumerate(self.types) if kind in kinds]

    def special_id(self, name: str) -> int | None:
        """A special token's id where the file gives one inside the vocabulary."""
        found = self.facts.optional_integer(f"tokenizer.ggml.{name}_token_id")
        return found if found is not None and 0 <= found < len(self.pieces) else None


def from_gguf(file: GgufLike) -> Tokenizer:
    """The tokenizer that the file's metadata describes.

    Raises TokenizerError where it is missing or contradicts itself, UnsupportedModelError for
    kinds of tokenizer and pre-tokenizer that are not known here.
    """
    facts = file.metadata
    kind = facts.optional_text("tokenizer.ggml.model")
    if kind is None:
        raise TokenizerError(
            file.path, "has no tokenizer", hint="get a conversion of the whole model"
        )
    build = _KINDS.get(kind)
    if build is None:
        raise UnsupportedModelError(
            file.path,
            f"has a tokenizer of kind {kind!r}",
            hint=f"known kinds: {', '.join(_KINDS)}",
        )
    vocabulary = _read_vocabulary(file.path, facts)
    with guarded(file.path, "has a tokenizer that cannot be built"):
        return build(vocabulary)


def _read_vocabulary(path: Path, facts: Facts) -> _Vocabulary:
    pieces = facts.optional_texts("tokenizer.ggml.tokens")
    if not pieces:
        raise TokenizerError(path, "has a tokenizer without tokens", hint=_BROKEN_HINT)
    if len(pieces) > MAX_TOKENS:
        raise TokenizerError(
            path, f"claims {len(pieces)} tokens, at most {MAX_TOKENS} make sense", hint=_BROKEN_HINT
        )
    if max(map(len, pieces)) > MAX_PIECE_CHARS:
        raise TokenizerError(
            path, f"has a token of more than {MAX_PIECE_CHARS} characters", hint=_BROKEN_HINT
        )
    _check_room(path, TOKEN_BYTES * len(pieces))
    pieces = [piece or f"[EMPTY_{n}]" for n, piece in enumerate(pieces)]
    ids = {piece: token_id for token_id, piece in enumerate(pieces)}
    if len(ids) != len(pieces):
        twice = next(piece for n, piece in enumerate(pieces) if ids[piece] != n)
        raise TokenizerError(path, f"has the token {twice!r} twice", hint=_BROKEN_HINT)
    types = facts.optional_integers("tokenizer.ggml.token_type") or [NORMAL] * len(pieces)
    if len(types) != len(pieces):
        raise TokenizerError(
            path, f"has {len(pieces)} tokens, but {len(types)} token types", hint=_BROKEN_HINT
        )
    return _Vocabulary(path=path, facts=facts, pieces=pieces, ids=ids, types=types)


def _check_room(path: Path, needed: int) -> None:
    if path.is_file():
        check_room(path, "its vocabulary", needed)


def _build_byte_level(vocab: _Vocabulary) -> Tokenizer:
    import tokenizers
    from tokenizers import models, normalizers, pre_tokenizers

    rule = _pretokenizer(vocab)
    model = models.BPE(vocab=vocab.ids, merges=_read_merges(vocab), ignore_merges=rule.whole_words)
    backend = tokenizers.Tokenizer(model)
    if rule.nfc:
        backend.normalizer = normalizers.NFC()
    before, after = (
        [pre_tokenizers.Split(tokenizers.Regex(pattern), behavior="isolated") for pattern in row]
        for row in (rule.patterns, rule.after)
    )
    alphabet = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.pre_tokenizer = pre_tokenizers.Sequence([*before, alphabet, *after])
    return _finish(
        vocab, backend, piece_bytes=byte_level, adds_bos=rule.adds_bos, strips_space=False
    )


def _pretokenizer(vocab: _Vocabulary) -> PreTokenizer:
    name = vocab.facts.optional_text("tokenizer.ggml.pre")
    if name is None:
        raise TokenizerError(
            vocab.path,
            "does not say how text is cut into words (tokenizer.ggml.pre)",
            hint="the file comes from an old converter; get a newer conversion",
        )
    try:
        return PRETOKENIZERS[name]
    except KeyError:
        raise UnsupportedModelError(
            vocab.path,
            f"wants the pre-tokenizer {name!r}",
            hint="quantchat does not know it, and a wrong one would spoil the answers",
        ) from None


def _read_merges(vocab: _Vocabulary) -> list[tuple[str, str]]:
    lines = vocab.facts.optional_texts("tokenizer.ggml.merges")
    if lines is None:
        raise TokenizerError(vocab.path, "has a BPE tokenizer without merges", hint=_BROKEN_HINT)
    if len(lines) > MAX_MERGES:
        raise TokenizerError(
            vocab.path,
            f"claims {len(lines)} merges, at most {MAX_MERGES} make sense",
            hint=_BROKEN_HINT,
        )
    _check_room(vocab.path, MERGE_BYTES * len(lines))
    ids = vocab.ids
    merges: list[tuple[str, str]] = []
    for line in lines:
        cut = line.find(" ", 1)
        left, right = line[:cut], line[cut + 1 :]
        if cut < 0 or left not in ids or right not in ids or left + right not in ids:
            raise TokenizerError(
                vocab.path,
                f"has the merge {line[:80]!r}, which is not of known tokens",
                hint=_BROKEN_HINT,
            )
        merges.append((left, right))
    return merges


def _build_sentencepiece(vocab: _Vocabulary) -> Tokenizer:
    import tokenizers
    from tokenizers import models, normalizers

    scores = vocab.facts.optional_numbers("tokenizer.ggml.scores")
    if scores is None or len(scores) != len(vocab.pieces):
        raise TokenizerError(
            vocab.path, "has a SentencePiece tokenizer without a score a token", hint=_BROKEN_HINT
        )
    try:
        merges = merges_from_scores(vocab.pieces, scores, vocab.of_type(NORMAL, UNUSED))
    except TooManySplits:
        raise TokenizerError(
            vocab.path, "has tokens of more characters than make sense", hint=_BROKEN_HINT
        ) from None
    unknown = vocab.of_type(UNKNOWN)
    model = models.BPE(
        vocab=vocab.ids,
        merges=merges,
        unk_token=vocab.pieces[unknown[0]] if unknown else None,
        fuse_unk=True,
        byte_fallback=True,
    )
    backend = tokenizers.Tokenizer(model)
    prefix = vocab.facts.flag("tokenizer.ggml.add_space_prefix", default=True)
    spaces = normalizers.Replace(" ", SPACE)
    backend.normalizer = (
        normalizers.Sequence([normalizers.Prepend(SPACE), spaces]) if prefix else spaces
    )
    return _finish(vocab, backend, piece_bytes=sentencepiece, adds_bos=True, strips_space=prefix)


def _finish(
    vocab: _Vocabulary,
    backend: tokenizers.Tokenizer,
    *,
    piece_bytes: PieceBytes,
    adds_bos: bool,
    strips_space: bool,
) -> Tokenizer:
    from tokenizers import AddedToken

    bos_id = vocab.special_id("bos")
    named = {vocab.special_id(name) for name in ("eos", "eot", "eom")} - {None}
    special_ids = frozenset(vocab.of_type(CONTROL, UNKNOWN))
    words_added = vocab.of_type(USER_DEFINED)
    eos_ids = frozenset(i for i in named if i is not None)
    eos_ids |= turn_ends(vocab.pieces, special_ids | frozenset(words_added))
    special_ids |= eos_ids | marks(vocab.pieces, words_added)
    if bos_id is not None:
        special_ids |= {bos_id}
    thought = thought_marks(vocab.pieces, (*special_ids, *words_added))
    special_ids -= thought
    literal_ids = (frozenset(words_added) | thought) - special_ids
    for ids, special in ((special_ids, True), (literal_ids, False)):
        backend.add_tokens(
            [AddedToken(vocab.pieces[i], special=special, normalized=False) for i in sorted(ids)]
        )
    return Tokenizer(
        path=vocab.path,
        backend=backend,
        pieces=vocab.pieces,
        piece_bytes=piece_bytes,
        literal_ids=literal_ids,
        special_ids=special_ids,
        bos_id=bos_id,
        eos_ids=eos_ids,
        adds_bos=vocab.facts.flag("tokenizer.ggml.add_bos_token", default=adds_bos),
        strips_space=strips_space,
        template=choose_template(
            vocab.facts.optional_text("tokenizer.chat_template"),
            path=vocab.path,
            ids=vocab.ids,
            special_tokens=_special_words(vocab),
        ),
    )


def _special_words(vocab: _Vocabulary) -> Mapping[str, str]:
    """The template's variables: bos_token, eos_token, and so on, as far as the file has them."""
    keys = {"bos_token": "bos", "eos_token": "eos", "unk_token": "unknown", "pad_token": "padding"}
    found = {word: vocab.special_id(key) for word, key in keys.items()}
    return {word: vocab.pieces[i] for word, i in found.items() if i is not None}


_KINDS = {"gpt2": _build_byte_level, "llama": _build_sentencepiece}
