"""`quantchat eval` from words to rows, on a tiny model, and its order of quality."""

from __future__ import annotations

import json
import math
import signal
from pathlib import Path
from typing import Any

import click
import factory
import pytest
import torch
from click.testing import CliRunner

from quantchat import paths
from quantchat.cli.eval import command
from quantchat.cli.lists import kv_words, scheme_words
from quantchat.engine.loading import build_pool
from quantchat.errors import Cancelled, EngineError, PlanError, UsageError
from quantchat.evals.report import COLUMNS, cells
from quantchat.evals.study import Wish, evaluate
from quantchat.evals.subject import open_subject
from quantchat.evals.text import METHODS, cut
from quantchat.hardware.execution import ExecutionPlan
from quantchat.kv_formats import KV_FORMATS
from quantchat.model.decoder import Decoder
from quantchat.ops.kv_pool import KvPool
from quantchat.quant.registry import SCHEMES
from quantchat.store.quality import measured_quality

PROSE = Path(__file__).parent.parent / "data" / "prose.txt"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("eval") / "tiny"
    return factory.write_hf(path, "qwen3", max_position_embeddings=1024)


def run(folder: Path, *words: str, code: int = 0) -> Any:
    torch.set_num_threads(1)
    count = () if {"--quick", "--tokens"} & set(words) else ("--tokens", "255")
    result = CliRunner().invoke(
        command,
        ["--model", str(folder), "--device", "cpu", *count, *words],
        catch_exceptions=False,
    )
    assert result.exit_code == code
    return result


def test_json_rows_are_in_the_order_of_their_bits(folder: Path) -> None:
    chosen = ("fp16", "int8", "int4", "fp8", "stored")
    result = run(folder, "--text", str(PROSE), "--json", "--schemes", ",".join(chosen))
    record = json.loads(result.stdout)
    assert (record["method"], record["scored_tokens"]) == ("llama.cpp", 255)
    rows = {(row["scheme"], row["kv"]): row for row in record["rows"]}
    assert set(rows) == {(scheme, kv) for scheme in chosen[:-1] for kv in ("16bit", "int8")}
    kl = {key: row["kl_mean"] for key, row in rows.items()}
    assert 0 < kl["fp16", "16bit"] < kl["int8", "16bit"] < kl["int4", "16bit"]
    assert kl["fp16", "16bit"] < kl["fp16", "int8"]
    for row in rows.values():
        assert row["positions"] == 255 and row["nonfinite_positions"] == 0
        assert 0 < row["kl_mean_se"] < row["kl_mean"]
        assert row["kl_median"] <= row["kl_p99"] <= row["kl_p999"] <= row["kl_max"]
        assert 0 < row["kl_median_se"] < row["kl_median"] and row["kl_p999_se"] is None
        assert 0 < row["same_top"] <= 1
        base = record["reference"]["nll"]
        assert row["nll"] == pytest.approx(base + row["ln_ppl_ratio"], abs=1e-9)
    parameters = record["parameters"]
    assert rows["fp16", "16bit"]["weight_bytes"] == 2 * parameters
    assert rows["fp16", "16bit"]["bits_per_weight"] == 16
    assert 8 < rows["int8", "16bit"]["bits_per_weight"] < 9
    # What a card holds, though a CPU keeps fp8 values in 16 bits.
    assert 8 < rows["fp8", "16bit"]["bits_per_weight"] < 9
    assert rows["fp8", "16bit"]["held_bytes"] > rows["fp8", "16bit"]["weight_bytes"]
    assert (
        2 * rows["fp16", "int8"]["kv_bytes_per_token"] > rows["fp16", "16bit"]["kv_bytes_per_token"]
    )
    (refused,) = record["refused"]
    assert refused.startswith("stored with 16bit, int8 KV: 'as stored' runs")
    assert not record["stopped"] and not record["reference"]["cached"]


def test_all_names_every_scheme_and_other_names_are_ours() -> None:
    assert scheme_words("all") == tuple(SCHEMES)
    assert scheme_words("w8a16, int8,bf16") == ("int8", "fp16")
    assert kv_words("all") == tuple(KV_FORMATS)


def test_the_second_run_takes_the_reference_from_the_disk(folder: Path) -> None:
    words = ("--text", str(PROSE), "--schemes", "int8", "--kv", "16bit")
    first = json.loads(run(folder, *words, "--json").stdout)
    second = json.loads(run(folder, *words, "--json").stdout)
    assert not first["reference"].pop("cached") and second["reference"].pop("cached")
    assert first["reference"] == second["reference"]
    rows = [{k: v for k, v in x["rows"][0].items() if k[:6] != "score_"} for x in (first, second)]
    assert rows[0] == rows[1]
    assert "log-probabilities cached" in run(folder, *words).stdout
    # Another text is another reference.
    other = json.loads(run(folder, *words, "--json", "--tokens", "256").stdout)
    assert not other["reference"]["cached"]


