"""A model file as the decoder sees it: spec, and our tensor names over the file's.

Opens containers, picks the family's reader, checks that every tensor is there in its shape.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from quantchat.checkpoints.base import Checkpoint
from quantchat.checkpoints.detect import open_checkpoint
from quantchat.checkpoints.gguf import GgufFile
from quantchat.checkpoints.safetensors import SafetensorsFolder
from quantchat.errors import CheckpointError
from quantchat.model.config_gguf import gguf_traits, spec_from_gguf
from quantchat.model.config_hf import spec_from_config
from quantchat.model.export_marker import Export, is_export, read_export
from quantchat.model.names import GGUF, HUGGING_FACE, tensor_names, tensor_shape
from quantchat.spec import DecoderSpec, FactorScaling


@dataclass(frozen=True, slots=True)
class ModelSource:
    """An open checkpoint that is known to hold a whole model of `spec`."""

    checkpoint: Checkpoint
    spec: DecoderSpec
    names: dict[str, str]
    """Our name -> the file's."""
    adjacent_pairs: bool
    """False: rows of q and k pair (i, i + D/2) and must be permuted."""
    export: Export | None = None
    """Where the checkpoint is one that quantchat wrote; `names` is empty then."""

    def close(self) -> None:
        """Let go of the files."""
        self.checkpoint.close()


def open_model(path: Path) -> ModelSource:
    """Open a GGUF file or a model folder; raises CheckpointError naming what is wrong."""
    checkpoint = open_checkpoint(path)
    try:
        return _source(checkpoint)
    except BaseException:
        checkpoint.close()
        raise


def read_spec(path: Path) -> DecoderSpec:
    """The spec of a model on disk."""
    source = open_model(path)
    source.close()
    return source.spec


def _source(checkpoint: Checkpoint) -> ModelSource:
    if isinstance(checkpoint, GgufFile):
        spec, scheme = spec_from_gguf(checkpoint), GGUF
        adjacent = gguf_traits(checkpoint).adjacent_pairs
    else:
        assert isinstance(checkpoint, SafetensorsFolder)
        if is_export(checkpoint.path):
            export = read_export(checkpoint)
            return ModelSource(checkpoint, export.spec, {}, adjacent_pairs=True, export=export)
        has_head = HUGGING_FACE["head"] in checkpoint.tensors
        spec, scheme = spec_from_config(checkpoint.config, has_head=has_head), HUGGING_FACE
        adjacent = False
    scaling = spec.rope.scaling
    if isinstance(scaling, FactorScaling) and len(scaling.factors) * 2 != spec.rope.rotary_dim:
        raise CheckpointError(
            checkpoint.path,
            f"has {len(scaling.factors)} rope factors for {spec.rope.rotary_dim // 2} pairs",
        )
    names = tensor_names(spec, scheme)
    for ours, theirs in names.items():
        entry = checkpoint.tensors.get(theirs)
        if entry is None:
            raise CheckpointError(
                checkpoint.path, "is missing", tensor=theirs, hint="the model is incomplete"
            )
        wanted = tensor_shape(spec, ours)
        if entry.shape != wanted:
            raise CheckpointError(
                checkpoint.path, f"has shape {entry.shape}, {wanted} expected", tensor=theirs
            )
    return ModelSource(checkpoint, spec, names, adjacent)
