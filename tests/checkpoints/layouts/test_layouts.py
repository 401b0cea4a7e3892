"""Packed tensors against words worked out by hand and, where it is installed, bitsandbytes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from quantchat.checkpoints.layouts.codes import DoubleScales, GroupCodes, StepCodes, TableCodes
from quantchat.checkpoints.layouts.qserve import in_order, unpack_tiles
from quantchat.checkpoints.layouts.readers import READERS
from quantchat.checkpoints.layouts.table import read_layout
from quantchat.checkpoints.layouts.words import swap_nibbles, unpack_awq, unpack_words
from quantchat.checkpoints.safetensors import SafetensorsFolder
from quantchat.errors import CheckpointError, UnsupportedModelError
from quantchat.quant.codebook import CodebookWeight, NestedScales
from quantchat.quant.layouts import stored_from_codes


def word(text: str) -> torch.Tensor:
    """One int32 word [1, 1] of eight hexadecimal digits."""
    value = int(text, 16)
    return torch.tensor([[value - (1 << 32) if value >> 31 else value]], dtype=torch.int32)


def folder(
    path: Path, config: dict[str, Any] | None, tensors: dict[str, torch.Tensor]
) -> SafetensorsFolder:
    path.mkdir(exist_ok=True)
    table = {} if config is None else {"quantization_config": config}
    (path / "config.json").write_text(json.dumps(table))
    save_file({name: t.contiguous() for name, t in tensors.items()}, path / "model.safetensors")
    return SafetensorsFolder(path)


def opened(path: Path, config: dict[str, Any], tensors: dict[str, torch.Tensor]) -> torch.Tensor:
    """The dense values of module x."""
    with folder(path, config, tensors) as files:
        layout = read_layout(files)
        assert layout is not None
        files.add_layout(layout)
        assert set(files.tensors) == {"x.weight"}
        return files.dense("x.weight")


def test_words_by_hand() -> None:
    assert unpack_words(word("76543210"), 4).tolist() == [[0, 1, 2, 3, 4, 5, 6, 7]]
    assert unpack_words(word("88000001"), 8).tolist() == [[1, 0, 0, 0x88]]
    assert unpack_words(word("c0000006"), 2)[0, [0, 1, 15]].tolist() == [2, 1, 3]
    assert unpack_awq(word("76543210")).tolist() == [[0, 4, 1, 5, 2, 6, 3, 7]]
    assert swap_nibbles(torch.tensor([0x2F], dtype=torch.uint8)).tolist() == [0xF2]


def test_three_bits_run_from_word_to_word() -> None:
    """Code 10 has its low two bits in word 0, code 21 its lowest in word 1."""
    words = torch.tensor([[-(1 << 31), 1 | -(1 << 31), 2]], dtype=torch.int32)
    codes = unpack_words(words, 3)[0]
    assert {i: int(code) for i, code in enumerate(codes) if code} == {10: 0b110, 21: 0b101}


@pytest.mark.parametrize(
    ("config", "stored"),
    [({}, "77777777"), ({"checkpoint_format": "gptq_v2"}, "88888888")],
)
def test_symmetric_zero_points_of_both_versions(
    config: dict[str, Any], stored: str, tmp_path: Path
) -> None:
    tensors = {
        "x.qweight": word("76543210").expand(1, 8),
        "x.qzeros": word(stored),
        "x.scales": torch.full((1, 8), 0.5, dtype=torch.float16),
        "x.g_idx": torch.zeros(8, dtype=torch.int32),
    }
    dense = opened(
        tmp_path, {"quant_method": "gptq", "bits": 4, "group_size": 8, **config}, tensors
    )
    assert dense.tolist() == [[(q - 8) / 2 for q in range(8)]] * 8


def test_a_zero_point_of_none_wraps_in_version_1(tmp_path: Path) -> None:
    tensors = {
        "x.qweight": word("76543210").expand(1, 8),
        "x.qzeros": word("ffffffff"),
        "x.scales": torch.ones(1, 8, dtype=torch.float16),
    }
    dense = opened(tmp_path, {"quant_method": "gptq", "bits": 4, "group_size": -1}, tensors)
    assert dense[0].tolist() == list(range(8))


def test_awq_by_hand(tmp_path: Path) -> None:
    tensors = {
        "x.qweight": torch.cat((word("76543210"), word("00000009"))),
        "x.qzeros": word("00000001"),
        "x.scales": torch.arange(1, 9).half()[None],
    }
    dense = opened(tmp_path, {"quant_method": "awq", "w_bit": 4, "q_group_size": 2}, tensors)
    codes = torch.tensor([[0, 4, 1, 5, 2, 6, 3, 7], [9, 0, 0, 0, 0, 0, 0, 0]]).t()
    zero = torch.tensor([1, 0, 0, 0, 0, 0, 0, 0])[:, None]
    assert torch.equal(dense, (codes - zero) * torch.arange(1.0, 9)[:, None])


def test_compressed_tensors_by_hand(tmp_path: Path) -> None:
    """Codes -8 to -1 are words of 0 to 7; zero points lie along the outputs."""
    weights = {"num_bits": 4, "type": "int", "symmetric": False, "strategy": "channel"}
    config = {
        "quant_method": "compressed-tensors",
        "format": "pack-quantized",
        "config_groups": {"group_0": {"targets": ["Linear"], "weights": weights}},
    }
    tensors = {
        "x.weight_packed": word("76543210").expand(2, 1),
        "x.weight_scale": torch.tensor([[1.0], [2.0]], dtype=torch.bfloat16),
        "x.weight_zero_point": word("00000038"),
        "x.weight_shape": torch.tensor([2, 8]),
    }
    dense = opened(tmp_path, config, tensors)
    assert dense.tolist() == [[q - 8 for q in range(8)], [2 * (q - 3) for q in range(8)]]


def test_fp8_scales_multiply_and_tiles_may_be_ragged(tmp_path: Path) -> None:
    ones = torch.ones(3, 5).to(torch.float8_e4m3fn)
    scale = torch.tensor([[1.0, 2, 3], [4, 5, 6]])
    config = {"quant_method": "fp8", "weight_block_size": [2, 2]}
    dense = opened(tmp_path, config, {"x.weight": ones, "x.weight_scale_inv": scale})
    assert dense.tolist() == [[1, 1, 2, 2, 3], [1, 1, 2, 2, 3], [4, 4, 5, 5, 6]]


def test_a_tile_of_qserve_by_hand() -> None:
    packed = torch.zeros(32, 16, dtype=torch.uint8)
    # Row 8b + r8 = 11 and row 27, input 16c + 4t + e = 22: byte 64*3 + 16*1 + 8*1 + 4*1 + 2.
    packed.view(-1)[64 * 3 + 16 + 8 + 4 + 2] = 0xA5
    codes = unpack_tiles(packed.view(torch.int8))
    assert codes.nonzero().tolist() == [[11, 22], [27, 22]]
    assert codes[11, 22] == 5 and codes[27, 22] == 10
    stored = torch.arange(32, dtype=torch.int8)[None]
    assert in_order(stored)[[0, 8, 16, 24, 1, 9], 0].tolist() == [0, 1, 2, 3, 4, 5]
    steps = StepCodes(
        codes=torch.tensor([[3, 15]], dtype=torch.uint8),
        step=torch.tensor([[17]], dtype=torch.uint8),
        zero=torch.tensor([[15]], dtype=torch.uint8),
        scale=torch.tensor([0.5]),
    )
    assert steps.dense().tolist() == [[-102.0, 0.0]]


def test_bitsandbytes_by_its_own_bytes(tmp_path: Path) -> None:
    """NF4 that bitsandbytes 0.50 made of (37 i mod 101 - 50) / 50, i = 0 .. 127, nested."""
    path = tmp_path / "x"
    table = torch.tensor(
        [
            -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453,
            -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
            0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224,
            0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
        ]
    )  # fmt: skip
    packed = torch.tensor([4, 193, 110, 41], dtype=torch.uint8)[:, None]
    state = (
        b'{"quant_type": "nf4", "blocksize": 64, "dtype": "float32", "shape": [1, 8], '
        b'"nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": 1.0}'
    )
    tensors = {
        "x.weight": packed,
        "x.weight.absmax": torch.zeros(1, dtype=torch.uint8),
        "x.weight.quant_map": table,
        "x.weight.nested_absmax": torch.zeros(1),
        "x.weight.nested_quant_map": torch.linspace(-1, 1, 256),
        "x.weight.quant_state.bitsandbytes__nf4": torch.tensor(list(state), dtype=torch.uint8),
    }
    dense = opened(path, {"quant_method": "bitsandbytes", "load_in_4bit": True}, tensors)
    wanted = [-1.0, -0.28444138169288635, 0.44070982933044434, -0.6961928009986877]
    assert dense[0, :4].tolist() == wanted
    assert dense[0, 4:6].tolist() == [-0.09105003625154495, 0.7229568362236023]


@pytest.mark.parametrize("kind", ["nf4", "fp4"])
@pytest.mark.parametrize("nested", [False, True])
def test_bitsandbytes_agrees(kind: str, nested: bool, tmp_path: Path) -> None:
    functional = pytest.importorskip("bitsandbytes.functional")
    weight = torch.randn(48, 384, generator=torch.Generator().manual_seed(2))
    codes, state = functional.quantize_4bit(
        weight, blocksize=64, quant_type=kind, compress_statistics=nested
    )
    told = {f"x.weight.{key}": value for key, value in state.as_dict(packed=True).items()}
    config = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    files = folder(tmp_path, config, {"x.weight": codes, **told})
    layout = read_layout(files)
    assert layout is not None
    files.add_layout(layout)
    wanted = functional.dequantize_4bit(codes, state)
    torch.testing.assert_close(files.dense("x.weight"), wanted, rtol=1e-6, atol=1e-7)
    found = files.codes("x.weight")
    assert isinstance(found, TableCodes) and isinstance(found.scales, DoubleScales) == nested
    stored = stored_from_codes(found)
    assert isinstance(stored.weight, CodebookWeight) and not stored.change
    assert isinstance(stored.weight.scales, NestedScales) == nested
    assert torch.equal(stored.weight.dequantize(torch.float32), found.dense())
    files.close()


def test_scales_beyond_float16_become_rows() -> None:
    codes = GroupCodes(
        codes=torch.full((2, 32), 3, dtype=torch.uint8),
        scale=torch.full((2, 1), 1e5),
        zero=torch.zeros(2, 1, dtype=torch.uint8),
        group_size=32,
        bits=4,
    )
    stored = stored_from_codes(codes)
    assert stored.change == "re-encoded as int8 rows" and 0 < stored.error < 0.01


def test_an_old_config_beside_the_model_is_found(tmp_path: Path) -> None:
    tensors = {
        "x.qweight": word("76543210").expand(1, 8),
        "x.qzeros": word("77777777"),
        "x.scales": torch.ones(1, 8, dtype=torch.float16),
    }
    files = folder(tmp_path, None, tensors)
    assert read_layout(files) is None
    (tmp_path / "quantize_config.json").write_text('{"bits": 4, "group_size": 8}')
    layout = read_layout(files)
    assert layout is not None and layout.modules[0].entry.shape == (8, 8)
    files.close()


GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32}
CT = {
    "quant_method": "compressed-tensors",
    "format": "pack-quantized",
    "config_groups": {"g": {"weights": {"num_bits": 4, "type": "int", "strategy": "group"}}},
}


def gptq_tensors(**changes: torch.Tensor | None) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor | None] = {
        "qweight": torch.zeros(8, 16, dtype=torch.int32),
        "qzeros": torch.zeros(2, 2, dtype=torch.int32),
        "scales": torch.ones(2, 16, dtype=torch.float16),
        "g_idx": torch.arange(64, dtype=torch.int32) // 32,
        **changes,
    }
    return {f"x.{name}": tensor for name, tensor in tensors.items() if tensor is not None}


@pytest.mark.parametrize(
    ("config", "changes", "words"),
    [
        ({"quant_method": "aqlm"}, {}, "aqlm"),
        ({"quant_method": 7}, {}, "quantization_config.quant_method is integer 7"),
        ({"quant_method": "gptq"}, {}, "quantization_config.bits is missing"),
        ({**GPTQ, "bits": 5}, {}, "bits 5"),
        ({**GPTQ, "bits": "4"}, {}, "bits is text '4'"),
        ({**GPTQ, "checkpoint_format": "marlin"}, {}, "checkpoint_format 'marlin'"),
        ({**GPTQ, "dynamic": {"x": {"bits": 8}}}, {}, "dynamic is not supported"),
        ({**GPTQ, "group_size": 16}, {}, "scales': has shape (2, 16), (4, 16) expected"),
        (GPTQ, {"scales": None}, "scales': is missing"),
        (GPTQ, {"qzeros": torch.zeros(2, 4, dtype=torch.int32)}, "(2, 2) expected"),
        (GPTQ, {"qweight": torch.zeros(8, 16)}, "qweight': has type F32, I32 expected"),
        (GPTQ, {"qweight": torch.zeros(0, 16, dtype=torch.int32)}, "a matrix is expected"),
        (GPTQ, {"g_idx": torch.full((64,), 2, dtype=torch.int32)}, "groups beyond the 2"),
        ({**GPTQ, "desc_act": True}, {"g_idx": None}, "g_idx': is missing"),
        ({"quant_method": "awq", "bits": 3}, {}, "bits 3"),
        ({"quant_method": "awq", "bits": 4, "version": "gemv"}, {}, "version 'gemv'"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": 1}, {}, "load_in_4bit is integer 1"),
        ({"quant_method": "compressed-tensors"}, {}, "format is missing"),
        ({**CT, "format": "marlin-24"}, {}, "format 'marlin-24'"),
        ({**CT, "transform_config": {"config_groups": {"R1": {}}}}, {}, "transform_config"),
        ({**CT, "sparsity_config": {"format": "sparse-24"}}, {}, "sparse-24"),
        ({"quant_method": "fp8", "weight_block_size": [128]}, {}, "weight_block_size [128]"),
        ({"quant_method": "fp8"}, {"weight": torch.zeros(4, 4, dtype=torch.int8)}, "stand for"),
        ({"quant_method": "qoq", "group_size": 64}, {}, "group_size 64"),
        ({"quant_method": "squeezellm", "wbits": 2}, {}, "wbits 2"),
    ],
    ids=lambda value: str(value)[:40] if isinstance(value, str) else "",
)
def test_what_is_unknown_or_wrong_is_refused_by_name(
    config: dict[str, Any],
    changes: dict[str, torch.Tensor | None],
    words: str,
    tmp_path: Path,
) -> None:
    with folder(tmp_path, config, gptq_tensors(**changes)) as files:
        with pytest.raises(CheckpointError) as caught:
            layout = read_layout(files)
            assert layout is not None
            files.add_layout(layout)
            files.dense("x.weight")
        assert words in str(caught.value)
        assert "\n" not in caught.value.message


@pytest.mark.parametrize("told", [[1 << 40, 1 << 40], [1, 1 << 62], [1, 0], [1, -8], [8], "x"])
def test_a_shape_that_bytes_do_not_hold_is_refused(told: Any, tmp_path: Path) -> None:
    """Sizes stated in metadata never decide how much memory is taken."""
    state = {"quant_type": "nf4", "blocksize": 64, "dtype": "float32", "shape": told}
    tensors = {
        "x.weight": torch.zeros(4, 1, dtype=torch.uint8),
        "x.weight.absmax": torch.zeros(1),
        "x.weight.quant_map": torch.zeros(16),
        "x.weight.quant_state.bitsandbytes__nf4": torch.tensor(
            list(json.dumps(state).encode()), dtype=torch.uint8
        ),
    }
    config = {"quant_method": "bitsandbytes", "load_in_4bit": True}
    with folder(tmp_path, config, tensors) as files, pytest.raises(CheckpointError):
        read_layout(files)
    packed = {
        "x.weight_packed": torch.zeros(1, 1, dtype=torch.int32),
        "x.weight_scale": torch.zeros(1, 1),
        "x.weight_shape": torch.tensor([1, 1 << 62]),
    }
    with folder(tmp_path, CT, packed) as files, pytest.raises(CheckpointError, match="1 words"):
        read_layout(files)


def test_methods_without_a_reader_say_which_there_are() -> None:
    assert set(READERS) >= {"awq", "gptq", "bitsandbytes", "compressed-tensors", "fp8"}
    assert issubclass(UnsupportedModelError, CheckpointError)


def test_configs_and_headers_at_random_give_our_errors_alone(tmp_path: Path) -> None:
    """Every key replaced by every odd value, every tensor left out or replaced."""
    odd: list[Any] = [None, -1, 0, 1, 10**20, 0.5, True, "x", "", [], [0, 0], [2**40], {}, {"a": 1}]
    configs: list[dict[str, Any]] = [GPTQ, {"quant_method": "awq", "bits": 4}, CT]
    configs += [{"quant_method": "qoq", "group_size": -1}, {"quant_method": "fp8"}]
    tried = 0
    tensors = gptq_tensors()
    folder(tmp_path, {}, tensors).close()
    assert load_file(tmp_path / "model.safetensors")
    for config in configs:
        for key in [*config, "group_size", "version", "zero_point", "weight_block_size"]:
            for value in odd:
                table = {"quantization_config": {**config, key: value}}
                (tmp_path / "config.json").write_text(json.dumps(table))
                with SafetensorsFolder(tmp_path) as files:
                    tried += 1
                    try:
                        layout = read_layout(files)
                        if layout is not None:
                            files.add_layout(layout)
                            if "x.weight" in files.tensors:
                                files.dense("x.weight")
                    except CheckpointError:
                        pass
    assert tried > 300