@pytest.mark.parametrize("damage", ["cut", "zeros", "shape"])
def test_a_damaged_reference_is_made_anew(folder: Path, damage: str) -> None:
    words = ("--text", str(PROSE), "--schemes", "int8", "--kv", "16bit", "--json")
    first = json.loads(run(folder, *words).stdout)
    (kept,) = paths.references_dir().glob("*.safetensors")
    if damage == "cut":
        factory.cut(kept, 1000)
    elif damage == "zeros":
        factory.patch(kept, 0, bytes(64))
    else:
        from safetensors.torch import save_file

        save_file({"window.0": torch.zeros(255, 63)}, kept)
    again = json.loads(run(folder, *words).stdout)
    assert again["reference"] == first["reference"]


def test_without_a_text_the_model_writes_chats_and_its_answers_are_scored(folder: Path) -> None:
    words = ("--schemes", "fp16,int4", "--kv", "16bit", "--json", "--tokens", "100")
    record = json.loads(run(folder, *words).stdout)
    assert record["method"] == "chats" and "chats of its own, seed 0" in record["text"]
    assert 100 <= record["scored_tokens"] < 100 + 16 < record["tokens"]
    rows = {row["scheme"]: row for row in record["rows"]}
    assert 0 < rows["fp16"]["kl_mean"] < rows["int4"]["kl_mean"]
    again = json.loads(run(folder, *words).stdout)
    assert again["reference"].pop("cached") and again["text_hash"] == record["text_hash"]
    other = json.loads(run(folder, *words, "--seed", "1").stdout)
    assert other["text_hash"] != record["text_hash"]
    (kept, _) = paths.references_dir().glob("*.json")
    kept.write_text('{"windows": [{"ids": [1, 999999], "first_target": 1}]}')
    assert json.loads(run(folder, *words).stdout)["text_hash"] == record["text_hash"]


def test_both_methods_are_named(folder: Path) -> None:
    deep = folder.parent / "deep"
    factory.write_hf(deep, "qwen3", max_position_embeddings=4096)
    long = folder.parent / "long.txt"
    long.write_text(PROSE.read_text("utf-8") * 8, "utf-8")
    words = ("--text", str(long), "--schemes", "fp16", "--kv", "16bit", "--method", "both")
    record = json.loads(run(deep, *words, "--json").stdout)
    assert [study["method"] for study in record["studies"]] == ["academic", "llama.cpp"]
    assert [study["scored_tokens"] for study in record["studies"]] == [2047, 255]
    shown = run(deep, *words).stdout
    assert "academic method" in shown and "llama.cpp method" in shown


def test_measured_rows_are_remembered(folder: Path) -> None:
    words = ("--text", str(PROSE), "--schemes", "int4", "--kv", "16bit,int8", "--json")
    record = json.loads(run(folder, *words).stdout)
    for row in record["rows"]:
        found = measured_quality(record["identity"], "int4", row["kv"])
        assert found is not None
        assert (found.kl_mean, found.same_top) == (row["kl_mean"], row["same_top"])
        assert (found.tokens, found.method, found.text) == (255, "llama.cpp", "prose.txt")
        assert found.ppl_ratio == pytest.approx(row["ppl"] / record["reference"]["ppl"])


