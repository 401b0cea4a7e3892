"""A model file as the decoder sees it: spec, and our tensor names over the file's.

Opens containers, picks the family's reader, checks that every tensor is there in its shape.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from quantchat.checkpoints.base import Checkpoint, TensorEntry
from quantchat.checkpoints.detect import open_checkpoint
from quantchat.checkpoints.gguf import GgufFile
from quantchat.checkpoints.layouts.table import read_layout
from quantchat.checkpoints.safetensors import SafetensorsFolder
from quantchat.errors import CheckpointError
from quantchat.model.config_gguf import gguf_naming, gguf_traits, spec_from_gguf
from quantchat.model.config_hf import hf_traits, spec_from_config
from quantchat.model.config_rope import check_rope
from quantchat.model.export_marker import MARKER, Export, read_export
from quantchat.model.names import our_names, rows_of, tensor_shape
from quantchat.model.naming import FALCON_TWO_NORMS, Naming
from quantchat.model.rows import Rows
from quantchat.spec import DecoderSpec, FactorScaling, LongScaling


@dataclass(frozen=True, slots=True)
class ModelSource:
    """An open checkpoint that is known to hold a whole model of `spec`."""

    checkpoint: Checkpoint
    spec: DecoderSpec
    names: dict[str, str]
    """Our name -> the file's."""
    adjacent_pairs: bool
    """False: rows of q and k pair (i, i + D/2) and must be permuted."""
    rows: Mapping[str, Rows] = field(default_factory=dict)
    """Our name -> which rows of the file's tensor it is, where that is not all of them."""
    norm_offset: float = 0.0
    """Added to the norms' weights as the file has them (Gemma's 1 + w)."""
    export: Export | None = None
    """Where the checkpoint is one that quantchat wrote; `names` is empty then."""

    def close(self) -> None:
        """Let go of the files."""
        self.checkpoint.close()


def open_model(path: Path) -> ModelSource:
    """Open a GGUF file or a model folder; raises CheckpointError naming what is wrong."""
    checkpoint = open_checkpoint(path)
    try:
        return source_of(checkpoint)
    except BaseException:
        checkpoint.close()
        raise


def source_of(checkpoint: Checkpoint) -> ModelSource:
    """The model in an open checkpoint; raises CheckpointError naming what is wrong."""
    assert isinstance(checkpoint, (GgufFile, SafetensorsFolder))
    offset = 0.0
    if isinstance(checkpoint, GgufFile):
        spec, naming = spec_from_gguf(checkpoint), gguf_naming(checkpoint)
        adjacent = gguf_traits(checkpoint).adjacent_pairs
    else:
        if checkpoint.files.exists(checkpoint.path / MARKER):
            export = read_export(checkpoint)
            _check_ropes(checkpoint.path, export.spec)
            return ModelSource(checkpoint, export.spec, {}, adjacent_pairs=True, export=export)
        traits = hf_traits(checkpoint.config)
        layout = read_layout(checkpoint)
        if layout is not None:
            checkpoint.add_layout(layout)
        naming = _prefixed(traits.naming, checkpoint)
        has_head = naming.theirs("head") in checkpoint.tensors
        spec = spec_from_config(checkpoint.config, has_head=has_head)
        if traits.name == "falcon" and spec.placement == "parallel_two":
            naming = FALCON_TWO_NORMS
        adjacent, offset = False, traits.norm_offset
    _check_ropes(checkpoint.path, spec)
    names, rows = dict[str, str](), dict[str, Rows]()
    views: dict[str, TensorEntry] = {}
    for ours in our_names(spec):
        theirs = names[ours] = naming.theirs(ours)
        entry = checkpoint.tensors.get(theirs)
        if entry is None:
            raise CheckpointError(
                checkpoint.path, "is missing", tensor=theirs, hint="the model is incomplete"
            )
        taken, wanted = rows_of(spec, naming, ours), tensor_shape(spec, ours)
        if taken is not None:
            wanted = taken.whole_shape(wanted[1:])
        single = ours.endswith("shared_gate") and entry.shape == (1, *wanted)
        if entry.shape != wanted and not single:
            raise CheckpointError(
                checkpoint.path, f"has shape {entry.shape}, {wanted} expected", tensor=theirs
            )
        packed = isinstance(checkpoint, SafetensorsFolder) and checkpoint.is_packed(theirs)
        view = None if taken is None or packed else taken.view(entry)
        if view is not None:
            views[view.name] = view
            names[ours] = view.name
        elif taken is not None:
            rows[ours] = taken
    if views:
        checkpoint.add_views(views)
    return ModelSource(checkpoint, spec, names, adjacent, rows=rows, norm_offset=offset)


def _check_ropes(path: Path, spec: DecoderSpec) -> None:
    """Raises CheckpointError where factors are not one for each pair, or angles no numbers."""
    for rope in (spec.rope, spec.local_rope):
        if rope is not None:
            check_rope(path, rope)
    scaling, pairs = spec.rope.scaling, spec.rope.rotary_dim // 2
    sets: tuple[tuple[float, ...], ...] = ()
    if isinstance(scaling, FactorScaling):
        sets = (scaling.factors,)
    elif isinstance(scaling, LongScaling):
        sets = scaling.short, scaling.long
    for factors in sets:
        if len(factors) != pairs:
            raise CheckpointError(path, f"has {len(factors)} rope factors for {pairs} pairs")


def _prefixed(naming: Naming, checkpoint: SafetensorsFolder) -> Naming:
    """The names of a decoder that is part of a model which also sees, whose prefix has changed."""
    if naming.theirs("embed") in checkpoint.tensors:
        return naming
    for before in ("language_model.model.", "model.language_model."):
        inner = naming.within("model.", before)
        if inner.theirs("embed") in checkpoint.tensors:
            head = "language_model.lm_head.weight"
            return replace(inner, patterns={**inner.patterns, "head": head})
    return naming
