"""Small vocabularies for tests, written as GGUF files that llama.cpp can load too."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from quantchat.checkpoints.facts import Facts

SAMPLE = (
    "The quick brown fox jumps over 13 lazy dogs. It's 2024, isn't it? I'LL say THEY'RE done!\n"
    "def add(a, b):\n\treturn a + b  # 100% sure\r\n\n\n    if x >= 10_000:\n        pass\n"
    "Größe, naïve café, Ελληνικά, Привет мир 42, שלום עולם, مرحبا بالعالم ١٢٣, नमस्ते दुनिया १२३\n"
    "你好，世界。日本語のテキスト、カタカナ 한국어 텍스트 ภาษาไทย 第3章 12345678 1234.5678\n"
    "👩‍👩‍👧‍👦 🏳️‍🌈 👍🏽 🇩🇪 e\u0301 ½ Ⅷ x² ™ a/b//c ///path {}[]() <tag> $5 €6 a=b ^_^ `code` ~|~\n"
    "   leading and trailing   \n \t \u00a0nbsp \u3000wide camelCase HTTPServer ALLCAPSword OÜÄö "
    "ხუთი საქართველო Ⴀⴀ ʔa ªº\n"
)
"""Digits, code, contractions, many scripts, joined emojis, odd spaces."""

TEXTS = (
    *SAMPLE.splitlines(keepends=True),
    SAMPLE,
    "",
    " ",
    "\n",
    "a",
    "  a",
    "a  ",
    "1",
    " 1 22 333 4444 55555",
    "\n\n \n",
    "'S it'S 'Twas 've",
    "end.\n\nNew  paragraph",
    "....!!!???\n\n",
)

CONTROL_TOKENS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")


@dataclass
class Vocabulary:
    """Everything `tokenizer.ggml.*` holds."""

    model: str
    tokens: list[str]
    types: list[int]
    merges: list[str] | None = None
    scores: list[float] | None = None
    pre: str | None = None
    bos: int | None = None
    eos: int | None = None
    template: str | None = None
    flags: dict[str, bool] = field(default_factory=dict)


def byte_level_vocabulary(
    pre: str = "gpt-2", size: int = 700, *, sample: str = SAMPLE
) -> Vocabulary:
    """Byte-level BPE trained across word borders, so that any wrong cut changes the ids."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = trainers.BpeTrainer(
        vocab_size=size,
        min_frequency=1,
        special_tokens=list(CONTROL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        max_token_length=6,
        show_progress=False,
    )
    windows = [sample[n : n + 7] for n in range(len(sample))]
    backend.train_from_iterator(windows, trainer)
    model = json.loads(backend.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].__getitem__)
    return Vocabulary(
        model="gpt2",
        tokens=tokens,
        types=[3] * len(CONTROL_TOKENS) + [1] * (len(tokens) - len(CONTROL_TOKENS)),
        merges=[" ".join(pair) for pair in model["merges"]],
        pre=pre,
        bos=1,
        eos=2,
        flags={"add_bos_token": False},
    )


def sentencepiece_vocabulary(size: int = 700, *, space_prefix: bool = True) -> Vocabulary:
    """SentencePiece-style BPE: scores fall with the rank of the merge that makes the piece."""
    from tokenizers import Tokenizer, models, normalizers, trainers

    base = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    backend = Tokenizer(models.BPE(unk_token="<unk>"))
    backend.normalizer = normalizers.Replace(" ", "\u2581")
    trainer = trainers.BpeTrainer(
        vocab_size=size - len(base), min_frequency=1, limit_alphabet=150, show_progress=False
    )
    backend.train_from_iterator([f" {word}" for word in SAMPLE.split()] * 2, trainer)
    model = json.loads(backend.to_str())["model"]
    learned = sorted(model["vocab"], key=model["vocab"].__getitem__)
    letters = [piece for piece in learned if len(piece) == 1]
    longer = [piece for piece in learned if len(piece) > 1]
    tokens = [*base, *longer, "<tool>", *letters]
    return Vocabulary(
        model="llama",
        tokens=tokens,
        types=[2, 3, 3, *[6] * 256, *[1] * len(longer), 4, *[1] * len(letters)],
        scores=[0.0] * len(base) + [-float(n) for n in range(len(longer) + 1 + len(letters))],
        bos=1,
        eos=2,
        flags={"add_space_prefix": space_prefix},
    )


