"""A quantization scheme as a record: what is stored, in which bits, and what that asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

WeightFormat: TypeAlias = Literal["dense", "int8_channel", "fp8_channel", "int4_group", "stored"]
HeadFormat: TypeAlias = Literal["same", "dense", "int8_channel"]
ActivationFormat: TypeAlias = Literal["16bit", "int8", "fp8"]


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
    """What the inputs of linears are rounded to, token by token, where many rows are multiplied."""
    rounding: Literal["none", "absmax", "least_squares"] = "none"
    calibration: bool = False
    lowest_sm: int = 70
    source: str = ""
    """Paper or format."""
