"""Random weights stand where a checkpoint stands: same shapes, same bytes, same values again."""

import pytest
import torch
from bench_subjects import TINY, open_tiny, variants_of

from quantchat.bench.random_codes import RandomCodes
from quantchat.bench.random_model import random_source, shape_named
from quantchat.errors import UsageError
from quantchat.model.weights import WeightReader, WeightRecipe, read_matrices
from quantchat.quant.lut import LutWeight
from quantchat.quant.progressive import ProgressiveWeight
from quantchat.quant.registry import SCHEMES
from quantchat.quant.tensor import Fp8ChannelWeight, Int8ChannelWeight
from quantchat.spec import DecoderSpec

CPU = torch.device("cpu")


@pytest.mark.parametrize("spec", variants_of(TINY), ids=lambda s: f"{s.architecture}{s.tied_head}")
@pytest.mark.parametrize("scheme", ["int8", "fp8", "int4", "nf4", "nf4-dq", "fp4", "llm-int8"])
def test_random_codes_have_the_shapes_of_rounded_weights(spec: DecoderSpec, scheme: str) -> None:
    group = next(iter(SCHEMES[scheme].group_sizes), 0)
    recipe = WeightRecipe(
        scheme=SCHEMES[scheme], group_size=group, dtype=torch.bfloat16, device=CPU
    )
    source = random_source("tiny", spec)
    rounded = list(read_matrices(WeightReader(source, recipe), lambda name: None))
    made_up = list(
        RandomCodes("tiny", SCHEMES[scheme], group).matrices(spec, CPU, lambda name: None)
    )
    assert [name for name, _ in rounded] == [name for name, _ in made_up]
    for (_, theirs), (name, ours) in zip(rounded, made_up, strict=True):
        (expected,), (given,) = theirs.parts, ours.parts
        assert type(given) is type(expected), name
        assert given.nbytes == expected.nbytes, name
        for key, tensor in expected.tensors().items():
            assert given.tensors()[key].shape == tensor.shape, (name, key)
            assert given.tensors()[key].dtype == tensor.dtype, (name, key)
        assert (theirs.bias is None) == (ours.bias is None), name
        spread = given.dequantize(torch.float32)
        assert float(spread.std()) == pytest.approx(0.02, rel=0.1), name
        assert abs(float(spread.mean())) < 0.002, name


@pytest.mark.parametrize(
    ("scheme", "kind"),
    [
        ("squeezellm", LutWeight),
        ("squeezellm-3", LutWeight),
        ("qoq", ProgressiveWeight),
        ("qoq-channel", ProgressiveWeight),
    ],
)
def test_random_codes_of_calibrated_schemes_can_be(scheme: str, kind: type) -> None:
    record = SCHEMES[scheme]
    group = next(iter(record.group_sizes), 0)
    for name, matrix in RandomCodes("tiny", record, group).matrices(TINY, CPU, lambda name: None):
        (weight,) = matrix.parts
        values = weight.dequantize(torch.float32)
        assert float(values.std()) == pytest.approx(0.02, rel=0.15), name
        assert abs(float(values.mean())) < 0.002, name
        if name == "head":
            assert isinstance(weight, Int8ChannelWeight)
            continue
        assert isinstance(weight, kind), name
        if isinstance(weight, ProgressiveWeight):
            codes = weight.codes().view(weight.shape[0], -1, weight.group_size).int()
            wide = (codes - weight.group_zero[..., None]) * weight.group_scale[..., None].int()
            assert int(wide.abs().max()) <= 127
            assert (weight.group_size == group) == bool(group)
        if isinstance(weight, LutWeight):
            assert bool((weight.table.diff(dim=1) >= 0).all())
            assert weight.sparse is not None
            share = weight.sparse.columns.numel() / values.numel()
            assert share == pytest.approx(record.sparse_share, rel=0.1)
            rows = weight.sparse.rows()
            places = rows * weight.shape[1] + weight.sparse.columns
            assert bool((places.diff() > 0).all())


@pytest.mark.parametrize("scheme", ["w8a8-static", "fp8-static"])
def test_static_scales_are_there_where_calibration_fixes_them(scheme: str) -> None:
    for name, matrix in RandomCodes("tiny", SCHEMES[scheme], 0).matrices(
        TINY, CPU, lambda name: None
    ):
        (weight,) = matrix.parts
        assert isinstance(weight, Int8ChannelWeight | Fp8ChannelWeight)
        assert (weight.input_scale is None) == (name == "head")


def test_a_tensor_read_twice_is_the_same() -> None:
    source = random_source("tiny", TINY)
    for name in ("layers.1.up", "final_norm"):
        first = source.checkpoint.dense(name)
        assert torch.equal(first, source.checkpoint.dense(name))
        assert first.isfinite().all()
    one, other = (source.checkpoint.dense(f"layers.{i}.q") for i in (0, 1))
    assert not torch.equal(one, other)


def test_loading_reads_every_random_tensor_once_and_plans_as_for_a_file() -> None:
    engine = open_tiny(TINY, "fp16")
    assert engine.facts.weight_bytes == 2 * TINY.parameters
    assert engine.facts.read_bytes == 2 * (TINY.parameters - TINY.embedding_parameters)
    assert engine.facts.kv_bytes_per_token == 2 * TINY.kv_elements_per_token()


def test_an_unknown_shape_names_the_known_ones() -> None:
    with pytest.raises(UsageError, match=r"llama-3\.1-8b"):
        shape_named("gpt-9")
