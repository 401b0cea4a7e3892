"""A real card that runs out of memory, fails or is unloaded; the engine lives and gives back."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import factory
import pytest
import torch
from engine_log import GREEDY, LONG, Log, chat

from quantchat.bench.own import ids_only
from quantchat.bench.random_codes import RandomCodes
from quantchat.bench.random_model import random_source
from quantchat.engine import loading
from quantchat.engine.loading import build_pool, load_model, plan_request
from quantchat.engine.memory import give_back
from quantchat.engine.model import LoadedModel
from quantchat.engine.session import Session
from quantchat.events import Done, Failed, Loaded, LoadFailed, ModelInfo, Token, Unloaded
from quantchat.hardware.execution import ExecutionPlan
from quantchat.hardware.plan import plan as make_plan
from quantchat.hardware.probe import probe
from quantchat.model.loader import load_decoder
from quantchat.model.upload import Uploader
from quantchat.model.weights import WeightRecipe
from quantchat.ops.select import make_ops
from quantchat.ops.torch_ops import TorchOps
from quantchat.requests import LoadRequest, Sampling
from quantchat.shapes import SHAPES
from quantchat.spec import DecoderSpec

pytestmark = pytest.mark.gpu

WIDE = {
    "hidden_size": 1024,
    "intermediate_size": 4096,
    "num_attention_heads": 16,
    "num_key_value_heads": 4,
    "head_dim": 64,
    "max_position_embeddings": 2048,
}
SLACK_BYTES = 8 << 20
"""What the allocator and the driver may keep for themselves."""
PENALTY = Sampling(temperature=0, repetition_penalty=1.3)


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model whose prompts need tens of MiB."""
    return factory.write_hf(tmp_path_factory.mktemp("wide"), "llama", dtype="float16", **WIDE)


def hog() -> list[torch.Tensor]:
    """Takes all memory of the card, down to what the allocator keeps for small tensors.

    Between 1 and 10 MiB it asks the driver for 20 MiB, below for 2 MiB: so those come last.
    """
    give_back(workspaces=False)
    held: list[torch.Tensor] = []
    size = torch.cuda.mem_get_info()[0]
    while size:
        try:
            held.append(torch.empty(size, dtype=torch.uint8, device="cuda"))
        except torch.OutOfMemoryError:
            size = size // 2 if size >= 24 << 20 else (1 << 20 if size > 1 << 20 else 0)
    return held


def says_memory(event: Failed | LoadFailed) -> None:
    assert "not enough memory" in event.message, event.message
    assert "needed" in event.message and "free" in event.message
    assert "the device cpu" in event.hint and event.hint.count("; ") >= 1, event.hint


@pytest.mark.parametrize("scheme", ["fp16", "int4"])
def test_no_memory_for_the_prompt(log: Log, wide: Path, scheme: str) -> None:
    log.load(model=str(wide), scheme=scheme, device="cuda", context_tokens=2048)
    log.ask("hello")
    before = log.ask("hello").text
    held = hog()
    event = log.failed(log.session.chat(chat("many words " * 150)))
    says_memory(event)
    assert "reading the prompt" in event.message
    held.clear()
    assert log.ask("hello").text == before
    assert isinstance(log.ask("many words " * 150), Done)


def test_no_memory_for_a_capture_keeps_the_answer_so_far(log: Log, wide: Path) -> None:
    log.load(model=str(wide), scheme="fp16", device="cuda", context_tokens=2048)
    whole = log.ask("hello", sampling=GREEDY, max_tokens=40).text
    # Prompt and first token need little; two rows need a graph of their own.
    first = log.session.chat(chat("hello", sampling=LONG, max_tokens=0))
    log.until(lambda e: isinstance(e, Token) and e.request_id == first)
    held = hog()
    second = log.session.chat(chat("and another one", sampling=PENALTY, max_tokens=30))
    ends: dict[int, Done | Failed] = {}
    while len(ends) < 2:
        log.until(lambda e: isinstance(e, Done | Failed))
        ends = {
            e.request_id: e
            for e in log.events
            if isinstance(e, Done | Failed) and e.request_id in (first, second)
        }
    held.clear()
    for event in ends.values():
        if isinstance(event, Failed):
            says_memory(event)
    assert isinstance(ends[second], Failed)
    assert ends[first].text
    assert log.ask("hello", sampling=GREEDY, max_tokens=40).text == whole
    assert isinstance(log.ask("and another one", sampling=PENALTY), Done)


