"""The plan as a table of cards and models, and what it refuses."""

from __future__ import annotations

import dataclasses
import subprocess
import sys

import pytest
from machines import ZEN3, ZEN5, card, machine

from quantchat.errors import PlanError, UsageError
from quantchat.hardware.plan import ExecutionPlan, PlanRequest, plan
from quantchat.shapes import SHAPES

STARTER = PlanRequest(
    container="gguf",
    stored_bytes=96_576_768,
    stored_types=frozenset({"Q4_1", "Q8_0", "F32"}),
)

GPU_TABLE = [
    # card, model, scheme, group, kv, context, dtype
    ("T4", "llama-3.1-8b", "int8", 0, "int8", 16384, "float16"),
    ("T4", "llama-2-7b", "int8", 0, "int8", 4096, "float16"),
    ("T4", "qwen2.5-7b", "int8", 0, "int8", 16384, "float16"),
    ("T4", "smollm2-135m", "fp16", 0, "int8", 8192, "float16"),
    ("2080Ti", "llama-3.1-8b", "int8", 0, "int8", 16384, "float16"),
    ("3060", "llama-3.1-8b", "int8", 0, "int8", 16384, "bfloat16"),
    ("3060", "llama-2-7b", "int8", 0, "16bit", 4096, "bfloat16"),
    ("3070", "llama-2-7b", "int4", 128, "16bit", 4096, "float16"),
    ("3090", "llama-3.1-8b", "fp16", 0, "16bit", 16384, "bfloat16"),
    ("4060Ti", "qwen2.5-7b", "int8", 0, "16bit", 16384, "bfloat16"),
    ("A100", "llama-3.1-8b", "fp16", 0, "16bit", 16384, "bfloat16"),
    ("A100", "qwen3-8b", "fp16", 0, "16bit", 16384, "bfloat16"),
    ("H100", "llama-3.1-8b", "fp16", 0, "16bit", 16384, "bfloat16"),
    ("H100", "smollm2-135m", "fp16", 0, "16bit", 8192, "bfloat16"),
    ("B200", "llama-2-7b", "fp16", 0, "16bit", 4096, "bfloat16"),
    ("5090", "mistral-7b", "fp16", 0, "16bit", 16384, "bfloat16"),
]


def kernels(made: ExecutionPlan, op: str) -> dict[str, str]:
    """Rows -> kernel of one op."""
    return {choice.rows: choice.kernel for choice in made.ops if choice.op == op}


@pytest.mark.parametrize(("name", "model", "scheme", "group", "kv", "context", "dtype"), GPU_TABLE)
def test_cards_and_models(
    name: str, model: str, scheme: str, group: int, kv: str, context: int, dtype: str
) -> None:
    made = plan(machine(name), SHAPES[model], PlanRequest())
    assert (made.device, made.gpu_index) == ("cuda", 0)
    assert (made.scheme.name, made.group_size, made.kv) == (scheme, group, kv)
    assert (made.context_tokens, made.compute_dtype) == (context, dtype)
    assert made.fit.verdict != "too_large"
    assert made.fit.needed_bytes <= made.fit.free_bytes
    assert made.fit.longest_context_tokens >= made.context_tokens
    assert made.copy_dtype is None
    assert made.graph
    assert made.dependent_launch == (card(name).sm >= 90)
    assert any(reason.startswith(made.scheme.title) for reason in made.reasons)
    assert any(reason.startswith(f"KV {kv}") for reason in made.reasons)
    assert all(choice.reason and choice.kernel for choice in made.ops)


def test_auto_steps_down_as_memory_shrinks() -> None:
    order = ["fp16", "int8", "int4"]
    spec = SHAPES["llama-3.1-8b"]
    seen = [
        plan(machine(card("A100", used_gib=80 - free)), spec, PlanRequest()).scheme.name
        for free in (40, 20, 16, 14, 12, 10, 9, 8)
    ]
    assert seen == sorted(seen, key=order.index)
    assert set(seen) == set(order)


def test_refused_schemes_are_named_with_their_bytes() -> None:
    made = plan(machine("3070"), SHAPES["llama-2-7b"], PlanRequest())
    assert [line.split(" GiB")[0] for line in made.refused if "GiB" in line] == [
        "16-bit: needs 15.4",
        "int8: needs 9.4",
    ]


def test_too_large_for_the_card_goes_to_the_processor_unless_the_card_was_asked_for() -> None:
    tiny = card("3070", used_gib=5)
    spec = SHAPES["llama-3.1-8b"]
    made = plan(machine(tiny), spec, PlanRequest())
    assert made.device == "cpu"
    assert any("3 GiB" in line or "3.0 GiB" in line for line in made.refused), made.refused
    with pytest.raises(PlanError) as caught:
        plan(machine(tiny), spec, PlanRequest(device="cuda"))
    assert "are free" in caught.value.message and caught.value.lacks_memory
    assert caught.value.hint


