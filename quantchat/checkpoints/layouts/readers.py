"""The readers of quantized folders by the method that a folder names.

Owns the table alone; importing it loads torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import TypeAlias

from quantchat.checkpoints.base import TensorEntry
from quantchat.checkpoints.facts import Facts
from quantchat.checkpoints.layouts.awq import awq
from quantchat.checkpoints.layouts.bitsandbytes import bitsandbytes
from quantchat.checkpoints.layouts.compressed import compressed
from quantchat.checkpoints.layouts.floats import fbgemm, fp8
from quantchat.checkpoints.layouts.gptq import gptq
from quantchat.checkpoints.layouts.module import Layout
from quantchat.checkpoints.layouts.qserve import qserve
from quantchat.checkpoints.layouts.squeezellm import squeezellm

ReadBytes: TypeAlias = Callable[[str], bytes]
Reader: TypeAlias = Callable[[Facts, Mapping[str, TensorEntry], ReadBytes], Layout]

READERS: Mapping[str, Reader] = MappingProxyType(
    {
        "awq": lambda facts, tensors, read: awq(facts, tensors),
        "gptq": lambda facts, tensors, read: gptq(facts, tensors),
        "bitsandbytes": bitsandbytes,
        "compressed-tensors": compressed,
        "fp8": lambda facts, tensors, read: fp8(facts, tensors),
        "fbgemm_fp8": lambda facts, tensors, read: fbgemm(facts, tensors),
        "qoq": lambda facts, tensors, read: qserve(facts, tensors),
        "squeezellm": lambda facts, tensors, read: squeezellm(facts, tensors),
    }
)
"""quant_method -> reader."""
