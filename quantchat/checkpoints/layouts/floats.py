"""Weights as small floats: FP8 with a scale for the tensor, each row or each tile; MXFP4, NVFP4.

Serves transformers' own fp8, fbgemm's, and the float formats of compressed-tensors.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import torch

from quantchat.checkpoints.base import TensorEntry
from quantchat.checkpoints.facts import Facts
from quantchat.checkpoints.layouts.codes import Codes, Fp8Codes, TableCodes
from quantchat.checkpoints.layouts.kinds import FP8_BLOCKS, FP8_ROWS, MXFP4, NVFP4
from quantchat.checkpoints.layouts.module import FLOATS, Layout, PackedModule, Parts, Tensors
from quantchat.errors import UnsupportedModelError

E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
"""By the lower three bits; the fourth is the sign."""
MX_BLOCK = 32
NV_BLOCK = 16
EXPONENT_BIAS = 127
SCALES = (*FLOATS, "F8_E8M0")
SCHEMES = ("dynamic", "static")


def fp8(facts: Facts, tensors: Mapping[str, TensorEntry]) -> Layout:
    """Every module with an FP8 weight, as transformers writes them."""
    word = facts.text("activation_scheme", default="dynamic")
    if word not in SCHEMES:
        raise UnsupportedModelError(
            facts.path, f"{facts.prefix}activation_scheme {word[:40]!r} is not supported"
        )
    block = facts.optional_integers("weight_block_size")
    if block is not None and (len(block) != 2 or min(block) < 1):
        raise UnsupportedModelError(
            facts.path, f"{facts.prefix}weight_block_size {block[:4]} is not supported"
        )
    blocks = set() if block is None else {(block[0], block[1])}
    return _floats(tensors, "weight_scale_inv", blocks)


def fbgemm(facts: Facts, tensors: Mapping[str, TensorEntry]) -> Layout:
    """Every module with an FP8 weight and a scale for each row, as fbgemm's are written."""
    return _floats(tensors, "weight_scale", set())


def _floats(
    tensors: Mapping[str, TensorEntry], scale: str, blocks: Collection[tuple[int, int]]
) -> Layout:
    found = [
        fp8_module(Parts(tensors, name.removesuffix(".weight")), scale, blocks)
        for name in sorted(tensors)
        if name.endswith(".weight") and tensors[name].dtype == "F8_E4M3"
    ]
    endings = (".activation_scale", ".input_scale", ".input_scale_ub")
    other = tuple(name for name in tensors if name.endswith(endings))
    notes = ("inputs of linears stay in 16 bits, where the file's writer rounded them",)
    return Layout(modules=tuple(found), other=other, notes=notes if found else ())


def fp8_module(parts: Parts, scale: str, blocks: Collection[tuple[int, int]]) -> PackedModule:
    """An FP8 weight and its scales under the name `scale`, in tiles of one of `blocks` or larger."""
    n, k = parts.matrix("weight", ("F8_E4M3",))
    shape = parts.take(scale, SCALES).shape
    if shape in ((), (1,), (1, 1)):
        tile = (n, k)
    elif shape in ((n,), (n, 1)):
        tile = (1, k)
    else:
        fits = [(r, c) for r, c in sorted(blocks) if shape == (-(-n // r), -(-k // c))]
        if not fits:
            parts.refuse(scale, f"has shape {shape} for {n} x {k}")
        tile = fits[0]
    by_rows = tile[1] >= k

    def read(loaded: Tensors) -> Codes:
        scales = loaded[scale].float().reshape(-(-n // tile[0]), -(-k // tile[1]))
        return Fp8Codes(codes=loaded["weight"].view(torch.uint8), scale=scales, tile=tile)

    return parts.module(FP8_ROWS if by_rows else FP8_BLOCKS, (n, k), read)


def mxfp4_module(parts: Parts) -> PackedModule:
    """4-bit floats, the exponent of each 32 in a byte."""
    n, half = parts.matrix("weight_packed", ("U8",))
    k = 2 * half
    if k % MX_BLOCK:
        parts.refuse("weight_packed", f"has {k} inputs, no whole number of {MX_BLOCK}")
    parts.take("weight_scale", ("U8", "F8_E8M0"), (n, k // MX_BLOCK))

    def read(loaded: Tensors) -> Codes:
        exponents = loaded["weight_scale"].view(torch.uint8).to(torch.int32) - EXPONENT_BIAS
        scales = torch.ldexp(torch.ones_like(exponents, dtype=torch.float32), exponents)
        return _table(loaded, scales.flatten(), MX_BLOCK)

    return parts.module(MXFP4, (n, k), read)


def nvfp4_module(parts: Parts) -> PackedModule:
    """4-bit floats, an FP8 scale for each 16, which one number of the tensor divides."""
    n, half = parts.matrix("weight_packed", ("U8",))
    k = 2 * half
    if k % NV_BLOCK:
        parts.refuse("weight_packed", f"has {k} inputs, no whole number of {NV_BLOCK}")
    parts.take("weight_scale", ("F8_E4M3",), (n, k // NV_BLOCK))
    parts.take("weight_global_scale", ("F32",), (1,))

    def read(loaded: Tensors) -> Codes:
        scales = loaded["weight_scale"].float() / loaded["weight_global_scale"]
        return _table(loaded, scales.flatten(), NV_BLOCK)

    return parts.module(NVFP4, (n, k), read)


def _table(loaded: Tensors, scales: torch.Tensor, block: int) -> Codes:
    packed = loaded["weight_packed"]
    values = (*E2M1, *(-value for value in E2M1))
    table = torch.tensor(values, dtype=torch.float32, device=packed.device)
    return TableCodes(packed=packed, table=table, scales=scales, block=block)