def test_no_memory_for_a_load_leaves_the_old_model(
    log: Log, wide: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log.load(model=str(wide), scheme="int8", device="cuda", context_tokens=1024)
    log.ask("hello")
    before = log.ask("hello").text
    held: list[torch.Tensor] = []
    real = loading.make_ops

    def short(spec: DecoderSpec, plan: ExecutionPlan) -> TorchOps:
        ops = real(spec, plan)
        held.extend(hog())
        return ops

    monkeypatch.setattr(loading, "make_ops", short)
    wish = LoadRequest(model=str(wide), scheme="fp16", device="cuda", context_tokens=1024)
    load_id = log.session.load(wish)
    event = log.until(lambda e: isinstance(e, Loaded | LoadFailed) and e.load_id == load_id)
    assert isinstance(event, LoadFailed)
    says_memory(event)
    held.clear()
    assert log.ask("hello").text == before
    monkeypatch.setattr(loading, "make_ops", real)
    loaded = log.load(model=str(wide), scheme="fp16", device="cuda", context_tokens=1024)
    assert loaded.info.scheme == "fp16"


def test_a_packed_model_arrives_as_it_was(log: Log, wide: Path) -> None:
    first = log.load(model=str(wide), scheme="int4", device="cuda", context_tokens=512)
    before = log.ask("hello", sampling=LONG).text
    second = log.load(model=str(wide), scheme="int4", device="cuda", context_tokens=528)
    assert "quantize" in dict(first.phases) and "upload" in dict(second.phases)
    assert first.info.weight_bytes == second.info.weight_bytes
    assert log.ask("hello", sampling=LONG).text == before


def settled() -> tuple[int, int]:
    """Bytes that torch's tensors hold, and bytes taken on the whole card."""
    give_back(workspaces=True)
    torch.cuda.synchronize()
    free, total = torch.cuda.mem_get_info()
    return torch.cuda.memory_allocated(), total - free


def cycles(run: Callable[[], None]) -> list[tuple[int, int]]:
    """What is held after each of three rounds; the first one loads kernels and libraries."""
    held = []
    for _ in range(3):
        run()
        gc.collect()
        held.append(settled())
    return held


@pytest.mark.parametrize("scheme", ["fp16", "int8", "int4"])
def test_unloading_gives_the_memory_back(wide: Path, scheme: str) -> None:
    before, _ = settled()

    def run() -> None:
        session = Session()
        log = Log(session)
        log.load(model=str(wide), scheme=scheme, device="cuda", context_tokens=1024)
        log.ask("hello", sampling=LONG)
        # Unloaded in the middle of an answer.
        session.chat(chat("go on", sampling=LONG, max_tokens=0))
        log.until(lambda e: isinstance(e, Token))
        assert torch.cuda.memory_allocated() > before + (8 << 20)
        session.unload("main")
        log.until(lambda e: isinstance(e, Unloaded))
        assert torch.cuda.memory_allocated() <= before + (1 << 16)
        session.close()

    held = cycles(run)
    assert all(allocated <= before + (1 << 16) for allocated, _ in held), held
    assert held[2][1] - held[1][1] <= SLACK_BYTES, held


@torch.inference_mode()
def test_a_billion_weights_come_and_go() -> None:
    spec = SHAPES["llama-3.2-1b"]
    before, _ = settled()

    def run() -> None:
        source = random_source("llama-3.2-1b", spec)
        wish = LoadRequest(model="x", scheme="int4", device="cuda", context_tokens=4096)
        plan = make_plan(probe(), spec, plan_request(wish, source))
        ops = make_ops(spec, plan)
        decoder = load_decoder(
            source,
            ops,
            WeightRecipe(
                scheme=plan.scheme, group_size=plan.group_size, dtype=ops.dtype, device=ops.device
            ),
            context_tokens=plan.context_tokens,
            cache=RandomCodes("x", plan.scheme, plan.group_size),
            on_progress=lambda *_: None,
            cancelled=lambda: False,
        ).decoder
        info = ModelInfo(
            slot="main",
            model="x",
            path="x",
            architecture="llama",
            parameters=spec.parameters,
            scheme="int4",
            scheme_detail="int4",
            kv=plan.kv,
            device="cuda",
            device_name=plan.device_name,
            context_tokens=plan.context_tokens,
            weight_bytes=decoder.weight_bytes,
            bits_per_weight=4.5,
            load_s=0.0,
            identity="x",
            read_bytes_per_s=None,
            kv_bytes_per_token=0,
        )
        model = LoadedModel(
            info=info,
            plan=plan,
            decoder=decoder,
            pool=build_pool(decoder, plan),
            tokenizer=ids_only(spec),
        )
        model.make_runner()
        assert torch.cuda.memory_allocated() > before + (1 << 29)

    held = cycles(run)
    assert all(allocated <= before + (1 << 16) for allocated, _ in held), held
    assert held[2][1] - held[1][1] <= SLACK_BYTES, held


LOSE = """
import sys, torch
from engine_log import GREEDY, Log, chat
from quantchat.engine.session import Session
from quantchat.events import Failed, LoadFailed, Token, Unloaded
from quantchat.ops.triton_ops import TritonOps
from quantchat.requests import LoadRequest

log = Log(Session())
log.load(model=sys.argv[1], scheme="fp16", device="cuda", context_tokens=256)
assert log.ask("hello").text
begin = TritonOps.begin
def broken(self, rows):
    torch.zeros(4, device="cuda")[torch.tensor([1 << 20], device="cuda")]
    torch.cuda.synchronize()
TritonOps.begin = broken
request_id = log.session.chat(chat("many words " * 20))
event = log.until(lambda e: isinstance(e, Failed) and e.request_id == request_id)
assert "device-side assert" in event.message or "illegal" in event.message, event
assert "cpu" in event.hint, event
log.until(lambda e: isinstance(e, Unloaded))
TritonOps.begin = begin
load_id = log.session.load(LoadRequest(model=sys.argv[1], device="cuda"))
refused = log.until(lambda e: isinstance(e, LoadFailed) and e.load_id == load_id)
assert "cpu" in refused.hint, refused
assert log.load(model=sys.argv[1], context_tokens=256).info.device == "cpu"
log.ask("hello")
print("alive")
sys.stdout.flush()
import os
os._exit(0)
"""


def python(code: str, *arguments: str, home: Path) -> str:
    """Runs code in a process of its own, for what kills a context or has to start cold."""
    support = Path(__file__).resolve().parent.parent / "support"
    known = os.environ.get("PYTHONPATH", "")
    environ = {**os.environ, "QUANTCHAT_HOME": str(home)}
    environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(support), known)))
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments],
        env=environ,
        cwd=home,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_dead_context_leaves_the_app_alive(wide: Path, tmp_path: Path) -> None:
    assert "alive" in python(LOSE, str(wide), home=tmp_path)


