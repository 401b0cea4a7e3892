"""What is fuzzed: how an input of each kind is made, and what is done with it.

An input is files in a folder and the name of the one to open ("" for the folder). It is the same
for the same kind, seed and number.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from types import MappingProxyType

import fuzz_bytes
import fuzz_dense
import fuzz_gguf
import fuzz_json
import fuzz_seeds
import fuzz_templates
import tiny_tokenizer
from fuzz_seeds import Files

from quantchat.checkpoints.gguf import GgufFile
from quantchat.model.families import open_model
from quantchat.requests import Message
from quantchat.tokenizer import Detokenizer, Tokenizer, from_folder, from_gguf
from quantchat.tokenizer.template import ChatTemplate

SAMPLE = (
    "Hello, 1234 w\u00f6rld!\n\tdef f(x): return x\u00b2 \U0001f469\u200d\U0001f469 \u4f60\u597d"
)
CHAT = (Message("system", "Be brief."), Message("user", SAMPLE), Message("assistant", "Yes"))
MOST_DENSE_BYTES = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """One kind of input."""

    share: int
    """Of 100 inputs."""
    make: Callable[[Random], Files]
    use: Callable[[Path], None]
    """Opens what `make` wrote into the folder, and reads all of it."""
    room_bytes: int = 3 << 20
    """What an input may take beside twice its size: a template's compiler, and other fixed costs."""


def use_model(folder: Path) -> None:
    """Open a GGUF file or a folder, read its tensors and its tokenizer."""
    files = sorted(folder.glob("*.gguf"))
    source = open_model(files[0] if files else folder)
    try:
        checkpoint = source.checkpoint
        checkpoint.identity()
        for name in checkpoint.tensors:
            assert checkpoint.dense(name).shape == checkpoint.tensors[name].shape
        if isinstance(checkpoint, GgufFile):
            use_text(from_gguf(checkpoint))
    finally:
        source.close()


def use_gguf(folder: Path) -> None:
    """The tokenizer of a GGUF file, whatever its tensors are."""
    with GgufFile(next(folder.glob("*.gguf"))) as file:
        use_text(from_gguf(file))


def use_tokenizer(folder: Path) -> None:
    """The tokenizer of a folder."""
    use_text(from_folder(folder))


def use_text(tokenizer: Tokenizer) -> None:
    """Text to ids and back, whole and token by token, and a conversation."""
    ids = tokenizer.encode(SAMPLE, add_bos=True, parse_special=True)
    stream = Detokenizer(tokenizer)
    streamed = "".join(map(stream.push, ids)) + stream.flush()
    assert streamed == tokenizer.decode(ids), "streamed text differs"
    if len(ids) % 4 == 0:  # compiling a template takes longer than all the rest
        tokenizer.encode_chat(CHAT[:2])
        tokenizer.encode_chat(CHAT, continue_last=True, add_generation_prompt=False)


def use_template(folder: Path) -> None:
    """A chat template by itself."""
    text = (folder / "chat_template.jinja").read_text(encoding="utf-8")
    words = {"bos_token": "<s>", "eos_token": "</s>"}
    template = ChatTemplate(text, source="model", path=folder, special_tokens=words)
    template.render(CHAT, add_generation_prompt=True)


def _gguf(random: Random) -> Files:
    if random.random() < 0.3:
        sound = fuzz_seeds.vocabulary(random.choice(["gpt2", "llama"]))
    else:
        sound = fuzz_seeds.architecture(random.choice(list(fuzz_seeds.ARCHITECTURES)))
    return {"m.gguf": fuzz_gguf.damaged(random, sound)}


def _gguf_vocabulary(random: Random) -> Files:
    sound = fuzz_seeds.vocabulary(random.choice(["gpt2", "llama"]))
    return {"m.gguf": fuzz_gguf.damaged(random, sound, prefix=b"tokenizer.")}


def _gguf_split(random: Random) -> Files:
    parts = list(fuzz_seeds.split())
    files = {name: part.file() for name, part in zip(fuzz_seeds.split_names(3), parts, strict=True)}
    n = random.randrange(3)
    name = fuzz_seeds.split_names(3)[n]
    what = random.random()
    if what < 0.1:
        del files[name]
    elif what < 0.2:
        files[name] = files[random.choice(list(files))]
    elif what < 0.6:
        files[name] = fuzz_gguf.damaged(random, parts[n], prefix=b"split.")
    else:
        files[name] = fuzz_gguf.damaged(random, parts[n])
    return files


def _safetensors(random: Random) -> Files:
    names = [*fuzz_seeds.FAMILIES[:6], "mixtral", "falcon_40b"]
    sound = fuzz_seeds.family(random.choice(names))
    return sound | {"model.safetensors": _damaged_safetensors(random, sound["model.safetensors"])}


def _damaged_safetensors(random: Random, data: bytes) -> bytes:
    length = int.from_bytes(data[:8], "little")
    header, body = data[8 : 8 + length], data[8 + length :]
    what = random.random()
    if what < 0.6:
        header = fuzz_json.text_of(random, fuzz_json.mutated(random, json.loads(header)))
    elif what < 0.8:
        header = fuzz_bytes.mutated(random, header)
    elif what < 0.9:
        claimed = random.choice([*fuzz_bytes.EXTREMES, length + 1, length - 1, len(data) - 8])
        return fuzz_seeds.with_header(header, body, claimed=claimed)
    else:
        body = body[: random.randrange(len(body))]
    return fuzz_seeds.with_header(header, body)


def _config(random: Random) -> Files:
    sound = fuzz_seeds.family(random.choice(fuzz_seeds.FAMILIES))
    return sound | {"config.json": _damaged_json(random, sound["config.json"])}


