"""Readers round to every stored format: rows in our order, parts in one matrix."""

from __future__ import annotations

from pathlib import Path

import factory
import pytest
import torch

from quantchat.model.families import ModelSource, open_model
from quantchat.model.weights import Matrix, WeightReader, WeightRecipe, read_matrices
from quantchat.quant.codebook import CodebookWeight, NestedScales
from quantchat.quant.codebook_rounding import nf4, nf4_dq
from quantchat.quant.lut import LutWeight
from quantchat.quant.progressive import ProgressiveWeight
from quantchat.quant.registry import SCHEMES
from quantchat.quant.rounding import int8_channel, int8_vectorwise
from quantchat.quant.tensor import Int8ChannelWeight

CPU = torch.device("cpu")


def matrices(source: ModelSource, scheme: str, group_size: int = 0) -> dict[str, Matrix]:
    recipe = WeightRecipe(
        scheme=SCHEMES[scheme], group_size=group_size, dtype=torch.float32, device=CPU
    )
    return dict(read_matrices(WeightReader(source, recipe), lambda name: None))


def dense(matrix: Matrix) -> torch.Tensor:
    return torch.cat([part.dequantize(torch.float32) for part in matrix.parts])


@pytest.fixture(params=["llama", "qwen2"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> ModelSource:
    folder = tmp_path / "model"
    return open_model(
        factory.write_hf(folder, request.param, tokenizer=False, intermediate_size=192)
    )


@pytest.mark.parametrize(
    ("scheme", "kind", "group_size", "bound"),
    [
        ("nf4", CodebookWeight, 64, 0.11),
        ("nf4-dq", CodebookWeight, 64, 0.11),
        ("fp4", CodebookWeight, 64, 0.14),
        ("llm-int8", Int8ChannelWeight, 0, 0.01),
        ("squeezellm", LutWeight, 0, 0.09),
        ("qoq", ProgressiveWeight, 32, 0.1),
        ("qoq-channel", ProgressiveWeight, 0, 0.12),
    ],
)
def test_every_linear_is_one_matrix_near_the_dense_one(
    source: ModelSource, scheme: str, kind: type, group_size: int, bound: float
) -> None:
    wanted = matrices(source, "fp16")
    made = matrices(source, scheme, group_size)
    assert list(made) == list(wanted)
    for name, matrix in made.items():
        assert len(matrix.parts) == 1, name
        truth = dense(wanted[name])
        relative = float((dense(matrix) - truth).norm() / truth.norm())
        assert relative < bound, (name, relative)
        bias, true_bias = matrix.bias, wanted[name].bias
        assert (bias is None) == (true_bias is None)
        assert bias is None or (true_bias is not None and torch.equal(bias, true_bias))
        if name != "head":
            assert isinstance(matrix.parts[0], kind)
    source.close()


def test_codes_are_those_of_the_rows_in_our_order(source: ModelSource) -> None:
    wanted = matrices(source, "fp16")
    for name, matrix in matrices(source, "nf4", 64).items():
        truth = dense(wanted[name])
        rounding = int8_channel if name == "head" else nf4
        assert torch.equal(dense(matrix), rounding(truth).dequantize(torch.float32))
    for name, matrix in matrices(source, "llm-int8").items():
        truth = dense(wanted[name])
        exact = truth if name == "head" else int8_vectorwise(truth).dequantize(torch.float32)
        assert torch.equal(dense(matrix), exact)
    source.close()


def nested(matrix: Matrix) -> NestedScales:
    (part,) = matrix.parts
    assert isinstance(part, CodebookWeight) and isinstance(part.scales, NestedScales)
    return part.scales


def test_scales_of_scales_run_over_parts_only_where_they_must(tmp_path: Path) -> None:
    sizes = {"hidden_size": 512, "head_dim": 64, "intermediate_size": 128}
    wide = open_model(factory.write_hf(tmp_path / "wide", "llama", tokenizer=False, **sizes))
    truth = dense(matrices(wide, "fp16")["layers.0.qkv"])
    scales = nested(matrices(wide, "nf4-dq", 64)["layers.0.qkv"])
    parts = torch.split(truth, [256, 128, 128])
    assert torch.equal(
        torch.cat([nested(Matrix((nf4_dq(part),), None)).dequantize() for part in parts]),
        scales.dequantize(),
    )
    assert len(scales.offset.unique()) == 3
    wide.close()
    narrow = open_model(
        factory.write_hf(tmp_path / "narrow", "llama", tokenizer=False, intermediate_size=192)
    )
    truth = dense(matrices(narrow, "fp16")["layers.1.qkv"])
    scales = nested(matrices(narrow, "nf4-dq", 64)["layers.1.qkv"])
    assert torch.equal(scales.dequantize(), nested(Matrix((nf4_dq(truth),), None)).dequantize())
    narrow.close()
