"""A tokenizer from a Hugging Face folder: tokenizer.json and the small files beside it.

Owns which file answers which question. Folders without tokenizer.json go through transformers,
imported only then, which never runs code from the folder.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from quantchat.checkpoints.facts import Facts
from quantchat.checkpoints.json_file import read_bytes, read_object
from quantchat.checkpoints.room import check_room
from quantchat.errors import CheckpointError, TokenizerError, UnsupportedModelError
from quantchat.tokenizer.fallback import choose_template
from quantchat.tokenizer.pieces import PieceBytes, byte_level, sentencepiece
from quantchat.tokenizer.pipeline import check_pipeline, steps_of
from quantchat.tokenizer.rust import BROKEN_HINT, guarded
from quantchat.tokenizer.special import marks, thought_marks, turn_ends
from quantchat.tokenizer.template import MAX_TEMPLATE_CHARS
from quantchat.tokenizer.tokenizer import Tokenizer

if TYPE_CHECKING:
    import tokenizers

MAX_TOKENIZER_BYTES = 128 << 20
TEXT_BYTES = 128
"""What a text in tokenizer.json costs in memory at least: two of them make a merge."""
MAX_TOKENS = 2_000_000
SPARE_IDS = 1 << 16
"""Ids without a token that a vocabulary may have beside as many as it has tokens."""

_SLOW_FILES = ("tokenizer.model", "vocab.json", "spiece.model")
_WORDS = ("bos_token", "eos_token", "unk_token", "pad_token")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Side:
    """The small files of a folder; an absent one has no facts."""

    tokenizer_config: Facts
    special_tokens: Facts
    generation: Facts
    model: Facts

    @classmethod
    def read(cls, folder: Path) -> _Side:
        return cls(
            tokenizer_config=_facts(folder / "tokenizer_config.json"),
            special_tokens=_facts(folder / "special_tokens_map.json"),
            generation=_facts(folder / "generation_config.json"),
            model=_facts(folder / "config.json"),
        )

    def word(self, name: str) -> str | None:
        """A special token's spelling; a null in tokenizer_config.json means there is none."""
        for facts in (self.tokenizer_config, self.special_tokens):
            if name in facts:
                value = facts[name]
                word = value.get("content") if isinstance(value, dict) else value
                return word if isinstance(word, str) else None
        return None

    def knows(self, name: str) -> bool:
        return name in self.tokenizer_config or name in self.special_tokens

    def ids(self, name: str) -> Iterator[int]:
        """Ids in the model's own configs: one number or a list of them."""
        for facts in (self.generation, self.model):
            value = facts.get(name)
            for found in value if isinstance(value, list) else [value]:
                if isinstance(found, int) and not isinstance(found, bool):
                    yield found


def from_folder(path: Path) -> Tokenizer:
    """The tokenizer of a Hugging Face folder.

    Raises TokenizerError where it is missing or damaged, UnsupportedModelError for kinds that
    are not known here.
    """
    source = path / "tokenizer.json"
    try:
        backend = _read(source) if source.is_file() else _converted(path)
    except TokenizerError:
        raise
    except CheckpointError as error:
        raise _as_ours(error) from error
    backend.no_truncation()
    backend.no_padding()
    check_pipeline(path, backend)
    return _assemble(path, backend)


