"""A quantized model written as a folder that loads again without the original.

Owns what is in it: weights in stored formats, norms and table as safetensors, and quantchat.json
with spec, index, recipe and measured quality. Reading it is `exported`'s, its tokenizer files are
the caller's. Nothing in it depends on a card.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from quantchat.checkpoints.safetensors import CONFIG
from quantchat.errors import Cancelled, CheckpointError
from quantchat.model.export_marker import FORMAT, MARKER, METHOD
from quantchat.model.loader import MatrixSource, OnProgress, Phase, fetching
from quantchat.model.packed_parts import Index, PartEntry, stored_form
from quantchat.model.shards import ShardWriter
from quantchat.model.spec_json import spec_to_json
from quantchat.model.weights import Matrix, WeightReader, matrix_names, read_matrices, vector_names
from quantchat.ops.linear import LinearForm
from quantchat.quant.tensor import StoredWeight


@dataclass(frozen=True, slots=True)
class Written:
    """What an export holds."""

    index: Index
    files: tuple[Path, ...]
    nbytes: int
    """Of all tensors."""


def write_weights(
    folder: Path,
    reader: WeightReader,
    made: MatrixSource | None,
    *,
    on_progress: OnProgress,
    cancelled: Callable[[], bool],
) -> Written:
    """Round every matrix and write it. Raises CheckpointError, Cancelled.

    `made`: where matrices come from in place of the reader, as in loading.
    """
    spec = reader.source.spec
    steps, done = len(matrix_names(spec)) + 2, 0
    phase: Phase = "quantize" if made is None else made.phase

    def step(name: str) -> None:
        nonlocal done
        if cancelled():
            raise Cancelled("quantizing was stopped")
        on_progress(phase, done, steps)
        done += 1

    index = Index()
    writer = ShardWriter(folder, {"format": "pt", "quantchat": "export"})
    try:
        with fetching(reader, cancelled):
            head: StoredWeight | None = None
            for name, matrix in _matrices(reader, made, step):
                index.linears[name] = _add_matrix(writer, folder, name, matrix)
                if name == "head":
                    head = matrix.parts[0]
            assert head is not None
            step("embed")
            table = None if made is None else made.table()
            if table is None and not spec.tied_head:
                table = reader.weight("embed", "dense")
            if table is None:
                index.embedding = index.linears["head"][0]
            else:
                index.embedding = _add_part(writer, folder, "embed", stored_form(table, None))
        for name in vector_names(spec):
            changed = None if made is None else made.vector(name)
            values = reader.vector(name) if changed is None else changed
            writer.add(name, values.float())
            index.vectors[name] = name
        files = writer.finish()
    except OSError as error:
        raise CheckpointError(
            folder, f"cannot be written: {error.strerror or error}", hint="make room on the disk"
        ) from error
    finally:
        writer.close()
    on_progress(phase, steps, steps)
    return Written(index, tuple(files), writer.nbytes)


def write_marker(
    folder: Path,
    reader: WeightReader,
    written: Written,
    *,
    recipe: Mapping[str, Any],
    quality: Sequence[Mapping[str, Any]],
) -> None:
    """quantchat.json, which makes the folder an export; replaced in one step."""
    table = {
        "format": FORMAT,
        "scheme": reader.recipe.scheme.name,
        "group_size": reader.recipe.group_size,
        "spec": spec_to_json(reader.source.spec),
        "recipe": dict(recipe),
        "quality": list(quality),
        "index": json.loads(written.index.to_text()),
    }
    draft = folder / f".{MARKER}"
    draft.write_text(json.dumps(table, indent=1, allow_nan=False), encoding="utf-8")
    os.replace(draft, folder / MARKER)


def write_config(folder: Path, config: Mapping[str, Any], scheme: str) -> None:
    """config.json, which tokenizers and other programs look for."""
    table = {**config, "quantization_config": {"quant_method": METHOD, "scheme": scheme}}
    (folder / CONFIG).write_text(json.dumps(table, indent=1), encoding="utf-8")


def dense_dtype(file_types: Sequence[str]) -> torch.dtype:
    """The type of matrices that stay dense: bfloat16 where the file has it, else float16."""
    return torch.bfloat16 if "BF16" in file_types else torch.float16


def _matrices(
    reader: WeightReader, made: MatrixSource | None, step: Callable[[str], None]
) -> Iterator[tuple[str, Matrix]]:
    if made is None:
        return read_matrices(reader, step)
    return made.matrices(reader.source.spec, reader.recipe.device, step)


def _add_matrix(
    writer: ShardWriter, folder: Path, name: str, matrix: Matrix
) -> tuple[PartEntry, ...]:
    rows = [part.shape[0] for part in matrix.parts]
    biases = [None] * len(rows) if matrix.bias is None else list(torch.split(matrix.bias, rows))
    several = len(matrix.parts) > 1
    return tuple(
        _add_part(writer, folder, f"{name}.{number}" if several else name, stored_form(part, bias))
        for number, (part, bias) in enumerate(zip(matrix.parts, biases, strict=True))
    )


def _add_part(writer: ShardWriter, folder: Path, prefix: str, form: LinearForm) -> PartEntry:
    names = {key: f"{prefix}.{key}" for key in form.tensors}
    for key, tensor in form.tensors.items():
        if tensor.is_floating_point() and tensor.dtype != torch.float8_e4m3fn:
            finite = bool(tensor.isfinite().all())
            if not finite:
                raise CheckpointError(
                    folder,
                    "holds numbers beyond what its format can",
                    tensor=names[key],
                    hint="take another scheme",
                )
        writer.add(names[key], tensor)
    return PartEntry(form=form.form, shape=form.shape, group_size=form.group_size, tensors=names)
