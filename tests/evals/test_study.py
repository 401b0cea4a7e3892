"""`quantchat eval` from words to rows, on a tiny model, and its order of quality."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import factory
import pytest
import torch
from click.testing import CliRunner

from quantchat.cli.eval import command
from quantchat.errors import Cancelled, PlanError, UsageError
from quantchat.evals.report import COLUMNS, cells
from quantchat.evals.study import evaluate
from quantchat.evals.subject import open_subject
from quantchat.evals.text import METHODS, cut
from quantchat.quant.registry import SCHEMES

PROSE = Path(__file__).parent.parent / "data" / "prose.txt"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("eval") / "tiny"
    return factory.write_hf(path, "qwen3", max_position_embeddings=1024)


def run(folder: Path, *words: str) -> Any:
    torch.set_num_threads(1)
    result = CliRunner().invoke(
        command,
        ["--model", str(folder), "--device", "cpu", "--tokens", "255", *words],
        catch_exceptions=False,
    )
    assert result.exit_code == 0
    return result


def test_json_rows_are_in_the_order_of_their_bits(folder: Path) -> None:
    result = run(folder, "--text", str(PROSE), "--json", "--schemes", "all")
    record = json.loads(result.stdout)
    assert (record["method"], record["scored_tokens"]) == ("llama.cpp", 255)
    rows = {(row["scheme"], row["kv"]): row for row in record["rows"]}
    schemes = set(SCHEMES) - {"stored"}
    assert set(rows) == {(scheme, kv) for scheme in schemes for kv in ("16bit", "int8")}
    kl = {key: row["kl_mean"] for key, row in rows.items()}
    assert 0 < kl["fp16", "16bit"] < kl["int8", "16bit"] < kl["int4", "16bit"]
    assert kl["fp16", "16bit"] < kl["fp16", "int8"]
    for row in rows.values():
        assert row["positions"] == 255 and row["nonfinite_positions"] == 0
        assert 0 < row["kl_mean_se"] < row["kl_mean"]
        assert row["kl_median"] <= row["kl_p99"] <= row["kl_p999"] <= row["kl_max"]
        assert 0 < row["same_top"] <= 1
        base = record["reference"]["nll"]
        assert row["nll"] == pytest.approx(base + row["ln_ppl_ratio"], abs=1e-9)
    parameters = record["parameters"]
    assert rows["fp16", "16bit"]["weight_bytes"] == 2 * parameters
    assert rows["fp16", "16bit"]["bits_per_weight"] == 16
    assert 8 < rows["int8", "16bit"]["bits_per_weight"] < 9
    assert (
        2 * rows["fp16", "int8"]["kv_bytes_per_token"] > rows["fp16", "16bit"]["kv_bytes_per_token"]
    )
    assert len(record["refused"]) == 2
    assert all(line.startswith("stored with") for line in record["refused"])


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
        ((), "no text"),
        (("--text", "x", "--schemes", "int5"), "unknown scheme 'int5'"),
        (("--text", "x", "--kv", "int5"), "unknown KV precision 'int5'"),
        (("--text", "x", "--schemes", " , "), "names nothing"),
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
                schemes=("fp16",),
                kvs=("16bit",),
                device="cpu",
                reference="fp32",
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
            schemes=("int4",),
            kvs=("int8",),
            device="cpu",
            reference="fp32",
            on_work=lambda label, done, total: None,
            cancelled=lambda: False,
        )
    finally:
        subject.close()
    assert len(cells(study.rows[0])) == len(COLUMNS)