def write_gguf(path: Path, vocabulary: Vocabulary) -> Path:
    """A GGUF file with the vocabulary and a one-layer llama of random weights."""
    import gguf
    import numpy as np

    hidden, heads, feed = 32, 2, 32
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(128)
    writer.add_embedding_length(hidden)
    writer.add_block_count(1)
    writer.add_feed_forward_length(feed)
    writer.add_head_count(heads)
    writer.add_head_count_kv(heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(hidden // heads)
    writer.add_vocab_size(len(vocabulary.tokens))
    writer.add_tokenizer_model(vocabulary.model)
    writer.add_token_list(vocabulary.tokens)
    writer.add_token_types(vocabulary.types)
    if vocabulary.pre is not None:
        writer.add_tokenizer_pre(vocabulary.pre)
    if vocabulary.merges is not None:
        writer.add_token_merges(vocabulary.merges)
    if vocabulary.scores is not None:
        writer.add_token_scores(vocabulary.scores)
    if vocabulary.bos is not None:
        writer.add_bos_token_id(vocabulary.bos)
    if vocabulary.eos is not None:
        writer.add_eos_token_id(vocabulary.eos)
    if vocabulary.template is not None:
        writer.add_chat_template(vocabulary.template)
    for name, value in vocabulary.flags.items():
        writer.add_bool(f"tokenizer.ggml.{name}", value)
    random = np.random.default_rng(0)
    shapes: dict[str, tuple[int, ...]] = {
        "token_embd": (len(vocabulary.tokens), hidden),
        "output_norm": (hidden,),
        "blk.0.attn_norm": (hidden,),
        "blk.0.ffn_norm": (hidden,),
        **{f"blk.0.attn_{part}": (hidden, hidden) for part in ("q", "k", "v", "output")},
        "blk.0.ffn_gate": (feed, hidden),
        "blk.0.ffn_up": (feed, hidden),
        "blk.0.ffn_down": (hidden, feed),
    }
    for name, shape in shapes.items():
        writer.add_tensor(f"{name}.weight", random.normal(size=shape).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


class LlamaCpp:
    """llama.cpp's own tokenizer of a model file, asked through its local server."""

    def __init__(self, server: Any) -> None:
        self._server = server

    def encode(self, text: str, *, add_bos: bool = False, parse_special: bool = False) -> list[int]:
        """Token ids as llama.cpp sees them."""
        body = {"content": text, "add_special": add_bos, "parse_special": parse_special}
        request = urllib.request.Request(
            f"{self._server.listening_address}/tokenize",
            data=json.dumps(body).encode(),
            headers={"content-type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=30) as reply:
            found: list[int] = json.load(reply)["tokens"]
        return found


@contextmanager
def llama_cpp(path: Path) -> Iterator[LlamaCpp]:
    """A running llama.cpp for a model file."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx = 64
    params.cpuparams.n_threads = 1
    params.n_gpu_layers = 0
    params.warmup = False
    yield LlamaCpp(xllamacpp.Server(params))


@dataclass
class Metadata:
    path: Path
    metadata: Facts


def facts_of(vocabulary: Vocabulary, **changes: Any) -> Metadata:
    """A file's metadata without the file; a change to None removes the key."""
    prefix = "tokenizer.ggml."
    values = {
        f"{prefix}model": vocabulary.model,
        f"{prefix}tokens": vocabulary.tokens,
        f"{prefix}token_type": vocabulary.types,
        f"{prefix}merges": vocabulary.merges,
        f"{prefix}scores": vocabulary.scores,
        f"{prefix}pre": vocabulary.pre,
        f"{prefix}bos_token_id": vocabulary.bos,
        f"{prefix}eos_token_id": vocabulary.eos,
        **{prefix + name: value for name, value in vocabulary.flags.items()},
        **{prefix + name: value for name, value in changes.items()},
    }
    path = Path("tiny.gguf")
    return Metadata(path, Facts(path, {k: v for k, v in values.items() if v is not None}))
