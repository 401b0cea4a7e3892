"""Quantized folders end to end: values of the codes, logits of the dense twin, what is told."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from decoders import CPU, logits_in_chunks, make_pool
from packed_folders import EXACT, ROUNDED, LayoutCase, write_packed
from packers import Packed, pack_awq, pack_gptq
from safetensors.torch import load_file, save_file

from quantchat.engine.read_ahead import plan_request
from quantchat.hardware.stored_types import stored_growth, stored_type
from quantchat.model.families import ModelSource, open_model
from quantchat.model.loader import LoadedDecoder, load_decoder
from quantchat.model.packed_cache import PackedCache
from quantchat.model.packed_parts import stored_form, stored_weight
from quantchat.model.weights import Matrix, WeightReader, WeightRecipe, read_matrices
from quantchat.ops.torch_ops import TorchOps
from quantchat.quant.registry import SCHEMES
from quantchat.quant.tensor import DenseWeight, Int4GroupWeight
from quantchat.requests import LoadRequest

TOKENS = 40
PAGES = (7, 3, 5)


def recipe(scheme: str, group_size: int = 0) -> WeightRecipe:
    return WeightRecipe(
        scheme=SCHEMES[scheme], group_size=group_size, dtype=torch.float32, device=CPU
    )


def matrices(source: ModelSource, scheme: str) -> tuple[dict[str, Matrix], WeightReader]:
    reader = WeightReader(source, recipe(scheme))
    return dict(read_matrices(reader, lambda name: None)), reader


def dense(matrix: Matrix) -> torch.Tensor:
    return torch.cat([part.dequantize(torch.float32) for part in matrix.parts])


def loaded(
    path: Path, scheme: str, group_size: int = 0, cache: PackedCache | None = None
) -> LoadedDecoder:
    source = open_model(path)
    try:
        return load_decoder(
            source,
            TorchOps(source.spec, device=CPU, dtype=torch.float32),
            recipe(scheme, group_size),
            context_tokens=TOKENS,
            cache=cache,
            on_progress=lambda phase, done, total: None,
            cancelled=lambda: False,
        )
    finally:
        source.close()


def logits(path: Path, scheme: str, ends: tuple[int, ...]) -> torch.Tensor:
    decoder = loaded(path, scheme).decoder
    ids = torch.arange(TOKENS).mul(37).remainder(decoder.spec.vocab).tolist()
    pool = make_pool(decoder, pages=9, page_tokens=16)
    return logits_in_chunks(decoder, pool, ids, PAGES, ends)


@pytest.mark.parametrize("name", EXACT)
def test_codes_are_kept_and_mean_what_they_meant(name: str, tmp_path: Path) -> None:
    packed, twin = write_packed(tmp_path, EXACT[name])
    ours, theirs = open_model(packed), open_model(twin)
    wanted, _ = matrices(theirs, "fp16")
    as_stored, reader = matrices(ours, "stored")
    unpacked, _ = matrices(ours, "fp16")
    for matrix in wanted:
        assert torch.equal(dense(as_stored[matrix]), dense(wanted[matrix])), matrix
        assert torch.equal(dense(unpacked[matrix]), dense(wanted[matrix])), matrix
        kept = [isinstance(part, DenseWeight) for part in as_stored[matrix].parts]
        assert kept == [matrix == "head"] * len(kept), matrix
        assert len(kept) == 1
    assert not reader.errors and not reader.changes
    request = plan_request(LoadRequest(model="x"), ours)
    assert request.stored_types == {EXACT[name].kind, "F32"}
    held = sum(p.nbytes for m, at in as_stored.items() if m != "head" for p in at.parts)
    if stored_type(EXACT[name].kind).route != "dense":
        linears = [e for e in ours.checkpoint.tensors.values() if e.dtype == EXACT[name].kind]
        in_file = sum(entry.nbytes for entry in linears)
        rows = 4 * sum(entry.shape[0] for entry in linears)
        assert held <= in_file * stored_growth(frozenset({EXACT[name].kind})) + rows
    ours.close(), theirs.close()


@pytest.mark.parametrize(
    "name",
    ["awq", "gptq v2", "gptq act-order", "bnb nf4 nested", "ct w8a8", "hf fp8 by tensor"],
)
def test_logits_are_those_of_the_dense_twin_at_any_cut(name: str, tmp_path: Path) -> None:
    packed, twin = write_packed(tmp_path, EXACT[name], shards=3)
    wanted = logits(twin, "fp16", (TOKENS,))
    assert wanted.std() > 0.5
    for ends in ((TOKENS,), tuple(range(1, TOKENS + 1))):
        torch.testing.assert_close(logits(packed, "stored", ends), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["qwen2", "phi3"])
def test_biases_and_stacked_projections(family: str, tmp_path: Path) -> None:
    packed, twin = write_packed(tmp_path, EXACT["gptq v1"], family=family)
    wanted = logits(twin, "fp16", (TOKENS,))
    torch.testing.assert_close(logits(packed, "stored", (TOKENS,)), wanted, rtol=1e-4, atol=1e-4)


FAMILY_LAYOUTS = {
    **{"mistral": "awq", "qwen3": "ct fp8 by channel", "smollm3": "gptq v2", "granite": "bnb nf4"},
    **{"olmo2": "ct w4a16 groups", "gemma2": "bnb nf4 nested", "gemma3": "ct w8a8"},
    **{"internlm2": "awq", "phi2": "bnb int8", "phi3": "ct mxfp4", "phi4_mini": "ct act-order"},
    **{"falcon_7b": "ct mxfp4", "falcon_40b": "gptq act-order", "falcon_rw": "gptq v1"},
    **{"mixtral": "gptq act-order", "qwen2moe": "awq", "qwen3moe": "hf fp8 by tensor"},
}
"""Every family once, where tensors hold several of our matrices, and experts, with several."""


@pytest.mark.parametrize("family", FAMILY_LAYOUTS)
def test_every_family_reads_packed_linears(family: str, tmp_path: Path) -> None:
    sizes = {
        "qwen2moe": {"moe_intermediate_size": 64, "shared_expert_intermediate_size": 64},
        "qwen3moe": {"moe_intermediate_size": 64},
    }
    case = EXACT[FAMILY_LAYOUTS[family]]
    packed, twin = write_packed(tmp_path, case, family=family, **sizes.get(family, {}))
    wanted = logits(twin, "fp16", (TOKENS,))
    assert wanted.std() > 0.5
    torch.testing.assert_close(logits(packed, "stored", (TOKENS,)), wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", ROUNDED)
def test_what_fits_no_format_is_rounded_and_said(name: str, tmp_path: Path) -> None:
    case = ROUNDED[name]
    packed, twin = write_packed(tmp_path, case)
    ours, theirs = open_model(packed), open_model(twin)
    wanted, _ = matrices(theirs, "fp16")
    unpacked, _ = matrices(ours, "fp16")
    as_stored, reader = matrices(ours, "stored")
    (told,) = [words for words in reader.changes if words.startswith(case.kind)]
    for matrix in wanted:
        truth = dense(wanted[matrix])
        assert torch.equal(dense(unpacked[matrix]), truth), matrix
        error = float((dense(as_stored[matrix]) - truth).norm() / truth.norm())
        assert error <= max(reader.changes[told]) + 1e-6
        assert error < 0.012
    assert told == f"{case.kind} re-encoded as int8 rows"
    assert case.kind in plan_request(LoadRequest(model="x"), ours).stored_types
    ours.close(), theirs.close()


@pytest.mark.parametrize("alike", [True, False])
def test_ordered_inputs_run_on_the_packed_op(alike: bool, tmp_path: Path) -> None:
    """q, k and v of one order are one linear, else several; torch's int4 op takes the codes."""
    seeds = iter(range(100))

    def pack(weight: torch.Tensor) -> Packed:
        return pack_gptq(weight, shuffled=True, seed=3 if alike else next(seeds))

    case = LayoutCase(EXACT["gptq act-order"].config, pack, "INT4-ACT-ORDER")
    packed, twin = write_packed(tmp_path, case)
    source = open_model(packed)
    found, reader = matrices(source, "stored")
    source.close()
    assert not reader.changes
    assert len(found["layers.0.qkv"].parts) == (1 if alike else 3)
    theirs = open_model(twin)
    wanted, _ = matrices(theirs, "fp16")
    theirs.close()
    ops = TorchOps(theirs.spec, device=CPU, dtype=torch.bfloat16)
    weight = found["layers.1.down"].parts[0]
    op = ops.linear(weight, None)
    assert op.kernel == "packed int4, inputs put in order"
    x = torch.randn(3, op.in_features).bfloat16()
    truth = x.float() @ dense(wanted["layers.1.down"]).t()
    torch.testing.assert_close(op(x).float(), truth, rtol=0.03, atol=0.03 * float(truth.std()))
    assert isinstance(weight, Int4GroupWeight) and weight.order is not None
    form = stored_form(weight, None)
    again, _ = stored_weight(form)
    assert torch.equal(again.dequantize(torch.float32), weight.dequantize(torch.float32))
    form.tensors["order"] = torch.zeros_like(weight.order)
    with pytest.raises(ValueError, match="each input once"):
        stored_weight(form)


