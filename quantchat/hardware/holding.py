"""What a device keeps of a stored format: its codes, or values made of them where nothing reads it.

Owns that question alone; pure. How many bytes it makes is `memory`'s, the words are `plan`'s.
"""

from __future__ import annotations

from dataclasses import replace

from quantchat.hardware.op_table import LOWEST_TENSOR_SM, TABLE_FORMATS
from quantchat.quant.registry import SCHEMES
from quantchat.quant.scheme import Scheme

CODE_FORMATS = TABLE_FORMATS | {"progressive4"}
"""Formats that the tensor-core kernel alone reads."""


def held_as(scheme: Scheme, *, sm: int, triton: bool) -> Scheme:
    """The scheme with the format that lies in the device's memory; `sm` 0 is the CPU.

    A card without our kernels holds everything in 16 bits. Tables are read by the tensor-core
    kernel alone, so other devices hold their values; progressive codes become int8 on the CPU.
    """
    if sm == 0:
        if scheme.weights == "progressive4":
            return replace(scheme, weights="int8_channel", group_sizes=())
        return _dense(scheme) if scheme.weights in TABLE_FORMATS else scheme
    if not triton:
        return SCHEMES["fp16"]
    return _dense(scheme) if sm < LOWEST_TENSOR_SM and scheme.weights in CODE_FORMATS else scheme


def held_words(scheme: Scheme, *, sm: int, triton: bool) -> str:
    """What is kept in place of the codes, in a few words; empty where they are kept."""
    held = held_as(scheme, sm=sm, triton=triton)
    if held.weights == scheme.weights:
        return ""
    return "held in 16 bits" if held.weights == "dense" else "held as int8"


def holding_refusal(scheme: Scheme, *, device: str, sm: int, triton: bool) -> str:
    """In words, why codes are not kept as they are stored; empty where they are."""
    if held_as(scheme, sm=sm, triton=triton).weights == scheme.weights:
        return ""
    if sm == 0 and scheme.weights == "progressive4":
        return (
            f"{scheme.title} in memory: no CPU op reads 4-bit codes of two steps, they are expanded "
            "to the int8 codes that they stand for"
        )
    if sm == 0:
        return (
            f"{scheme.title} in memory: no CPU op looks codes up in tables, the values are held in "
            "bfloat16: the scheme's answers, not its bytes"
        )
    if not triton:
        return (
            f"{scheme.title} in memory: nothing reads its codes without our kernels, they are "
            "rounded and then held in 16 bits"
        )
    return (
        f"{scheme.title} in memory: its codes are read by the tensor-core kernel alone, which needs "
        f"SM {LOWEST_TENSOR_SM}, {device} is SM {sm}: the values are held in 16 bits"
    )


def _dense(scheme: Scheme) -> Scheme:
    return replace(scheme, weights="dense", group_sizes=(), sparse_share=0.0)
