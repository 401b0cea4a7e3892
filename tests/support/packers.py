"""Weights as each quantized layout holds them, and the values that the codes stand for.

numpy by the formats' definitions, sharing nothing with the readers under test.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch

from quantchat.quant.codebook_rounding import FP4_TWELFTHS, NF4_TABLE, dynamic_map

Packed = tuple[dict[str, torch.Tensor], torch.Tensor]
"""Tensors by suffix, and the values float32 [N, K]."""
AWQ_COLUMNS = (0, 2, 4, 6, 1, 3, 5, 7)
"""Column of a word's eight that nibble i holds."""


def rounded(
    weight: torch.Tensor, bits: int, size: int, *, symmetric: bool, short: bool = True
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Codes [N, K], scales float32 [N, G] and zeros [N, G] of plain rounding.

    `short`: scales of seven bits, whose products with zeros are float16 numbers.
    """
    n, k = weight.shape
    groups = weight.double().numpy().reshape(n, k // size, size)
    top = 2**bits - 1
    if symmetric:
        scale = np.abs(groups).max(-1) / (top / 2)
        zero = np.full_like(scale, 2 ** (bits - 1))
    else:
        low, high = np.minimum(groups.min(-1), 0), np.maximum(groups.max(-1), 0)
        scale = (high - low) / top
        zero = np.rint(-low / scale).clip(0, top)
    scale = scale.astype(np.float16).astype(np.float32)
    if short:
        mantissa, exponent = np.frexp(scale)
        scale = np.ldexp(np.ceil(mantissa * 128) / 128, exponent).astype(np.float32)
    codes = np.rint(groups / scale[..., None] + zero[..., None]).clip(0, top)
    return codes.reshape(n, k).astype(np.int64), scale, zero.astype(np.int64)


def values_of(codes: np.ndarray, scale: np.ndarray, zero: np.ndarray, group: Any) -> torch.Tensor:
    """(q - z) s, float32 [N, K]; `group` [K] says which column of scale and zero is meant."""
    wide = (codes - zero[:, group]).astype(np.float64) * scale[:, group].astype(np.float64)
    return torch.from_numpy(wide.astype(np.float32))


def along_last(codes: np.ndarray, bits: int) -> torch.Tensor:
    """[R, C] -> int32 words [R, C bits / 32], bit j of code i at bit i * bits + j of the row."""
    rows, count = codes.shape
    stream = (codes[..., None] >> np.arange(bits) & 1).reshape(rows, count * bits)
    width = -(-stream.shape[1] // 32) * 32
    padded = np.zeros((rows, width), dtype=np.int64)
    padded[:, : stream.shape[1]] = stream
    words = (padded.reshape(rows, -1, 32) << np.arange(32)).sum(-1)
    return torch.from_numpy(words.astype(np.uint32).view(np.int32))


def awq_words(codes: np.ndarray) -> torch.Tensor:
    """[R, C] -> int32 [R, C / 8] in AutoAWQ's order."""
    eight = codes.reshape(codes.shape[0], -1, 8)[..., list(AWQ_COLUMNS)]
    words = (eight << (4 * np.arange(8))).sum(-1)
    return torch.from_numpy(words.astype(np.uint32).view(np.int32))


def pack_awq(weight: torch.Tensor, size: int = 32, *, short: bool = True) -> Packed:
    size = size if size > 0 else weight.shape[1]
    codes, scale, zero = rounded(weight, 4, size, symmetric=False, short=short)
    parts = {
        "qweight": awq_words(codes.T),
        "qzeros": awq_words(zero.T),
        "scales": torch.from_numpy(scale.T.copy()).half(),
    }
    return parts, values_of(codes, scale, zero, np.arange(codes.shape[1]) // size)


def pack_gptq(
    weight: torch.Tensor,
    bits: int = 4,
    size: int = 32,
    *,
    v1: bool = True,
    symmetric: bool = False,
    shuffled: bool = False,
    seed: int = 3,
    indexed: bool = True,
) -> Packed:
    k = weight.shape[1]
    size = size if size > 0 else k
    group = np.arange(k) // size
    order = np.random.default_rng(seed).permutation(k) if shuffled else np.arange(k)
    codes, scale, zero = rounded(weight[:, order.copy()], bits, size, symmetric=symmetric)
    codes, group = codes[:, np.argsort(order)], group[np.argsort(order)]
    stored = (zero - 1) % 2**bits if v1 else zero
    parts = {
        "qweight": along_last(codes, bits).t(),
        "qzeros": along_last(stored.T, bits),
        "scales": torch.from_numpy(scale.T.copy()).half(),
    }
    if indexed:
        parts["g_idx"] = torch.from_numpy(group.astype(np.int32))
    return parts, values_of(codes, scale, zero, group)


def pack_bnb(weight: torch.Tensor, table: str = "nf4", *, nested: bool = False) -> Packed:
    """Nearest table values in blocks of 64 that run through the matrix row by row."""
    n, k = weight.shape
    fp4 = [*FP4_TWELFTHS, *(-value for value in FP4_TWELFTHS)]
    entries = torch.tensor(NF4_TABLE if table == "nf4" else fp4, dtype=torch.float32)
    entries = entries if table == "nf4" else entries / 12
    flat = weight.flatten()
    blocks = torch.nn.functional.pad(flat, (0, -flat.numel() % 64)).view(-1, 64)
    absmax = blocks.abs().amax(1)
    codes = (blocks[..., None] / absmax[:, None, None] - entries).abs().argmin(-1).flatten()
    codes = codes[: flat.numel()].to(torch.uint8)
    state: dict[str, Any] = {
        "quant_type": table,
        "blocksize": 64,
        "dtype": "float32",
        "shape": [n, k],
    }
    parts = {
        "weight": (codes[0::2] << 4 | codes[1::2])[:, None],
        "weight.quant_map": entries,
        "weight.absmax": absmax,
    }
    scales = absmax
    if nested:
        offset = float(absmax.mean())
        second = torch.nn.functional.pad(absmax - offset, (0, -absmax.numel() % 256)).view(-1, 256)
        largest, steps = second.abs().amax(1), dynamic_map(torch.device("cpu"))
        eight = (second[..., None] / largest[:, None, None] - steps).abs().argmin(-1)
        scales = (steps[eight] * largest[:, None] + offset).flatten()[: absmax.numel()]
        parts["weight.absmax"] = eight.flatten()[: absmax.numel()].to(torch.uint8)
        parts |= {"weight.nested_absmax": largest, "weight.nested_quant_map": steps}
        state |= {"nested_blocksize": 256, "nested_dtype": "float32", "nested_offset": offset}
    text = json.dumps(state).encode()
    key = f"weight.quant_state.bitsandbytes__{table}"
    parts[key] = torch.tensor(list(text), dtype=torch.uint8)
    dense = entries[codes.long()] * scales.repeat_interleave(64)[: flat.numel()]
    return parts, dense.view(n, k)


def pack_bnb_int8(weight: torch.Tensor) -> Packed:
    largest = weight.abs().amax(1)
    codes = (weight / largest[:, None] * 127).round()
    parts = {
        "weight": codes.to(torch.int8),
        "SCB": largest,
        "weight_format": torch.zeros((), dtype=torch.uint8),
    }
    return parts, codes * (largest / 127)[:, None]


def pack_compressed(
    weight: torch.Tensor,
    bits: int = 4,
    size: int = 32,
    *,
    symmetric: bool = True,
    shuffled: bool = False,
) -> Packed:
    n, k = weight.shape
    size = size if size > 0 else k
    order = np.random.default_rng(4).permutation(k) if shuffled else np.arange(k)
    codes, scale, zero = rounded(weight[:, order.copy()], bits, size, symmetric=symmetric)
    group = (np.arange(k) // size)[np.argsort(order)]
    codes = codes[:, np.argsort(order)]
    parts = {
        "weight_packed": along_last(codes, bits),
        "weight_scale": torch.from_numpy(scale).bfloat16(),
        "weight_shape": torch.tensor([n, k]),
    }
    if not symmetric:
        parts["weight_zero_point"] = along_last(zero.T, bits).t()
    if shuffled:
        parts["weight_g_idx"] = torch.from_numpy(group.astype(np.int32))
    return parts, values_of(codes, scale, zero, group)


def pack_int8(weight: torch.Tensor, *, static: bool = False) -> Packed:
    scale = (weight.abs().amax(1, keepdim=True) / 127).bfloat16()
    codes = (weight / scale.float()).round().clamp(-128, 127)
    parts = {"weight": codes.to(torch.int8), "weight_scale": scale}
    if static:
        parts["input_scale"] = torch.tensor([0.02])
    return parts, codes * scale.float()


def pack_fp8(
    weight: torch.Tensor,
    tile: tuple[int, int] | None = None,
    *,
    name: str = "weight_scale",
    whole: bool = False,
) -> Packed:
    """One scale a row, for all (`whole`), or for each tile, ragged at the edges."""
    n, k = weight.shape
    rows, columns = (n, k) if whole else tile or (1, k)
    scale = torch.empty(-(-n // rows), -(-k // columns))
    codes, dense = torch.empty(n, k, dtype=torch.float8_e4m3fn), torch.empty(n, k)
    for i in range(scale.shape[0]):
        for j in range(scale.shape[1]):
            part = slice(i * rows, (i + 1) * rows), slice(j * columns, (j + 1) * columns)
            scale[i, j] = weight[part].abs().max() / 448
            codes[part] = (weight[part] / scale[i, j]).to(torch.float8_e4m3fn)
            dense[part] = codes[part].float() * scale[i, j]
    return {"weight": codes, name: scale.reshape(1) if whole else scale}, dense


def pack_mxfp4(weight: torch.Tensor) -> Packed:
    return _pack_e2m1(weight, 32, 0.0)


def pack_nvfp4(weight: torch.Tensor) -> Packed:
    return _pack_e2m1(weight, 16, 1000.0)


def _pack_e2m1(weight: torch.Tensor, size: int, divisor: float) -> Packed:
    n, k = weight.shape
    positive = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]
    entries = torch.tensor([*positive, *(-value for value in positive)])
    blocks = weight.view(n, -1, size)
    wanted = blocks.abs().amax(-1) / 6
    if divisor:
        small = (wanted * divisor).to(torch.float8_e4m3fn)
        scale = small.float() / divisor
        parts = {"weight_scale": small, "weight_global_scale": torch.tensor([divisor])}
    else:
        exponent = wanted.log2().ceil()
        scale = 2**exponent
        parts = {"weight_scale": (exponent + 127).to(torch.uint8)}
    codes = (blocks[..., None] / scale[..., None, None] - entries).abs().argmin(-1)
    flat = codes.view(n, k).to(torch.uint8)
    parts["weight_packed"] = flat[:, 0::2] | flat[:, 1::2] << 4
    return parts, (entries[codes] * scale[..., None]).view(n, k)


def pack_qserve(weight: torch.Tensor, *, steps: bool) -> Packed:
    """By the closed form of a tile's bytes."""
    n, k = weight.shape
    if steps:
        scale = (weight.abs().amax(1) / 119).half().clamp_min(1e-6)
        eight = (weight / scale.float()[:, None]).round().clamp(-119, 119).numpy().astype(int)
        groups = eight.reshape(n, k // 128, 128)
        low, high = np.minimum(groups.min(-1), 0), np.maximum(groups.max(-1), 0)
        step = np.rint((high - low) / 15).clip(1, 17).astype(int)
        zero = (-np.rint(low / step)).clip(0, 15).astype(int)
        codes = (np.rint(groups / step[..., None]) + zero[..., None]).clip(0, 15).astype(int)
        dense = torch.from_numpy(((codes - zero[..., None]) * step[..., None]).reshape(n, k))
        dense = dense.float() * scale.float()[:, None]
        order = (np.arange(n).reshape(-1, 4, 8).swapaxes(1, 2)).reshape(-1)
        parts = {
            "s2_scales": torch.from_numpy(step.T[:, order].astype(np.int8)),
            "s2_zeros": torch.from_numpy((-zero * step).T[:, order].astype(np.uint8)).view(
                torch.int8
            ),
        }
        codes = codes.reshape(n, k)
    else:
        codes, wide, zeros = rounded(weight, 4, k, symmetric=False)
        scale = torch.from_numpy(wide[:, 0]).half()
        product = torch.from_numpy((zeros * wide)[:, 0]).half()
        dense = torch.from_numpy(codes).float() * scale.float()[:, None] - product.float()[:, None]
        parts = {"s1_szeros": product}
    packed = np.zeros(n * k // 2, dtype=np.int64)
    row, column = np.indices((n, k))
    tile = (row // 32) * (k // 32) + column // 32
    r, c = row % 32, column % 32
    place = 64 * (r % 8) + 16 * (c % 16 // 4) + 8 * (c // 16) + 4 * (r % 16 // 8) + c % 4
    np.add.at(packed, 512 * tile + place, codes << (4 * (r // 16)))
    parts["qweight"] = torch.from_numpy(packed.astype(np.uint8)).view(torch.int8).view(n, k // 2)
    return parts | {"s1_scales": scale}, dense


def pack_squeezellm(weight: torch.Tensor, bits: int = 4, *, sparse: bool = True) -> Packed:
    """Quantiles as tables, in an order of their own; the largest entries kept apart."""
    n = weight.shape[0]
    shares = torch.linspace(0.02, 0.98, 2**bits)
    order = torch.randperm(2**bits, generator=torch.Generator().manual_seed(1))
    table = torch.quantile(weight, shares, dim=1).t().half().float()[:, order].contiguous()
    apart = torch.zeros_like(weight)
    if sparse:
        apart = torch.where(weight.abs() > 2.5 * weight.std(), weight, 0).half().float()
    codes = ((weight - apart)[..., None] - table[:, None]).abs().argmin(-1)
    parts = {"qweight": along_last(codes.numpy(), bits).t(), "lookup_table": table}
    if sparse:
        row, column = apart.nonzero(as_tuple=True)
        starts = torch.bincount(row, minlength=n).cumsum(0)
        parts |= {"rows": torch.cat((torch.zeros(1), starts)).int(), "cols": column.int()}
        parts["vals"] = apart[row, column]
    return parts, table.gather(1, codes) + apart
