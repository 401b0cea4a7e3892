"""`quantchat bench kernels` without a card: what it launches, what it counts, what it refuses."""

import json
from collections.abc import Callable
from typing import Any

import pytest
import torch
from bench_subjects import TINY, variants_of
from click.testing import CliRunner

from quantchat.bench import kernels
from quantchat.bench.ceilings import Ceilings, ceilings_lines
from quantchat.bench.kernels import KernelOptions, Timing, measure
from quantchat.cli import bench_kernels
from quantchat.cli.bench import command
from quantchat.errors import PlanError, QuantchatError
from quantchat.hardware.linears import group_size_of
from quantchat.hardware.memory import decode_read_bytes, kv_bytes_per_token
from quantchat.hardware.probe import probe
from quantchat.quant.registry import SCHEMES
from quantchat.spec import DecoderSpec

CEILINGS = Ceilings(device="cpu", read_gb_per_s=100.0)
LAUNCH_S = 1e-6


@pytest.fixture
def launched(monkeypatch: pytest.MonkeyPatch) -> list[list[torch.Tensor]]:
    """Every launch runs once and takes a microsecond."""
    seen: list[list[torch.Tensor]] = []

    def times(launches: list[Callable[[], Any]]) -> list[float]:
        seen.append([launch() for launch in launches])
        return [LAUNCH_S, LAUNCH_S, 3 * LAUNCH_S]

    monkeypatch.setattr(kernels, "graph_times_s", times)
    return seen


@torch.inference_mode()
def timings_of(spec: DecoderSpec, scheme: str, kv: str, lines: list[str]) -> list[Timing]:
    options = KernelOptions(
        device="cpu", schemes=(scheme,), kvs=(kv,), rows=(1, 3), contexts=(5, 40)
    )
    return measure(spec, options, probe(), CEILINGS, lines.append)


@pytest.mark.parametrize("scheme", ["fp16", "int8", "int4", "llm-int8"])
def test_a_layer_and_the_head_are_what_a_step_reads(
    scheme: str, launched: list[list[torch.Tensor]]
) -> None:
    lines: list[str] = []
    found = timings_of(TINY, scheme, "16bit", lines)
    assert len(lines) == len(found)
    by_op = {(timing.op, timing.rows): timing for timing in found if timing.op != "attend"}
    record = SCHEMES[scheme]
    for rows in (1, 3):
        layer, head = by_op["layer", rows], by_op["head", rows]
        parts = [by_op[name, rows] for name in ("qkv", "o", "gate_up", "down")]
        assert layer.read_bytes == sum(part.read_bytes for part in parts)
        step = TINY.layers * layer.read_bytes + head.read_bytes
        formula = decode_read_bytes(TINY, record, group_size_of(TINY, record))
        assert step == pytest.approx(formula, rel=0.02)
        assert layer.time_us.median == pytest.approx(4.0)
        assert layer.time_us.highest == pytest.approx(12.0)
        assert head.gb_per_s == pytest.approx(head.read_bytes / LAUNCH_S / 1e9)
        assert head.ceiling_share == pytest.approx(head.gb_per_s / 100.0)
    assert all(bool(out.isfinite().all()) for outs in launched for out in outs)


@pytest.mark.parametrize("spec", variants_of(TINY), ids=lambda s: f"{s.architecture}{s.tied_head}")
@pytest.mark.parametrize("kv", ["16bit", "int8", "k8v4"])
def test_attention_reads_the_context_of_every_row(
    spec: DecoderSpec, kv: str, launched: list[list[torch.Tensor]]
) -> None:
    found = [t for t in timings_of(spec, "fp16", kv, []) if t.op == "attend"]
    assert [(t.rows, t.shape) for t in found] == [
        *((1, "5 tokens"), (1, "40 tokens"), (3, "5 tokens"), (3, "40 tokens"))
    ]
    per_token = kv_bytes_per_token(spec, kv) // spec.layers
    assert [t.read_bytes for t in found] == [
        rows * context * per_token for rows, context in ((1, 5), (1, 40), (3, 5), (3, 40))
    ]
    for timing, outs in zip(found, launched[-4:], strict=True):
        assert all(out.shape == (timing.rows, spec.heads * spec.head_dim) for out in outs)
        assert all(bool(out.isfinite().all()) for out in outs)