def test_a_cache_that_cannot_be_had_costs_its_own_row_alone(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(decoder: Decoder, plan: ExecutionPlan) -> KvPool:
        if plan.kv == "int8":
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")
        return build_pool(decoder, plan)

    monkeypatch.setattr("quantchat.evals.study.build_pool", short)
    words = ("--text", str(PROSE), "--schemes", "int8", "--kv", "16bit,int8,int4", "--json")
    record = json.loads(run(folder, *words).stdout)
    assert [row["kv"] for row in record["rows"]] == ["16bit", "int4"]
    (refused,) = record["refused"]
    assert refused.startswith("int8 with int8 KV: not enough memory: CUDA out of memory. Tried to")
    monkeypatch.setattr("quantchat.evals.study.build_pool", lambda *words: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        run(folder, *words)


def test_nothing_measured_is_exit_code_1_and_no_room_for_the_reference_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def short(decoder: Decoder, plan: ExecutionPlan) -> KvPool:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    words = ("--text", str(PROSE), "--schemes", "int8", "--kv", "int8")
    with monkeypatch.context() as patch:
        patch.setattr("quantchat.evals.study.build_pool", short)
        result = run(folder, *words, code=1)
        assert "int8 with int8 KV: not enough memory" in result.output
    monkeypatch.setattr("quantchat.evals.reference.build_pool", short)
    monkeypatch.setattr("quantchat.evals.kept.states", lambda *_, **__: None)
    with pytest.raises(EngineError, match="the fp32 reference: not enough memory: CUDA out of"):
        run(folder, *words)


def test_a_mean_that_leaves_positions_out_is_told_and_not_remembered(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    logits = Decoder.logits

    def broken(self: Decoder, hidden: torch.Tensor) -> torch.Tensor:
        out = logits(self, hidden).clone()
        out[0] = math.nan
        return out

    monkeypatch.setattr(Decoder, "logits", broken)
    words = ("--text", str(PROSE), "--schemes", "int8", "--kv", "int4")
    shown = run(folder, *words).stdout
    assert "int8 with int4 KV: 1 positions were not finite" in shown
    subject = open_subject(str(folder))
    assert measured_quality(subject.identity, "int8", "int4") is None
    subject.close()


def test_ctrl_c_prints_the_rows_that_are_finished(folder: Path) -> None:
    def interrupt(text: str) -> None:
        if text.startswith("int8"):
            signal.raise_signal(signal.SIGINT)

    before = signal.getsignal(signal.SIGINT)
    with pytest.MonkeyPatch.context() as patch:
        echo = click.echo

        def heard(message: Any = None, *args: Any, **kwargs: Any) -> None:
            echo(message, *args, **kwargs)
            if kwargs.get("err") and "KL" in str(message):
                interrupt(str(message))

        patch.setattr("quantchat.cli.eval_words.click.echo", heard)
        words = ("--text", str(PROSE), "--schemes", "fp16,int8,int4", "--kv", "16bit", "--json")
        result = run(folder, *words, code=130)
    record = json.loads(result.stdout)
    assert [row["scheme"] for row in record["rows"]] == ["fp16", "int8"]
    assert record["stopped"] and "stopping" in result.stderr
    assert signal.getsignal(signal.SIGINT) is before


def test_a_model_against_itself_is_nothing_apart(folder: Path) -> None:
    words = ("--reference", "fp16", "--schemes", "fp16", "--kv", "16bit")
    result = run(folder, "--text", str(PROSE), "--json", *words)
    (row,) = json.loads(result.stdout)["rows"]
    assert row["kl_max"] < 1e-9
    assert (row["same_top"], row["delta_p_rms"]) == (1, 0)


def test_the_table_holds_every_row_and_says_what_it_measured(folder: Path) -> None:
    result = run(folder, "--text", str(PROSE), "--schemes", "fp16,stored", "--kv", "int8")
    for words in ("tiny on prose.txt", "255 scored tokens", "float32", "not run: stored with int8"):
        assert words in result.stdout
    assert "reference\n" in result.stderr


def test_bad_words_are_usage_errors(folder: Path) -> None:
    for words, match in (
        (("--text", "x", "--schemes", "int5"), "unknown scheme 'int5'"),
        (("--text", "x", "--kv", "int5"), "unknown KV precision 'int5'"),
        (("--text", "x", "--schemes", " , "), "names nothing"),
        (("--text", "x", "--task", "y"), "different things"),
        (("--quick", "--tokens", "3"), "--quick says"),
        (("--calibration", "nowhere.txt"), "nowhere.txt cannot be read"),
    ):
        with pytest.raises(UsageError, match=match):
            run(folder, *words)


def test_windows_longer_than_the_model_was_made_for_are_refused(tmp_path: Path) -> None:
    path = factory.write_hf(tmp_path / "short", "llama")
    with pytest.raises(PlanError, match="made for 256"):
        run(path, "--text", str(PROSE))


def test_cancelling_stops_between_chunks(folder: Path) -> None:
    subject = open_subject(str(folder))
    passages = cut(
        PROSE.read_text("utf-8"),
        subject.tokenizer,
        METHODS["llama.cpp"],
        origin="prose",
        max_scored_tokens=255,
    )
    seen: list[tuple[str, int, int]] = []
    try:
        with pytest.raises(Cancelled):
            evaluate(
                subject,
                passages,
                Wish(schemes=("fp16",), kvs=("16bit",), device="cpu"),
                on_work=lambda *work: seen.append(work),
                cancelled=lambda: bool(seen) and seen[-1][1] >= 256,
            )
    finally:
        subject.close()
    assert seen[-1] == ("reference", 256, 512)


def test_cells_match_the_columns(folder: Path) -> None:
    subject = open_subject(str(folder))
    try:
        passages = cut(
            PROSE.read_text("utf-8"),
            subject.tokenizer,
            METHODS["llama.cpp"],
            origin="prose",
            max_scored_tokens=1,
        )
        study = evaluate(
            subject,
            passages,
            Wish(schemes=("int4",), kvs=("int8",), device="cpu"),
            on_work=lambda label, done, total: None,
            cancelled=lambda: False,
        )
    finally:
        subject.close()
    assert len(cells(study.rows[0])) == len(COLUMNS)
