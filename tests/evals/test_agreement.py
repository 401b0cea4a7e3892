"""The steps that answers run against float32: right ones agree, wrong ones are seen."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import factory
import pytest
from click.testing import CliRunner

from quantchat.cli.bench import command
from quantchat.engine.loading import build_pool
from quantchat.errors import Cancelled, QuantchatError
from quantchat.evals import agreement
from quantchat.evals.agreement import agree
from quantchat.evals.divergence import concat, summarize
from quantchat.evals.greedy import write_answers
from quantchat.evals.prompts import PROMPTS
from quantchat.evals.subject import Subject
from quantchat.model.decoder import Decoder
from quantchat.ops.kv_pool import KvPool

TOKENS = 6


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("agree") / "tiny"
    return factory.write_hf(path, "qwen3", max_position_embeddings=1024)


def run(subject: Subject, **changes: Any) -> agreement.Agreement:
    options: dict[str, Any] = {"scheme": "int8", "kv": "16bit", "device": "cpu", "tokens": TOKENS}
    silent = {"on_work": lambda label, done, total: None, "cancelled": lambda: False}
    return agree(subject, PROMPTS[:3], **{**options, **silent, **changes})


@pytest.mark.parametrize("kv", ["16bit", "int8"])
@pytest.mark.parametrize("scheme", ["fp16", "int8", "int4", "awq"])
def test_steps_on_the_same_weights_agree(subject: Subject, scheme: str, kv: str) -> None:
    found = run(subject, scheme=scheme, kv=kv)
    assert found.steps.positions == 3 * TOKENS and found.steps.nonfinite_positions == 0
    # bfloat16 on one side: not nothing, and far below what a scheme costs.
    assert 0 < found.steps.kl_mean.value < 2e-3
    assert 0 <= found.same_top <= found.steps.positions
    assert found.plain is None and not found.captured and found.kv == kv


def test_a_wrong_operation_is_seen(subject: Subject, monkeypatch: pytest.MonkeyPatch) -> None:
    made = agreement.make_ops

    def wrong(*words: Any) -> Any:
        ops = made(*words)
        silu = ops.silu_mul
        ops.silu_mul = lambda x: silu(x).neg_()
        return ops

    monkeypatch.setattr(agreement, "make_ops", wrong)
    found = run(subject)
    assert not found.passed and found.steps.kl_mean.value > agreement.KL_LIMIT


def test_a_nan_never_passes(subject: Subject) -> None:
    found = run(subject)
    bad = dataclasses.replace(found.steps, nonfinite_positions=1)
    good = dataclasses.replace(found, same_top=found.steps.positions)
    within = dataclasses.replace(
        good.steps, kl_mean=dataclasses.replace(good.steps.kl_mean, value=1e-4)
    )
    assert dataclasses.replace(good, steps=within).passed
    assert not dataclasses.replace(good, steps=bad).passed
    none = dataclasses.replace(within, positions=0)
    assert not dataclasses.replace(good, steps=none).passed


def reference_of(subject: Subject) -> tuple[Decoder, KvPool, Any]:
    plan = subject.plan("fp16", "16bit", "cpu", 256)
    decoder = subject.float32_decoder(plan, lambda *_: None, lambda: False)
    return decoder, build_pool(decoder, plan), plan


def test_the_reference_agrees_with_itself_step_by_prompt(subject: Subject) -> None:
    decoder, pool, plan = reference_of(subject)
    prompts = [[5, 6, 7], list(range(3, 40)), [9]]
    answers = write_answers(
        decoder,
        pool,
        prompts,
        tokens=TOKENS,
        end_ids=(),
        chunk_tokens=16,
        on_step=lambda done: None,
        cancelled=lambda: False,
    )
    assert [answer.steps for answer in answers] == [TOKENS] * 3
    same = summarize(concat(agreement._as_prompts(decoder, decoder, plan, answers)))
    assert same.kl_max < 1e-8 and same.same_top.value == 1.0
    # Alone, in a pool of its own, each answer is the same.
    (alone,) = write_answers(
        decoder,
        build_pool(decoder, plan),
        prompts[1:2],
        tokens=TOKENS,
        end_ids=(),
        chunk_tokens=256,
        on_step=lambda done: None,
        cancelled=lambda: False,
    )
    assert alone.tokens == answers[1].tokens


def test_an_end_token_is_never_picked(subject: Subject) -> None:
    decoder, pool, _ = reference_of(subject)
    options: dict[str, Any] = {
        "tokens": TOKENS,
        "chunk_tokens": 16,
        "on_step": lambda done: None,
        "cancelled": lambda: False,
    }
    (free,) = write_answers(decoder, pool, [[5, 6, 7]], end_ids=(), **options)
    (kept,) = write_answers(decoder, pool, [[5, 6, 7]], end_ids=free.tokens[:1], **options)
    assert free.tokens[0] not in kept.tokens and len(kept.tokens) == len(free.tokens)


def test_it_can_be_stopped(subject: Subject) -> None:
    with pytest.raises(Cancelled):
        run(subject, cancelled=lambda: True)


def test_the_command_ends_with_one_object(folder: Path) -> None:
    words = ["agree", "-m", str(folder), "-s", "fp16,int8", "--device", "cpu", "--prompts", "2"]
    done = CliRunner().invoke(command, [*words, "--tokens", "4"], catch_exceptions=False)
    lines = done.stdout.strip().splitlines()
    record = json.loads(lines[-1])
    assert [row["scheme"] for row in record["rows"]] == ["fp16", "int8"]
    for row in record["rows"]:
        assert row["steps"]["positions"] == 8 and isinstance(row["passed"], bool)
    assert "same top token" in done.stdout


def test_beyond_the_limits_is_a_failure_where_asked(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agreement, "KL_LIMIT", 0.0)
    words = ["agree", "-m", str(folder), "--device", "cpu", "--prompts", "1", "--tokens", "2"]
    assert CliRunner().invoke(command, [*words, "--json"]).exit_code == 0
    done = CliRunner().invoke(command, [*words, "--check"])
    assert isinstance(done.exception, QuantchatError) and "BEYOND" in done.stdout
    too_many = CliRunner().invoke(command, [*words, "--prompts", "21"])
    assert isinstance(too_many.exception, QuantchatError)


def test_prompts_differ() -> None:
    assert len(PROMPTS) == len(set(PROMPTS)) == 20
