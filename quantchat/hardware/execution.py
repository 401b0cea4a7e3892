"""The wish that goes into a plan and the plan that comes out, as records.

Owns the fields; `plan` owns the rules that fill them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from quantchat.hardware.memory import MemoryFit
from quantchat.hardware.op_choice import OpChoice
from quantchat.hardware.target import ComputeDtype
from quantchat.kv_formats import KvFormat
from quantchat.quant.scheme import ActivationFormat, Scheme


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRequest:
    """What the user wants and what the file holds."""

    scheme: str = "auto"
    kv: str = "auto"
    """auto, or a name of KV_FORMATS."""
    device: str = "auto"
    """auto, cpu or cuda."""
    context_tokens: int = 0
    """0 takes what fits, up to the model's own and a default for the device."""
    container: Literal["gguf", "safetensors"] = "safetensors"
    stored_bytes: int = 0
    """Bytes of tensors as the file stores them, as often as they are held so: an untied embedding
    table, which becomes dense, is left out.
    """
    stored_types: frozenset[str] = field(default_factory=frozenset)
    """Tensor types of the file, as in Q4_1, Q8_0, F32."""
    stored_parts: tuple[tuple[str, int], ...] = ()
    """Bytes of each type, together `stored_bytes`; empty where only the sum is known."""
    exported: str = ""
    """The scheme in whose codes the model lies, of exports; no other can be made of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionPlan:
    """Everything decided before a model is loaded."""

    device: Literal["cpu", "cuda"]
    device_name: str
    gpu_index: int
    """Ordinal of the card, 0 on the CPU."""
    compute_dtype: ComputeDtype
    scheme: Scheme
    group_size: int
    """0 where the scheme has no groups."""
    kv: KvFormat
    page_tokens: int
    context_tokens: int
    prefill_chunk_tokens: int
    copy_dtype: ComputeDtype | None
    """Type of the dense copies that CPU linears keep beside their weights for many rows."""
    activations: ActivationFormat
    """What linears' inputs are rounded to where many rows are multiplied."""
    all_rows: bool
    """They are rounded for any number of rows, the head's excepted."""
    threads: int
    """Threads of torch's CPU ops."""
    triton: bool
    """Our kernels run; else torch's own ops."""
    graph: bool
    """Decode runs in a CUDA graph."""
    dependent_launch: bool
    """The card can start a kernel before the one ahead has ended (SM 90)."""
    ops: tuple[OpChoice, ...]
    reasons: tuple[str, ...]
    refused: tuple[str, ...]
    fit: MemoryFit

    @property
    def pages(self) -> int:
        """Of the cache: as many as the context fills, and one for rows that nobody reads."""
        return -(-self.context_tokens // self.page_tokens) + 1
