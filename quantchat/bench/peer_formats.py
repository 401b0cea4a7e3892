"""Number formats of the transformers peer: plain ones, and packages that replace its linears.

bitsandbytes: NF4 with double quantization. torchao: int4 weight only, groups of 128. Both leave
embedding and head in 16 bits, as their users run them.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import metadata
from types import MappingProxyType
from typing import Any

import torch

TORCHAO_GROUP = 128


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """How the peer's weights are held."""

    dtype: torch.dtype
    """Of activations and of what is not packed."""
    convert: Callable[[Any], None]
    """Changes a transformers model's layers in place."""
    nbytes: Callable[[torch.Tensor], int]
    """Bytes of one parameter as it lies in memory."""
    package: str = ""

    def version(self) -> str:
        """The package's version; empty for plain formats."""
        return metadata.version(self.package) if self.package else ""


def _keep(model: Any) -> None:
    """Plain formats need no change."""


def _plain_bytes(parameter: torch.Tensor) -> int:
    return parameter.nbytes


def _linears(model: Any) -> Iterator[tuple[Any, str, torch.nn.Linear]]:
    """Parent, name and module of every linear inside the layers."""
    for module in list(model.model.layers.modules()):
        for name, child in list(module.named_children()):
            if type(child) is torch.nn.Linear:
                yield module, name, child


def _to_nf4(model: Any) -> None:
    nn: Any = importlib.import_module("bitsandbytes.nn")
    for parent, name, linear in _linears(model):
        device = linear.weight.device
        packed = nn.Linear4bit(
            linear.in_features,
            linear.out_features,
            bias=linear.bias is not None,
            compute_dtype=linear.weight.dtype,
            compress_statistics=True,
            quant_type="nf4",
            device="meta",
        )
        packed.weight = nn.Params4bit(
            linear.weight.data,
            requires_grad=False,
            compress_statistics=True,
            quant_type="nf4",
        ).to(device)
        packed.bias = linear.bias
        setattr(parent, name, packed)


def _nf4_bytes(parameter: torch.Tensor) -> int:
    nn: Any = importlib.import_module("bitsandbytes.nn")
    if not isinstance(parameter, nn.Params4bit):
        return parameter.nbytes
    state: Any = parameter.quant_state
    scales = state.absmax.nbytes + (state.state2.absmax.nbytes if state.nested else 0)
    return int(parameter.nbytes + scales)


def _to_torchao(model: Any) -> None:
    ao: Any = importlib.import_module("torchao.quantization")
    # The packing of its tinygemm kernel, its fastest for one row; the default needs mslk.
    config = ao.Int4WeightOnlyConfig(
        group_size=TORCHAO_GROUP, int4_packing_format="tile_packed_to_4d"
    )
    ao.quantize_(model.model.layers, config)


def _torchao_bytes(parameter: torch.Tensor) -> int:
    """A wrapper tensor names its inner ones."""
    if not hasattr(parameter, "__tensor_flatten__"):
        return parameter.nbytes
    names: list[str] = parameter.__tensor_flatten__()[0]
    return sum(_torchao_bytes(getattr(parameter, name)) for name in names)


def _plain(dtype: torch.dtype) -> Format:
    return Format(dtype=dtype, convert=_keep, nbytes=_plain_bytes)


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        "bf16": _plain(torch.bfloat16),
        "fp16": _plain(torch.float16),
        "fp32": _plain(torch.float32),
        "nf4-dq": Format(
            dtype=torch.bfloat16, convert=_to_nf4, nbytes=_nf4_bytes, package="bitsandbytes"
        ),
        "int4-g128": Format(
            dtype=torch.bfloat16, convert=_to_torchao, nbytes=_torchao_bytes, package="torchao"
        ),
    }
)