WARM = """
import sys
from pathlib import Path
from engine_log import LONG, Log
from quantchat import paths
from quantchat.engine.session import Session
session = Session()
log = Log(session)
log.load(model=sys.argv[1], scheme="int4", device="cuda", context_tokens=256)
log.ask("hello", sampling=LONG)
log.ask("hello")
session.close()
print(len(list(paths.kernels_dir().rglob("*.cubin"))))
"""


def test_a_warm_start_compiles_nothing(wide: Path, tmp_path: Path) -> None:
    code = "import os; os.environ.pop('TRITON_CACHE_DIR', None)\n" + WARM
    first, second = (int(python(code, str(wide), home=tmp_path)) for _ in range(2))
    assert first == second > 0


def test_a_plan_counts_what_torch_has_in_reserve(wide: Path) -> None:
    block = torch.empty(4 << 30, dtype=torch.uint8, device="cuda")
    del block
    # The driver counts the block as taken, torch would give it to the next tensor.
    from quantchat.engine.room import plan_in
    from quantchat.model.families import open_model

    source = open_model(wide)
    wish = plan_request(LoadRequest(model=str(wide), device="cuda"), source)
    plan = plan_in(source.spec, wish, None)
    source.close()
    bare = max(gpu.free_bytes for gpu in probe().gpus)
    assert plan.fit.free_bytes >= bare + (3 << 30)
    give_back(workspaces=False)


def test_loading_the_same_model_again_and_again_does_not_grow(wide: Path) -> None:
    wish = LoadRequest(model=str(wide), scheme="int4", device="cuda", context_tokens=512)

    def run() -> None:
        load_model(wish, lambda *_: None, lambda: False, loading.SharedDecoders.empty())

    run()
    began_s = time.monotonic()
    held = cycles(run)
    assert held[0][1] >= held[2][1] - SLACK_BYTES, (held, time.monotonic() - began_s)


@pytest.mark.parametrize("size", [1, 1000, (8 << 20) - 1, (8 << 20) + 1, (100 << 20) + 7])
def test_bytes_reach_the_card_whole(size: int, tmp_path: Path) -> None:
    data = torch.randint(0, 256, (size + 13,), dtype=torch.uint8)
    path = tmp_path / "bytes"
    path.write_bytes(data.numpy().tobytes())
    device = torch.device("cuda", 0)
    with Uploader(device) as uploader:
        for _ in range(3):
            got = uploader.fetch(path, 13, size)
            assert torch.equal(got.cpu(), data[13:])
            del got