def test_kv_goes_to_int8_when_the_wanted_context_needs_it() -> None:
    spec = SHAPES["llama-3.1-8b"]
    facts = machine("3060")
    short = plan(facts, spec, PlanRequest(scheme="int8", context_tokens=8192))
    assert short.kv == "16bit"
    long = plan(facts, spec, PlanRequest(scheme="int8", context_tokens=20000))
    assert long.kv == "int8"
    assert any("20000 are wanted" in reason for reason in long.reasons)
    with pytest.raises(PlanError) as caught:
        plan(facts, spec, PlanRequest(scheme="int8", kv="16bit", context_tokens=20000))
    longest = int(caught.value.hint.removeprefix("the longest that fits is ").split()[0])
    (way,) = caught.value.ways
    assert (way.field, way.value) == ("context_tokens", longest)
    fits = plan(facts, spec, PlanRequest(scheme="int8", kv="16bit", context_tokens=longest))
    assert fits.context_tokens == longest
    with pytest.raises(PlanError):
        plan(facts, spec, PlanRequest(scheme="int8", kv="16bit", context_tokens=longest + 1))


@pytest.mark.parametrize(("name", "most"), [("A100", 384), ("H100", 1024), ("5090", 384)])
def test_kernels_of_int4_on_cards(name: str, most: int) -> None:
    made = plan(machine(name), SHAPES["llama-3.1-8b"], PlanRequest(scheme="int4"))
    assert kernels(made, "linear") == {
        "1-64": "tensor-core kernel, weights as stored",
        f"65-{most}": "triton, weights as stored",
        f">{most}": "dequantize + cuBLAS",
    }
    assert kernels(made, "head")["1-48"] == "tensor-core kernel, weights as stored"
    assert kernels(made, "attention, decode") == {"1": "triton split-KV paged"}
    assert kernels(made, "attention, prefill") == {">1": "torch SDPA"}


def test_turing_has_no_tensor_core_kernels_of_triton() -> None:
    made = plan(machine("T4"), SHAPES["llama-3.1-8b"], PlanRequest(scheme="int4"))
    assert kernels(made, "linear")["1-8"] == "triton w4a16 GEMV"
    assert "tl.dot" in next(choice.reason for choice in made.ops if choice.rows == ">8")
    decode = next(choice for choice in made.ops if choice.op == "attention, decode")
    assert "without tl.dot" in decode.reason


def test_volta_under_cuda_13_is_told_plainly() -> None:
    spec = SHAPES["smollm2-135m"]
    made = plan(machine("V100"), spec, PlanRequest())
    assert made.device == "cpu"
    assert any("dropped everything below SM 75" in line for line in made.refused)
    with pytest.raises(PlanError) as caught:
        plan(machine("V100"), spec, PlanRequest(device="cuda"))
    assert "CUDA 12" in caught.value.hint


def test_volta_under_cuda_12_takes_the_reference_path() -> None:
    made = plan(machine("V100", cuda="12.6"), SHAPES["smollm2-135m"], PlanRequest(scheme="int8"))
    assert (made.device, made.compute_dtype, made.kv, made.graph) == (
        "cuda",
        "float16",
        "int8",
        False,
    )
    assert not any("triton" in choice.kernel for choice in made.ops)
    assert any("need SM 75, this card is SM 70" in line for line in made.refused)


def test_without_our_kernels_codes_save_no_memory() -> None:
    volta, spec = machine("V100", cuda="12.6"), SHAPES["qwen2.5-7b"]
    made = plan(volta, spec, PlanRequest())
    assert (made.device, made.scheme.name) == ("cpu", "int8")
    with pytest.raises(PlanError) as caught:
        plan(volta, spec, PlanRequest(scheme="int4", device="cuda"))
    assert "int4" not in caught.value.hint and "smaller model" in caught.value.hint
    small = SHAPES["smollm2-135m"]
    wide, narrow = (plan(volta, small, PlanRequest(scheme=name)) for name in ("fp16", "int4"))
    assert narrow.fit.weight_bytes == wide.fit.weight_bytes
    assert any("held in 16 bits" in line for line in narrow.refused)
    assert plan(volta, small, PlanRequest()).scheme.name == "fp16"