def test_groups_of_unequal_sizes_are_rounded_and_said(tmp_path: Path) -> None:
    packed, _ = write_packed(tmp_path, EXACT["gptq act-order"])
    tensors = load_file(packed / "model.safetensors")
    index = tensors["model.layers.0.mlp.up_proj.g_idx"]
    index[int((index == 1).nonzero()[0])] = 0
    save_file(tensors, packed / "model.safetensors")
    notes = loaded(packed, "stored").notes
    assert any(note.startswith("INT4-ACT-ORDER re-encoded as int8 rows") for note in notes)


def test_products_of_scales_and_zeros_are_rounded_and_said(tmp_path: Path) -> None:
    config = EXACT["awq"].config
    case = LayoutCase(config, lambda weight: pack_awq(weight, short=False), "INT4-GROUPS")
    notes = loaded(write_packed(tmp_path, case)[0], "stored").notes
    assert len(notes) == 1 and "scales and offsets rounded to 16 bits" in notes[0]
    assert "relative error 0.0" in notes[0]


def test_another_scheme_tells_what_rounding_twice_costs(tmp_path: Path) -> None:
    packed, _ = write_packed(tmp_path, EXACT["ct w8a8"])
    cache = PackedCache(tmp_path, "abc", "nf4", 64)
    first = loaded(packed, "nf4", 64, cache)
    again = loaded(packed, "nf4", 64, cache)
    assert again.from_cache and not first.from_cache
    assert again.notes == first.notes
    notes = first.notes
    assert any(note.startswith("INT8-ROWS re-encoded as nf4: relative error") for note in notes)
    assert "inputs of linears stay in 16 bits, where the file's writer rounded them" in notes