def test_without_a_card_it_says_so() -> None:
    if probe().gpus:
        pytest.skip("this machine has a card")
    done = CliRunner().invoke(command, ["kernels"])
    assert isinstance(done.exception, PlanError) and "NVIDIA" in str(done.exception)


def test_the_limits_name_only_what_was_measured() -> None:
    full = Ceilings(
        device="cuda",
        read_gb_per_s=3101.0,
        copy_gb_per_s=3028.0,
        bf16_gflops=773_000,
        fp8_gflops=1_500_000,
        int8_gops=9_999,
        graph_gap_us=1.02,
    )
    text = "\n".join(ceilings_lines(full))
    assert "reads 3101.0 GB/s, copies 3028.0 GB/s" in text
    assert "bf16 773 TFLOP/s, fp8 1500 TFLOP/s, int8 9999 GOP/s" in text
    assert "1.02 us" in text and "fp32" not in text
    assert ceilings_lines(CEILINGS) == ["cpu measured: reads 100.0 GB/s"]


def test_a_wrong_kernel_means_no_timing(monkeypatch: pytest.MonkeyPatch) -> None:
    from quantchat.bench import remote
    from quantchat.bench.record import KernelGate
    from quantchat.hardware import probe as prober

    card: Any = type("Card", (), {"name": "H", "sm": 90, "driver": "1", "free_bytes": 1 << 34})()
    facts = probe()
    software = type(facts.software)
    fields = {name: getattr(facts.software, name) for name in software.__dataclass_fields__}
    with_cuda = software(**{**fields, "torch_cuda": "13.0", "triton": "3.6"})
    here: Any = type("Facts", (), {"gpus": (card,), "software": with_cuda, "cpu": facts.cpu})()
    monkeypatch.setattr(prober, "probe", lambda: here)
    monkeypatch.setattr("quantchat.bench.machine.machine_record", lambda facts: {})
    monkeypatch.setattr(remote, "remote_ceilings", lambda device, threads: CEILINGS)
    gate = KernelGate(cases=2, failures=("int4: 1 > 0",))
    monkeypatch.setattr(remote, "remote_kernel_gate", lambda scope, workers: gate)
    done = CliRunner().invoke(bench_kernels.command, ["--shape", "smollm2-135m"])
    assert isinstance(done.exception, QuantchatError)
    record = json.loads(done.stdout.strip().splitlines()[-1])
    assert "timings" not in record and record["kernel_gate"]["failures"] == ["int4: 1 > 0"]


def test_the_gate_of_linears_passes_right_ones_and_stops_wrong_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from quantchat.bench import ops_gate
    from quantchat.ops.torch_ops import TorchOps

    monkeypatch.setattr(ops_gate, "LINEARS", ((48, 128, 32), (33, 64, 64)))
    monkeypatch.setattr(ops_gate, "TABLE_LINEARS", ((48, 128, 64),))
    ops = TorchOps(TINY, device=torch.device("cpu"), dtype=torch.bfloat16)
    cases = list(ops_gate.linear_cases(ops))
    assert len(cases) == 2 * 5 * 2 + 5 and len({case.name for case in cases}) == len(cases)
    for case in cases:
        # torch's packed CPU ops round more than the kernels may.
        assert case.error() <= 3 * case.tolerance, (case.name, case.error())
    linear = ops.linear
    monkeypatch.setattr(ops, "linear", lambda weight, bias: lambda x: linear(weight, bias)(-x))
    for case in ops_gate.linear_cases(ops):
        assert not case.error() <= 3 * case.tolerance, case.name