def _read(source: Path) -> tokenizers.Tokenizer:
    import tokenizers

    data = read_bytes(source, MAX_TOKENIZER_BYTES)
    check_room(source, "its vocabulary", data.count(b'"') // 2 * TEXT_BYTES)
    with guarded(source, "is not a tokenizer"):
        # Of bytes, not of text: one emoji would make a text four times as large as the file.
        return tokenizers.Tokenizer.from_buffer(data)


def _converted(folder: Path) -> tokenizers.Tokenizer:
    """What tokenizer.json would describe, made by transformers from an older format."""
    if not any((folder / name).is_file() for name in _SLOW_FILES):
        raise TokenizerError(
            folder, "has no tokenizer", hint="tokenizer.json is missing; download the whole model"
        )
    from transformers import AutoTokenizer

    try:
        with guarded(folder, "has no tokenizer.json, and its tokenizer cannot be converted"):
            slow = AutoTokenizer.from_pretrained(
                str(folder), local_files_only=True, trust_remote_code=False
            )
            # Not by way of its text: writing goes through all ids up to the highest.
            converted: tokenizers.Tokenizer = slow.backend_tokenizer
    except TokenizerError as error:
        raise TokenizerError(
            folder, _of(error), hint="take a version of the model that has a tokenizer.json"
        ) from error
    return converted


def _assemble(folder: Path, backend: tokenizers.Tokenizer) -> Tokenizer:
    side = _Side.read(folder)
    with guarded(folder, "has a broken vocabulary"):
        ids: dict[str, int] = backend.get_vocab(with_added_tokens=True)
        added = backend.get_added_tokens_decoder()
    if not ids:
        raise TokenizerError(folder, "has a tokenizer without tokens", hint=BROKEN_HINT)
    highest = max(ids.values())
    if highest >= min(MAX_TOKENS, 2 * len(ids) + SPARE_IDS):
        raise TokenizerError(
            folder, f"has {len(ids)} tokens, one with the id {highest}", hint=BROKEN_HINT
        )
    pieces = [""] * (highest + 1)
    for piece, token_id in ids.items():
        pieces[token_id] = piece
    specials = frozenset(i for i, token in added.items() if token.special)
    words = {name: word for name in _WORDS if (word := side.word(name)) is not None}
    bos_id = ids.get(words.get("bos_token", ""))
    if bos_id is None and not side.knows("bos_token"):
        bos_id = next((i for i in side.ids("bos_token_id") if 0 <= i <= highest), None)
    eos_ids = frozenset(i for i in side.ids("eos_token_id") if 0 <= i <= highest)
    eos_ids |= {ids[words["eos_token"]]} if words.get("eos_token") in ids else frozenset()
    eos_ids |= turn_ends(pieces, added)
    named = {ids[word] for word in words.values() if word in ids}
    specials |= eos_ids | named | (frozenset() if bos_id is None else {bos_id})
    specials |= marks(pieces, added)
    specials -= thought_marks(pieces, added)
    _make_special(backend, [token for i, token in added.items() if i in specials])
    spelling = _spelling(folder, backend)
    return Tokenizer(
        path=folder,
        backend=backend,
        pieces=pieces,
        piece_bytes=spelling.piece_bytes,
        literal_ids=frozenset(added) - specials,
        special_ids=specials,
        bos_id=bos_id,
        eos_ids=eos_ids,
        adds_bos=_adds_bos(folder, side, backend, bos_id),
        strips_space=spelling.strips_space,
        template=choose_template(
            _template_text(folder, side), path=folder, ids=ids, special_tokens=words
        ),
    )


def _make_special(backend: tokenizers.Tokenizer, added: Iterable[tokenizers.AddedToken]) -> None:
    """Have the backend spell them out, too, where a text is to be plain characters."""
    words = [token for token in added if not token.special]
    for token in words:
        token.special = True
    # All at once: each call goes over every added token, and some files have tens of thousands.
    backend.add_special_tokens(words)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Spelling:
    piece_bytes: PieceBytes
    strips_space: bool


def _spelling(folder: Path, backend: tokenizers.Tokenizer) -> _Spelling:
    """How pieces are spelled, by the steps of the tokenizer's decoder."""
    kinds = {str(step.get("type")): step for step in steps_of(folder, backend.decoder)}
    if "ByteLevel" in kinds:
        return _Spelling(piece_bytes=byte_level, strips_space=False)
    if "Metaspace" in kinds:
        metaspace = kinds["Metaspace"]
        prefix = metaspace.get("prepend_scheme", "always") != "never"
        prefix = prefix and metaspace.get("add_prefix_space") is not False
        return _Spelling(piece_bytes=sentencepiece, strips_space=prefix)
    if "ByteFallback" in kinds:
        strip = kinds.get("Strip", {})
        prefix = strip.get("content") == " " and strip.get("start") == 1
        return _Spelling(piece_bytes=sentencepiece, strips_space=prefix)
    raise UnsupportedModelError(
        folder,
        f"has a tokenizer that decodes by {', '.join(kinds) or 'nothing'}",
        hint="byte-level BPE and SentencePiece are known",
    )


def _adds_bos(folder: Path, side: _Side, backend: tokenizers.Tokenizer, bos_id: int | None) -> bool:
    """The config's word, else what the tokenizer does to an empty text."""
    stated = side.tokenizer_config.get("add_bos_token")
    if isinstance(stated, bool):
        return stated and bos_id is not None
    with guarded(folder, "cannot be used as a tokenizer"):
        ids: list[int] = backend.encode("", add_special_tokens=True).ids
    return bos_id is not None and ids[:1] == [bos_id]


def _template_text(folder: Path, side: _Side) -> str | None:
    """The model's chat template: its own file first, then the configs."""
    file = folder / "chat_template.jinja"
    if file.is_file():
        return _read_text(file)
    beside = _facts(folder / "chat_template.json")
    for value in (side.tokenizer_config.get("chat_template"), beside.get("chat_template")):
        if isinstance(value, str):
            return value
        if isinstance(value, list):
            named = {
                str(entry.get("name")): entry.get("template")
                for entry in value
                if isinstance(entry, dict)
            }
            text = named.get("default", next(iter(named.values()), None))
            if isinstance(text, str):
                return text
    return None


def _read_text(file: Path) -> str:
    try:
        with open(file, encoding="utf-8") as handle:
            text = handle.read(MAX_TEMPLATE_CHARS + 1)
    except (OSError, UnicodeDecodeError) as error:
        raise TokenizerError(file, f"cannot be read: {error}", hint=BROKEN_HINT) from error
    if len(text) > MAX_TEMPLATE_CHARS:
        raise TokenizerError(file, f"has more than {MAX_TEMPLATE_CHARS} characters")
    return text


def _facts(file: Path) -> Facts:
    if not file.is_file():
        return Facts(file, {})
    try:
        table, _ = read_object(file)
    except CheckpointError as error:
        raise _as_ours(error) from error
    return Facts(file, table)


def _as_ours(error: CheckpointError) -> TokenizerError:
    return TokenizerError(error.path, _of(error), hint=error.hint or BROKEN_HINT)


def _of(error: CheckpointError) -> str:
    return error.message.removeprefix(f"{error.path.name}: ")
