"""The estimate against bytes of a decoder that was really loaded."""

from __future__ import annotations

from pathlib import Path

import pytest
from factory import write_gguf
from machines import ZEN3, ZEN5, machine

from quantchat.hardware.plan import PlanRequest, plan


@pytest.mark.parametrize("isa", [ZEN3, ZEN5])
@pytest.mark.parametrize("family", ["llama", "llama3"])
@pytest.mark.parametrize(
    "scheme",
    [
        "fp16",
        "int8",
        "int4",
        "stored",
        "fp8",
        "w8a8",
        "nf4",
        "nf4-dq",
        "squeezellm",
        "qoq",
        "llm-int8",
    ],
)
def test_weights_and_copies(family: str, scheme: str, isa: frozenset[str], tmp_path: Path) -> None:
    import torch

    from quantchat.calibration.methods import method_of
    from quantchat.calibration.source import CalibratedSource
    from quantchat.model.families import open_model
    from quantchat.model.loader import load_decoder
    from quantchat.model.weights import WeightRecipe
    from quantchat.ops.torch_ops import TorchOps

    path = write_gguf(
        tmp_path / "tiny.gguf",
        family,
        tensor_type="Q4_1",
        tokenizer=False,
        hidden_size=128,
        intermediate_size=192,
    )
    source = open_model(path)
    entries = [source.checkpoint.tensors[name] for name in source.names.values()]
    made = plan(
        machine(isa=isa),
        source.spec,
        PlanRequest(
            scheme=scheme,
            container="gguf",
            stored_bytes=sum(entry.nbytes for entry in entries),
            stored_types=frozenset(entry.dtype for entry in entries),
        ),
    )
    dtypes = {"bfloat16": torch.bfloat16, "float32": torch.float32}
    cpu = torch.device("cpu")
    copy = None if made.copy_dtype is None else dtypes[made.copy_dtype]
    recipe = WeightRecipe(
        scheme=made.scheme, group_size=made.group_size, dtype=dtypes[made.compute_dtype], device=cpu
    )
    calibrated = CalibratedSource(
        source,
        recipe,
        method_of(recipe),
        lambda: torch.randint(source.spec.vocab, (2, 16)),
        dtype=torch.float32,
        memory_bytes=1 << 26,
        cancelled=lambda: False,
    )
    loaded = load_decoder(
        source,
        TorchOps(
            source.spec,
            device=cpu,
            dtype=dtypes[made.compute_dtype],
            copy_dtype=copy,
            activations=made.activations,
        ),
        recipe,
        context_tokens=64,
        cache=None,
        on_progress=lambda phase, done, total: None,
        cancelled=lambda: False,
        made=None if made.scheme.calibration == "none" else calibrated,
    ).decoder
    assert made.fit.copy_bytes == loaded.copy_bytes
    # "stored" counts the file's table beside the dense one, and a packed tied head keeps its own.
    slack = source.spec.embedding_parameters if scheme == "stored" else 0
    low, high = sorted((made.fit.weight_bytes, loaded.weight_bytes))
    assert high - low <= 0.03 * high + slack
    source.close()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("tensor_type", ["Q4_1", "Q8_0"])
def test_stored_weights_with_tables(tensor_type: str, tied: bool, tmp_path: Path) -> None:
    import torch

    from quantchat.engine.read_ahead import plan_request
    from quantchat.model.families import open_model
    from quantchat.model.loader import load_decoder
    from quantchat.model.weights import WeightRecipe
    from quantchat.ops.torch_ops import TorchOps
    from quantchat.requests import LoadRequest

    path = write_gguf(
        tmp_path / "tiny.gguf",
        "llama3",
        tensor_type=tensor_type,
        tokenizer=False,
        hidden_size=128,
        intermediate_size=256,
        vocab_size=2048,
        tie_word_embeddings=tied,
    )
    source = open_model(path)
    made = plan(machine(), source.spec, plan_request(LoadRequest(model="m"), source))
    assert made.scheme.name == "stored" and source.spec.tied_head == tied
    cpu = torch.device("cpu")
    loaded = load_decoder(
        source,
        TorchOps(source.spec, device=cpu, dtype=torch.bfloat16),
        WeightRecipe(scheme=made.scheme, group_size=0, dtype=torch.bfloat16, device=cpu),
        context_tokens=64,
        cache=None,
        on_progress=lambda phase, done, total: None,
        cancelled=lambda: False,
    ).decoder
    assert made.fit.weight_bytes == pytest.approx(loaded.weight_bytes, rel=0.015)
    source.close()