def _index(random: Random) -> Files:
    name = "model.safetensors.index.json"
    sound = fuzz_seeds.shards()
    if random.random() < 0.8:
        return sound | {name: _damaged_json(random, sound[name])}
    shard = random.choice([file for file in sound if file.endswith(".safetensors")])
    return sound | {shard: _damaged_safetensors(random, sound[shard])}


def _layout(random: Random) -> Files:
    sound = fuzz_seeds.layout(random.choice(fuzz_seeds.LAYOUTS))
    what = random.random()
    if what < 0.5:
        config = json.loads(sound["config.json"])
        changed = fuzz_json.mutated(random, config["quantization_config"])
        table = config | {"quantization_config": changed}
        return sound | {"config.json": fuzz_json.text_of(random, table)}
    if what < 0.6:
        other = fuzz_seeds.layout(random.choice(fuzz_seeds.LAYOUTS))
        return sound | {"config.json": other["config.json"]}
    data = sound["model.safetensors"]
    if what < 0.9:
        return sound | {"model.safetensors": _damaged_safetensors(random, data)}
    length = 8 + int.from_bytes(data[:8], "little")
    spoilt = (
        data[:length] + fuzz_bytes.mutated(random, data[length:], most=40)[: len(data) - length]
    )
    return sound | {"model.safetensors": spoilt}


def _damaged_json(random: Random, data: bytes) -> bytes:
    if random.random() < 0.15:
        return fuzz_bytes.mutated(random, data)
    return fuzz_json.text_of(random, fuzz_json.mutated(random, json.loads(data)))


def _tokenizer_json(random: Random) -> Files:
    table = fuzz_seeds.tokenizer_json(random.choice(fuzz_seeds.TOKENIZERS))
    if random.random() < 0.1:
        return {"tokenizer.json": fuzz_bytes.mutated(random, json.dumps(table).encode())}
    # Most changes go to what is not a token or a merge.
    rest = {key: value for key, value in table.items() if key != "model"}
    model = dict(table["model"])
    long = [key for key in ("vocab", "merges") if key in model and random.random() < 0.8]
    kept = {key: model.pop(key) for key in long}
    changed = fuzz_json.mutated(random, {**rest, "model": model})
    if isinstance(changed, dict) and isinstance(changed.get("model"), dict):
        changed["model"] = {**changed["model"], **kept}
    return {"tokenizer.json": fuzz_json.text_of(random, changed)}


def sound_tokenizer() -> Files:
    """A folder's tokenizer with all the files that may lie beside it."""
    files = {"tokenizer.json": tiny_tokenizer.tokenizer_json("llama-bpe").encode()}
    return files | {name: json.dumps(table).encode() for name, table in fuzz_seeds.SIDES.items()}


def _tokenizer_side(random: Random) -> Files:
    files = sound_tokenizer()
    for name in random.sample(list(fuzz_seeds.SIDES), random.randint(1, 3)):
        files[name] = _damaged_json(random, files[name])
    return files


def _tokenizer_slow(random: Random) -> Files:
    table = fuzz_seeds.tokenizer_json("gpt-2")["model"]
    merges = "#version: 0.2\n" + "\n".join(" ".join(pair) for pair in table["merges"])
    files = {
        "vocab.json": json.dumps(table["vocab"]).encode(),
        "merges.txt": merges.encode(),
        "config.json": b'{"model_type": "gpt2"}',
        "tokenizer_config.json": b'{"tokenizer_class": "GPT2Tokenizer"}',
    }
    name = random.choice([*files, "tokenizer.model"])
    if name == "tokenizer.model":
        del files["vocab.json"]
        piece = b"\x0a\x0e\x0a\x05<unk>\x15\0\0\0\0\x18\x02"
        return files | {name: fuzz_bytes.mutated(random, piece * 20, most=20)}
    if name.endswith(".json"):
        return files | {name: _damaged_json(random, files[name])}
    return files | {name: fuzz_bytes.mutated(random, files[name], most=20)}


def _template(random: Random) -> Files:
    text = fuzz_templates.damaged(random) if random.random() < 0.4 else fuzz_templates.grown(random)
    return {"chat_template.jinja": text.encode("utf-8", "replace")}


def _dense(random: Random) -> Files:
    return fuzz_dense.made(random, random.randint(MOST_DENSE_BYTES // 8, MOST_DENSE_BYTES))


def _use_dense(folder: Path) -> None:
    names = {file.name for file in folder.iterdir()}
    if "tokenizer.json" in names:
        return use_tokenizer(folder)
    if "chat_template.jinja" in names:
        return use_template(folder)
    return use_gguf(folder) if "m.gguf" in names else use_model(folder)


KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        "gguf": Kind(share=22, make=_gguf, use=use_model),
        "gguf vocabulary": Kind(share=13, make=_gguf_vocabulary, use=use_gguf),
        "gguf in parts": Kind(share=4, make=_gguf_split, use=use_model),
        "safetensors header": Kind(share=16, make=_safetensors, use=use_model),
        "config.json": Kind(share=14, make=_config, use=use_model),
        "index.json": Kind(share=7, make=_index, use=use_model),
        "quantized layouts": Kind(share=10, make=_layout, use=use_model),
        "tokenizer.json": Kind(share=6, make=_tokenizer_json, use=use_tokenizer),
        "files beside it": Kind(share=4, make=_tokenizer_side, use=use_tokenizer),
        "vocab.json, .model": Kind(share=1, make=_tokenizer_slow, use=use_tokenizer),
        "chat templates": Kind(share=2, make=_template, use=use_template, room_bytes=8 << 20),
        "dense and large": Kind(share=1, make=_dense, use=_use_dense, room_bytes=8 << 20),
    }
)
assert sum(kind.share for kind in KINDS.values()) == 100
