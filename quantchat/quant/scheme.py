"""A quantization scheme as a record: what is stored, in which bits, and what that asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

WeightFormat: TypeAlias = Literal[
    "dense",
    "int8_channel",
    "fp8_channel",
    "int4_group",
    "codebook4",
    "lut4",
    "lut3",
    "progressive4",
    "stored",
]
"""Stored formats: quant.tensor, quant.codebook, quant.lut and quant.progressive hold them."""
HeadFormat: TypeAlias = Literal["same", "dense", "int8_channel"]
ActivationFormat: TypeAlias = Literal["16bit", "int8", "fp8", "int8_outliers"]
"""int8_outliers: int8 but for values of at least OUTLIER_THRESHOLD, which stay in 16 bits."""
OUTLIER_THRESHOLD = 6.0
"""LLM.int8(), 2208.07339."""
Rounding: TypeAlias = Literal[
    "none", "absmax", "least_squares", "nf4", "fp4", "nf4_dq", "kmeans", "progressive"
]
Calibration: TypeAlias = Literal["none", "awq", "fisher", "smooth", "static", "qoq"]
"""What calibration finds: scales and ranges, sensitivities, smoothing factors, scales of inputs,
or all that QoQ folds into its weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scheme:
    """One row of the scheme table."""

    name: str
    """The word on the command line and in the settings."""
    title: str
    summary: str
    """One sentence for the settings pane."""
    weights: WeightFormat
    """Stored format of the decoder's linears."""
    head: HeadFormat
    """Stored format of the output head."""
    bits: int
    """Bits of a code; 16 for dense, 0 where the file decides."""
    group_sizes: tuple[int, ...] = ()
    """Group sizes along K in order of preference; the first that divides K is taken."""
    activations: ActivationFormat = "16bit"
    """What the inputs of linears are rounded to, token by token."""
    all_rows: bool = False
    """Inputs are rounded however few rows there are; else only where many rows are multiplied."""
    rounding: Rounding = "none"
    calibration: Calibration = "none"
    sparse_share: float = 0.0
    """Share of entries kept apart in 16 bits."""
    lowest_sm: int = 70
    source: str = ""
    """Paper or format."""
