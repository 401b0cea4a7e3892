"""Search and variants: what a picker learns from the hub, and how it ends when nobody answers."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest
from fake_servers import FakeServer, folder_files, gguf

from quantchat.errors import Cancelled
from quantchat.hub.http import SourceError
from quantchat.hub.search import FoundRepo, search
from quantchat.hub.variants import Offer, config_label, gguf_type, type_bits, variants


def find(query: str, **words: Any) -> list[FoundRepo]:
    return search(query, cancel=threading.Event(), **words)


def look_up(repo: str) -> Offer:
    return variants(repo, cancel=threading.Event())


@pytest.fixture(autouse=True)
def facts(hub: FakeServer) -> None:
    hub.facts["own/folder"] = {
        "downloads": 5,
        "likes": 9,
        "lastModified": "2026-03-01T10:00:00.000Z",
        "gated": "auto",
        "tags": ["license:apache-2.0", "text-generation", "evil\x1b[2J"],
        "safetensors": {"total": 135_000_000},
    }
    hub.facts["own/one"] = {"downloads": 70, "likes": 1, "lastModified": "2025-01-01T00:00:00Z"}


def test_rows_and_sorting(hub: FakeServer) -> None:
    assert [row.repo for row in find("OWN")] == ["own/one", "own/folder"]
    assert [row.repo for row in find("own", sort="updated")] == ["own/folder", "own/one"]
    assert [row.repo for row in find("own", sort="likes", limit=1)] == ["own/folder"]
    row = find("fold")[0]
    assert row == FoundRepo(
        repo="own/folder",
        downloads=5,
        likes=9,
        updated="2026-03-01",
        gated=True,
        private=False,
        license="apache-2.0",
        tags=("license:apache-2.0", "text-generation", "evil[2J"),
        parameters=135_000_000,
    )
    assert find("nothing of the kind") == []
    assert find("")


def test_what_is_no_chat_model_is_left_out_unless_it_is_named(hub: FakeServer) -> None:
    tags = {
        "own/paints": ["text-to-image", "diffusers"],
        "own/embeds": ["sentence-similarity", "gguf"],
        "own/sees": ["image-text-to-text", "feature-extraction"],
        "own/untold": [],
    }
    for name, each in tags.items():
        hub.repos[name], hub.facts[name] = {}, {"tags": each}
    assert {row.repo for row in find("own/")} == {"own/folder", "own/one", "own/sees", "own/untold"}
    assert find("own/paints")[0].repo == "own/paints"


def test_pasted_address_finds_its_repository(hub: FakeServer) -> None:
    hub.repos["own/one-more"] = {}
    hub.facts["own/one-more"] = {"downloads": 1000}
    for text in ("own/one", f"{hub.url}/own/one/blob/main/tiny.Q4.gguf", "own/one:tiny.Q4.gguf"):
        assert find(text)[0].repo == "own/one"


def test_hostile_rows_are_left_out(hub: FakeServer) -> None:
    rows = [3, {}, {"id": "../etc"}, {"id": "a/b", "downloads": "x", "tags": 3, "gguf": []}]
    hub.pages["/api/models"] = ("application/json", json.dumps(rows).encode())
    assert [(row.repo, row.downloads, row.parameters) for row in find("a")] == [("a/b", 0, 0)]
    hub.pages["/api/models"] = ("application/json", b'{"error": 1}')
    with pytest.raises(SourceError, match="unreadable"):
        find("a")


def test_silent_hub_is_given_up_in_time(hub: FakeServer) -> None:
    hub.faults.silent = True
    with pytest.raises(SourceError, match="did not answer in time") as caught:
        find("own", timeout_s=0.3)
    assert caught.value.fault == "unreachable"


def test_next_keystroke_ends_the_question(hub: FakeServer) -> None:
    hub.faults.silent = True
    cancel = threading.Event()
    threading.Timer(0.1, cancel.set).start()
    with pytest.raises(Cancelled):
        search("own", cancel=cancel)


def test_offline_is_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(SourceError) as caught:
        find("own")
    assert caught.value.fault == "unreachable"
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(SourceError, match="HF_HUB_OFFLINE") as caught:
        find("own")
    assert caught.value.fault == "unreachable"


def test_variants_of_a_gguf_repository(hub: FakeServer) -> None:
    hub.repos["own/many"] = {
        "m-Q4_K_M.gguf": gguf(3000),
        "m-IQ2_XXS.gguf": gguf(2000),
        "bf16/m-BF16-00001-of-00002.gguf": gguf(5000),
        "bf16/m-BF16-00002-of-00002.gguf": gguf(5001),
        "lost-Q8_0-00002-of-00002.gguf": gguf(10),
        "mmproj-m-F16.gguf": gguf(10),
    }
    offer = look_up("own/many")
    assert [(each.label, each.bits, each.size_bytes, each.files) for each in offer.variants] == [
        ("IQ2_XXS", 2.0, 2000, 1),
        ("Q4_K_M", 4.0, 3000, 1),
        ("BF16", 16.0, 10001, 2),
    ]
    assert offer.variants[2].name == "own/many:bf16/m-BF16-00001-of-00002.gguf"
    assert offer.may_fetch and not offer.gated


def test_variants_of_a_safetensors_folder(hub: FakeServer, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.facts.pop("own/folder")
    files = hub.repos["own/folder"] = folder_files()
    told = {"quant_method": "awq", "bits": 4}
    files["config.json"] = json.dumps(
        {"architectures": ["LlamaForCausalLM"], "quantization_config": told}
    ).encode()
    offer = look_up("own/folder")
    taken = [name for name in files if "00" in name or "model.safe" in name or "token" in name]
    assert [(each.name, each.label, each.bits) for each in offer.variants] == [
        ("own/folder", "AWQ", 4.0)
    ]
    assert offer.variants[0].size_bytes == sum(len(files[n]) for n in [*taken, "config.json"])
    assert offer.architecture == "LlamaForCausalLM"
    assert offer.config["quantization_config"] == told

    hub.gated.add("own/folder")
    assert not look_up("own/folder").may_fetch
    monkeypatch.setenv("HF_TOKEN", hub.token)
    assert look_up("own/folder").may_fetch
    hub.allowed = False
    offer = look_up("own/folder")
    assert not offer.may_fetch and offer.config == {} and offer.variants


def test_labels() -> None:
    names = {
        "SmolLM2-135M-Instruct.Q4_1.gguf": ("Q4_1", 4.0),
        "x/Llama-3.2-1B-UD-IQ1_M.gguf": ("UD-IQ1_M", 1.0),
        "gpt-oss-20b-mxfp4.gguf": ("MXFP4", 4.25),
        "model-f16.gguf": ("F16", 16.0),
        "Qwen3-8B.gguf": ("", None),
        "tinyllama-q5_k_s.gguf": ("Q5_K_S", 5.0),
        "M.i1-Q6_K.gguf": ("Q6_K", 6.0),
    }
    for name, (label, bits) in names.items():
        assert (gguf_type(name), type_bits(gguf_type(name))) == (label, bits)
    groups = {"group_0": {"weights": {"num_bits": 8}}}
    quantized = {"quant_method": "compressed-tensors", "config_groups": groups}
    assert config_label({"quantization_config": quantized}) == ("compressed-tensors", 8.0)
    assert config_label({"torch_dtype": "bfloat16"}) == ("BF16", 16.0)
    assert config_label({}) == ("safetensors", None)
    assert config_label({"quantization_config": {"quant_method": "bitsandbytes"}})[1] == 8.0