def test_what_a_card_lacks_is_said() -> None:
    spec = SHAPES["llama-3.1-8b"]
    lacks = {
        "T4": ("linears on tensor cores: need SM 80",),
        "A100": ("dependent launch: needs SM 90",),
        "4060Ti": ("dependent launch: needs SM 90",),
        "H100": (),
        "5090": (),
    }
    for name, missing in lacks.items():
        made = plan(machine(name), spec, PlanRequest(scheme="int4"))
        said = [line for line in made.refused if ": need" in line and "GiB" not in line]
        assert len(said) == len(missing), (name, said)
        assert all(line.startswith(words) for line, words in zip(said, missing, strict=True))
        assert made.dependent_launch == any(
            line.startswith("dependent launch") for line in made.reasons
        )


def test_eight_bit_floats_need_ampere() -> None:
    with pytest.raises(PlanError, match="fp8 needs SM 80, Tesla T4 is SM 75"):
        plan(machine("T4"), SHAPES["smollm2-135m"], PlanRequest(scheme="fp8"))


def test_float16_is_for_precision_and_only_where_its_range_is_enough() -> None:
    llama = plan(machine("H100"), SHAPES["llama-3.1-8b"], PlanRequest(scheme="int4"))
    assert llama.compute_dtype == "float16"
    assert any("mantissa" in line for line in llama.reasons)
    assert not any(line.startswith("bfloat16:") for line in llama.reasons)
    qwen = plan(machine("H100"), SHAPES["qwen2.5-7b"], PlanRequest(scheme="int4"))
    assert qwen.compute_dtype == "bfloat16"
    assert any("beyond its range" in line for line in qwen.refused)


@pytest.mark.parametrize(
    ("facts", "words"),
    [
        (machine(), "no CUDA card"),
        (machine("H100", cuda=None), "build without CUDA"),
        (machine("H100", torch=None), "torch is not installed"),
        (machine(card("H100", driver="535.104")), "driver 535.104 is too old"),
    ],
)
def test_a_card_that_cannot_be_used_says_why(facts: object, words: str) -> None:
    assert plan(facts, SHAPES["smollm2-135m"], STARTER).device == "cpu"  # type: ignore[arg-type]
    with pytest.raises(PlanError) as caught:
        plan(facts, SHAPES["smollm2-135m"], PlanRequest(device="cuda"))  # type: ignore[arg-type]
    assert words in caught.value.message
    assert caught.value.hint


def test_without_triton_the_plan_says_so() -> None:
    made = plan(machine("H100", triton=None), SHAPES["llama-3.1-8b"], PlanRequest(scheme="int4"))
    assert not any(choice.kernel.startswith("triton") for choice in made.ops)
    assert any("triton is not installed" in line for line in made.refused)


def test_the_emptiest_usable_card_is_taken() -> None:
    facts = machine(
        card("H100", index=0, used_gib=75), card("3090", index=1), card("V100", index=2)
    )
    made = plan(facts, SHAPES["llama-3.1-8b"], PlanRequest())
    assert (made.gpu_index, made.device_name) == (1, "NVIDIA GeForce RTX 3090")
    assert any("of 2 cards" in reason for reason in made.reasons)
    assert any("V100" in line for line in made.refused)


def test_starter_runs_as_stored_on_the_processor() -> None:
    made = plan(machine(isa=ZEN3), SHAPES["smollm2-135m"], STARTER)
    assert (made.device, made.scheme.name, made.kv, made.context_tokens) == (
        "cpu",
        "stored",
        "16bit",
        8192,
    )
    assert made.copy_dtype == "float32"
    assert kernels(made, "linear Q4_1")["1-7"] == "torch packed int4"
    assert kernels(made, "linear Q8_0")["1-7"] == "torch packed int8"
    assert not kernels(made, "linear F32")
    assert made.threads == 8


def test_native_bf16_makes_bf16_copies() -> None:
    made = plan(machine(isa=ZEN5), SHAPES["smollm2-135m"], STARTER)
    assert (made.copy_dtype, made.compute_dtype) == ("bfloat16", "bfloat16")
    assert any("avx512_bf16" in reason for reason in made.reasons)


def test_copies_are_dropped_where_memory_is_short() -> None:
    made = plan(machine(ram_gib=24), SHAPES["llama-3.1-8b"], PlanRequest(device="cpu"))
    assert made.scheme.name == "int8"
    assert made.copy_dtype is None
    assert made.fit.copy_bytes == 0
    assert kernels(made, "linear") == {"any": "torch packed int8"}
    assert any("copies for prefill" in line for line in made.refused)


