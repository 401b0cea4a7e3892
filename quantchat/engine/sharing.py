"""What loaded models have in common is held once: weights of two slots, a tokenizer while one switches.

Owns the keys; nothing is kept that no model uses.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias
from weakref import WeakValueDictionary

from quantchat.calibration.settings import CalibrationSettings
from quantchat.engine.read_ahead import calibration_key
from quantchat.hardware.execution import ExecutionPlan
from quantchat.model.decoder import Decoder
from quantchat.model.families import ModelSource
from quantchat.tokenizer import Tokenizer

Key: TypeAlias = tuple[object, ...]


@dataclass(frozen=True, slots=True)
class SharedDecoders:
    """Decoders and tokenizers in use, by what they were made of."""

    by_key: WeakValueDictionary[Key, Decoder]
    tokenizers: WeakValueDictionary[Key, Tokenizer]

    @staticmethod
    def empty() -> SharedDecoders:
        """None yet."""
        return SharedDecoders(WeakValueDictionary(), WeakValueDictionary())

    def tokenizer(
        self, source: ModelSource, path: Path, read: Callable[[ModelSource, Path], Tokenizer]
    ) -> Tokenizer:
        """The tokenizer of a model in use, or what `read` makes."""
        key = (source.checkpoint.identity(), str(path))
        known = self.tokenizers.get(key)
        if known is None:
            known = self.tokenizers[key] = read(source, path)
        return known


def decoder_key(source: ModelSource, plan: ExecutionPlan, calibration: CalibrationSettings) -> Key:
    """All that a decoder's weights and tables hang on."""
    return (
        source.checkpoint.identity(),
        plan.scheme.name,
        plan.group_size,
        calibration_key(plan.scheme, calibration),
        plan.compute_dtype,
        plan.device,
        plan.gpu_index,
        plan.copy_dtype,
        plan.context_tokens,
    )
