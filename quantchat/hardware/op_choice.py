"""Rows of the table of ops, and what their choice depends on, as records."""

from __future__ import annotations

from dataclasses import dataclass

from quantchat.hardware.target import ComputeDtype
from quantchat.kv_formats import KvFormat
from quantchat.quant.scheme import ActivationFormat, WeightFormat


@dataclass(frozen=True, slots=True, kw_only=True)
class OpChoice:
    """One op at one range of rows (tokens times sequences) and the kernel that runs it."""

    op: str
    rows: str
    """As in "1-8", ">8" or "any"."""
    kernel: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OpTarget:
    """What the choice of kernels depends on."""

    sm: int
    """0 on the CPU."""
    triton: bool
    copy: ComputeDtype | None
    """Type of the dense copies that CPU linears keep for many rows."""
    weights: WeightFormat
    head: WeightFormat
    activations: ActivationFormat
    """What the inputs of the decoder's linears are rounded to for many rows; never the head's."""
    all_rows: bool
    """They are rounded for any number of rows."""
    static: bool
    """Their scales are fixed by calibration."""
    int8_units: bool
    """The processor multiplies int8 exactly."""
    sparse: bool
    """Entries of the weights are kept apart."""
    kv: KvFormat
    group_size: int
    stored_types: frozenset[str]
    departures: tuple[str, ...] = ()
    """What the kernels do not know of the model's blocks, in words; they do not run then."""