def test_safetensors_on_the_processor() -> None:
    spec = SHAPES["llama-2-7b"]
    assert plan(machine(), spec, PlanRequest()).scheme.name == "int8"
    assert plan(machine(ram_gib=7), spec, PlanRequest()).scheme.name == "int4"
    with pytest.raises(PlanError) as caught:
        plan(machine(ram_gib=4), spec, PlanRequest())
    assert "are free" in caught.value.message
    tiny = dataclasses.replace(SHAPES["smollm2-135m"], layers=2, vocab=1000)
    assert plan(machine(), tiny, PlanRequest()).scheme.name == "fp16"


def test_other_ggml_types_are_encoded_anew() -> None:
    request = PlanRequest(
        container="gguf", stored_bytes=10**8, stored_types=frozenset({"Q5_K", "Q6_K", "F32"})
    )
    made = plan(machine(), SHAPES["smollm2-135m"], request)
    assert made.scheme.name == "int8"
    assert any("Q5_K, Q6_K" in line for line in made.refused)


def test_four_bit_blocks_stay_and_the_rest_is_rounded_in_the_open() -> None:
    request = PlanRequest(
        container="gguf", stored_bytes=10**8, stored_types=frozenset({"Q4_K", "Q6_K", "F32"})
    )
    made = plan(machine(), SHAPES["smollm2-135m"], request)
    assert made.scheme.name == "stored"
    assert any("Q6_K as stored" in line and "int8 rows" in line for line in made.refused)
    assert made.fit.weight_bytes > 10**8
    assert kernels(made, "linear Q4_K")["1-7"] == "torch packed int4"
    assert kernels(made, "linear Q6_K")["1-7"] == "torch packed int8"


def test_stored_is_refused_where_nothing_reads_it() -> None:
    spec = SHAPES["smollm2-135m"]
    stored = dataclasses.replace(STARTER, scheme="stored")
    assert plan(machine(), spec, stored).scheme.name == "stored"
    with pytest.raises(PlanError, match="needs Triton"):
        plan(machine("H100", triton=None), spec, stored)
    with pytest.raises(PlanError, match="GGUF"):
        plan(machine(), spec, PlanRequest(scheme="stored"))
    with pytest.raises(PlanError, match="Q6_K"):
        plan(
            machine(),
            spec,
            dataclasses.replace(stored, stored_types=frozenset({"Q6_K", "F32"})),
        )


def test_stored_blocks_run_on_a_card() -> None:
    made = plan(machine("H100"), SHAPES["smollm2-135m"], STARTER)
    assert made.scheme.name == "stored"
    for name, few, most in (("linear Q4_1", 64, 1024), ("linear Q8_0", 48, 384)):
        assert kernels(made, name) == {
            f"1-{few}": "tensor-core kernel, weights as stored",
            f"{few + 1}-{most}": "triton, weights as stored",
            f">{most}": "dequantize + cuBLAS",
        }


@pytest.mark.parametrize(("hidden", "group"), [(576, 64), (640, 128), (96, 32)])
def test_the_group_divides_every_matrix(hidden: int, group: int) -> None:
    spec = dataclasses.replace(
        SHAPES["smollm2-135m"], hidden=hidden, heads=hidden // 32, head_dim=32, intermediate=1536
    )
    made = plan(machine("H100"), spec, PlanRequest(scheme="int4"))
    assert made.group_size == group
    assert any("does not divide" in line for line in made.refused) == (group != 128)


def test_no_group_is_an_error_with_a_way_out() -> None:
    spec = dataclasses.replace(SHAPES["smollm2-135m"], intermediate=1000)
    with pytest.raises(PlanError) as caught:
        plan(machine("H100"), spec, PlanRequest(scheme="int4"))
    assert "1000" in caught.value.message
    assert "int8" in caught.value.hint


def test_impossible_words_and_contexts() -> None:
    spec = SHAPES["smollm2-135m"]
    for request in (
        PlanRequest(scheme="int3"),
        PlanRequest(kv="fp3"),
        PlanRequest(device="tpu"),
        PlanRequest(context_tokens=-1),
    ):
        with pytest.raises(UsageError):
            plan(machine(), spec, request)
    with pytest.raises(PlanError, match="made for 8192"):
        plan(machine(), spec, PlanRequest(context_tokens=8193))
    assert plan(machine(), spec, PlanRequest(context_tokens=7)).prefill_chunk_tokens == 7


def test_planning_is_pure() -> None:
    facts, request = machine("H100"), PlanRequest()
    assert plan(facts, SHAPES["qwen2.5-7b"], request) == plan(facts, SHAPES["qwen2.5-7b"], request)


def test_hardware_imports_no_torch() -> None:
    code = (
        "import sys, quantchat.hardware.plan, quantchat.hardware.probe, quantchat.shapes;"
        "quantchat.hardware.probe.probe();"
        "sys.exit(len({'torch', 'triton', 'transformers', 'textual'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
