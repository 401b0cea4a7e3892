"""An export loads without the original and computes the same numbers; a damaged one says where."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import factory
import pytest
import torch
from exports import export, logits

from quantchat.engine.loading import read_tokenizer
from quantchat.errors import CheckpointError, PlanError
from quantchat.evals.subject import open_subject
from quantchat.model import shards
from quantchat.model.families import open_model
from quantchat.quant.registry import SCHEMES

SMALL = {"num_hidden_layers": 2, "intermediate_size": 128}


CASES = [
    ("fp16", "qwen3"),
    ("int8", "llama"),
    ("fp8", "qwen2"),
    ("w8a8-static", "llama"),
    ("fp8-static", "qwen2"),
    ("int4", "qwen2"),
    ("nf4-dq", "llama"),
    ("llm-int8", "mistral_window"),
    ("awq", "qwen3"),
    ("squeezellm", "llama3"),
    ("qoq", "llama"),
]


@pytest.mark.parametrize(("scheme", "family"), CASES)
def test_it_computes_what_the_original_does_and_needs_it_no_more(
    tmp_path: Path, scheme: str, family: str
) -> None:
    torch.set_num_threads(1)
    source = factory.write_hf(tmp_path / "source", family, dtype="bfloat16", **SMALL)
    subject = open_subject(str(source))
    expected, spec = logits(subject, scheme), subject.source.spec
    subject.close()
    out = export(source, tmp_path / "out", scheme)
    shutil.rmtree(source)
    again = open_subject(str(out))
    assert again.source.spec == spec and again.source.export is not None
    assert again.tokenizer.encode("The sky", add_bos=True)
    for asked in ("auto", "stored", scheme):
        plan = again.plan(asked, "16bit", "cpu", 64)
        assert plan.scheme.name == scheme
    assert torch.equal(logits(again, "auto"), expected)
    with pytest.raises(PlanError, match=f"was exported in {scheme}"):
        again.plan("int8" if scheme != "int8" else "int4", "16bit", "cpu", 64)
    again.close()


def test_one_whose_head_is_as_its_linears_loads_as_it_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.set_num_threads(1)
    source = factory.write_hf(tmp_path / "source", "qwen2", dtype="bfloat16", **SMALL)
    older = {**SCHEMES, "fp8": dataclasses.replace(SCHEMES["fp8"], head="same")}
    with monkeypatch.context() as patch:
        patch.setattr("quantchat.quant.registry.SCHEMES", older)
        out = export(source, tmp_path / "out", "fp8")
        subject = open_subject(str(source))
        expected = logits(subject, "fp8")
        subject.close()
    again = open_subject(str(out))
    assert torch.equal(logits(again, "auto"), expected)
    again.close()


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("export")
    source = factory.write_hf(folder / "source", "qwen2", **SMALL)
    return export(source, folder / "out", "int4")


def test_several_files_stay_below_their_limit(
    tmp_path: Path, whole: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from safetensors import safe_open

    limit = shards.HEADER_BYTES + 8 + 25_000
    monkeypatch.setattr(shards, "SHARD_BYTES", limit)
    source = whole.parent / "source"
    out = export(source, tmp_path / "out", "int4")
    files = sorted(out.glob("*.safetensors"))
    assert len(files) > 2 and files[0].name == f"model-00001-of-{len(files):05d}.safetensors"
    assert all(file.stat().st_size <= limit for file in files)
    names = set()
    for file in files:
        with safe_open(file, "pt") as opened:
            names |= set(opened.keys())
            for name in opened.keys():  # noqa: SIM118
                opened.get_tensor(name)
    table = json.loads((out / "model.safetensors.index.json").read_text())
    assert names == set(table["weight_map"])
    one, many = open_subject(str(whole)), open_subject(str(out))
    assert torch.equal(logits(one, "auto"), logits(many, "auto"))
    one.close()
    many.close()


def edit(change: Callable[[dict[str, Any]], Any]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        marker = folder / "quantchat.json"
        table = json.loads(marker.read_text())
        change(table)
        marker.write_text(json.dumps(table))

    return apply


def first(table: dict[str, Any]) -> dict[str, Any]:
    part: dict[str, Any] = table["index"]["linears"]["layers.1.down"][0]
    return part


def rewrite(name: str, change: Callable[[torch.Tensor], torch.Tensor]) -> Callable[[Path], None]:
    def apply(folder: Path) -> None:
        from safetensors.torch import load_file, save_file

        tensors = load_file(folder / "model.safetensors")
        tensors[name] = change(tensors[name]).contiguous()
        save_file(tensors, folder / "model.safetensors")

    return apply


DAMAGE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "cut weights": (lambda f: factory.cut(f / "model.safetensors", 1 << 20), "model.safetensors"),
    "cut marker": (lambda f: factory.cut(f / "quantchat.json", 500), "not valid JSON"),
    "other format": (edit(lambda t: t.update(format=2)), "of format 2"),
    "unknown scheme": (edit(lambda t: t.update(scheme="int5")), "scheme 'int5' is not known"),
    "stored": (edit(lambda t: t.update(scheme="stored")), "scheme 'stored' is not known"),
    "other groups": (edit(lambda t: t.update(group_size=32)), "in groups of 32"),
    "other scheme": (edit(lambda t: t.update(scheme="nf4")), "layers.0.qkv"),
    "no spec": (edit(lambda t: t.pop("spec")), "spec is missing"),
    "wider spec": (edit(lambda t: t["spec"].update(intermediate=192)), "layers.0.gate_up"),
    "other vocab": (edit(lambda t: t["spec"].update(vocab=353)), "head"),
    "no index": (edit(lambda t: t.update(index={})), "broken index"),
    "a linear missing": (edit(lambda t: t["index"]["linears"].pop("layers.1.down")), "1.down"),
    "a tensor missing": (
        edit(lambda t: first(t)["tensors"].update(scale="nowhere")),
        "tensor 'nowhere': is missing",
    ),
    "a form unknown": (edit(lambda t: first(t).update(form="stored int5")), "layers.1.down"),
    "an op's form": (edit(lambda t: first(t).update(form="tiles-1")), "layers.1.down"),
    "a shape that lies": (edit(lambda t: first(t).update(shape=[64, 256])), "layers.1.down"),
    "a shape of nothing": (edit(lambda t: first(t).update(shape=[1 << 50, 1])), "index"),
    "a norm missing": (
        edit(lambda t: t["index"]["vectors"].pop("final_norm")),
        "tensor 'final_norm'",
    ),
    "a norm too long": (
        rewrite("final_norm", lambda w: torch.cat([w, w])),
        "tensor 'final_norm'",
    ),
    "scales in another type": (
        rewrite("layers.0.o.scale", lambda w: w.double()),
        "tensor 'layers.0.o'",
    ),
    "codes cut": (rewrite("layers.0.o.packed", lambda w: w[1:]), "tensor 'layers.0.o'"),
    "a bias cut": (rewrite("layers.0.qkv.bias", lambda w: w[1:]), "tensor 'layers.0.qkv'"),
    "no embedding": (edit(lambda t: t["index"].update(embedding=None)), "tensor 'embed'"),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_damage_is_named(tmp_path: Path, whole: Path, damage: str) -> None:
    folder = tmp_path / "out"
    shutil.copytree(whole, folder)
    apply, said = DAMAGE[damage]
    apply(folder)
    with pytest.raises(CheckpointError) as caught:
        subject = open_subject(str(folder))
        try:
            logits(subject, "auto")
        finally:
            subject.close()
    assert said in caught.value.message


def test_a_marker_without_weights_is_no_model(tmp_path: Path, whole: Path) -> None:
    folder = tmp_path / "out"
    shutil.copytree(whole, folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError):
        open_model(folder)


def test_its_tokenizer_is_the_models(whole: Path) -> None:
    source = open_model(whole)
    try:
        assert read_tokenizer(source, whole).eos_ids
    finally:
        source.close()


def test_probe_plans_it_in_its_own_scheme(whole: Path) -> None:
    from click.testing import CliRunner

    from quantchat.cli.probe import command

    words = ["--json", "--device", "cpu", "--model", str(whole)]
    result = CliRunner().invoke(command, words, catch_exceptions=False)
    assert json.loads(result.stdout)["plan"]["scheme"] == "int4"
