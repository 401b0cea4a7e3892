"""QServe's layout: 4-bit codes in the order of its kernel's tiles, one scale a row or two steps.

A tile is 32 rows by 32 inputs in 512 bytes; a byte holds a row's code and that of 16 rows below.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch

from quantchat.checkpoints.base import TensorEntry
from quantchat.checkpoints.facts import Facts
from quantchat.checkpoints.layouts.codes import Codes, GroupCodes, StepCodes
from quantchat.checkpoints.layouts.kinds import STEPS4, group_kind
from quantchat.checkpoints.layouts.module import Layout, PackedModule, Parts, Tensors, owners
from quantchat.errors import UnsupportedModelError

TILE = 32
GROUP = 128
LARGEST_STEP = 17
"""Beyond this a code's product with the step leaves eight bits."""


def qserve(facts: Facts, tensors: Mapping[str, TensorEntry]) -> Layout:
    """Every module with `s1_scales`; `facts` is the quantization config."""
    bits = facts.integer("wbits", default=4)
    if bits != 4:
        raise UnsupportedModelError(facts.path, f"{facts.prefix}wbits {bits} is not supported")
    group = facts.integer("group_size", default=-1)
    if group not in (-1, GROUP):
        raise UnsupportedModelError(
            facts.path, f"{facts.prefix}group_size {group} is not supported", hint="-1 or 128"
        )
    read = _rows if group == -1 else _steps
    modules = tuple(read(Parts(tensors, name)) for name in owners(tensors, "s1_scales"))
    other = tuple(name for name in tensors if "kv_scale" in name)
    notes = ("inputs of linears stay in 16 bits, where the file's writer rounded them",)
    return Layout(modules=modules, other=other, notes=notes if modules else ())


def _shape(parts: Parts) -> tuple[int, int]:
    n, half = parts.matrix("qweight", ("I8",))
    if n % TILE or 2 * half % TILE:
        parts.refuse("qweight", f"has shape {(n, half)}, no whole number of {TILE} x {TILE} tiles")
    parts.take("s1_scales", ("F16",), (n,))
    return n, 2 * half


def _rows(parts: Parts) -> PackedModule:
    n, k = _shape(parts)
    parts.take("s1_szeros", ("F16",), (n,))

    def read(loaded: Tensors) -> Codes:
        scale = loaded["s1_scales"][:, None]
        return GroupCodes(
            codes=unpack_tiles(loaded["qweight"]),
            scale=scale,
            zero=torch.zeros_like(scale, dtype=torch.uint8),
            group_size=k,
            bits=4,
            offset=-loaded["s1_szeros"][:, None],
        )

    return parts.module(group_kind(4, k, k), (n, k), read)


def _steps(parts: Parts) -> PackedModule:
    n, k = _shape(parts)
    if k % GROUP:
        parts.refuse("qweight", f"has {k} inputs, no whole number of {GROUP}")
    for name in ("s2_scales", "s2_zeros"):
        parts.take(name, ("I8",), (k // GROUP, n))

    def read(loaded: Tensors) -> Codes:
        step = in_order(loaded["s2_scales"]).to(torch.int16)
        # Stored as -zero * step, which wraps in eight bits.
        product = (-in_order(loaded["s2_zeros"]).to(torch.int16)) & 255
        if int(step.min()) < 1 or int(step.max()) > LARGEST_STEP:
            parts.refuse("s2_scales", f"has steps beyond 1 to {LARGEST_STEP}")
        zero = product // step
        if bool((zero * step != product).any()) or int(zero.max()) > 15:
            parts.refuse("s2_zeros", "is no multiple of s2_scales by 0 to 15")
        return StepCodes(
            codes=unpack_tiles(loaded["qweight"]),
            step=step.to(torch.uint8),
            zero=zero.to(torch.uint8),
            scale=loaded["s1_scales"].float(),
        )

    return parts.module(STEPS4, (n, k), read)


def unpack_tiles(packed: torch.Tensor) -> torch.Tensor:
    """int8 [N, K/2] -> uint8 [N, K]."""
    n, half = packed.shape
    data = packed.contiguous().view(torch.uint8)
    # Row tiles, input tiles, row of 8, input quad of 4, half of 16 inputs, row block of 8, input of 4.
    tiles = data.view(n // TILE, 2 * half // TILE, 8, 4, 2, 2, 4)
    both = torch.stack((tiles & 15, tiles >> 4), dim=-1)
    return both.permute(0, 7, 5, 2, 1, 4, 3, 6).reshape(n, 2 * half)


def in_order(stored: torch.Tensor) -> torch.Tensor:
    """int8 [G, N] whose columns stand as 0, 8, 16, 24, 1, ... of each 32 -> [N, G]."""
    groups, n = stored.shape
    return (
        stored.view(groups, n // TILE, 8, 4).transpose(-1, -2).reshape(groups, n).t().contiguous()
    )
