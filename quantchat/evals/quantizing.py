"""A model made into an export: rounded or calibrated, written, opened again and measured.

Owns the order and what the recipe says. The folder is built beside its place and renamed at the
end, so that what is there is whole; measured is what was written, not what was meant to be.
"""

from __future__ import annotations

import contextlib
import shutil
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from quantchat import __version__
from quantchat.calibration.settings import CalibrationSettings
from quantchat.checkpoints.json_file import read_object
from quantchat.checkpoints.safetensors import CONFIG, SafetensorsFolder
from quantchat.engine.loading import calibrated_matrices
from quantchat.engine.read_ahead import calibration_key
from quantchat.errors import PlanError, QuantchatError, UsageError
from quantchat.evals.chats import ChatWish, write_chats
from quantchat.evals.reference import Reference, ReferenceKind, reference_for
from quantchat.evals.report import quality
from quantchat.evals.study import Row, Wish, card_weight_bytes, measure, reason_of
from quantchat.evals.subject import OnWork, Subject, open_subject, phases
from quantchat.evals.text import Passages
from quantchat.hardware.execution import ExecutionPlan
from quantchat.model.export import dense_dtype, write_config, write_marker, write_weights
from quantchat.model.weights import WeightReader, WeightRecipe
from quantchat.store.quality import Quality, as_object, remember
from quantchat.tokenizer.writing import copy_tokenizer, write_tokenizer

CONTEXT_TOKENS = 512
"""Of the plan that a model is quantized under; what it runs with is decided when it is loaded."""
LEAVE_FREE_BYTES = 1 << 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What is to be made and how it is to be measured."""

    scheme: str
    kvs: tuple[str, ...]
    device: str
    eval_tokens: int
    """0 measures nothing."""
    seed: int = 0
    """Of the chats that it is measured on."""
    calibration: CalibrationSettings = field(default_factory=CalibrationSettings)


@dataclass(frozen=True, slots=True)
class Made:
    """An export in its place."""

    folder: Path
    nbytes: int
    """Of all tensors."""
    shards: int
    rows: tuple[Row, ...]
    qualities: tuple[Quality, ...]
    refused: tuple[str, ...]
    """What could not be measured here, with the reason."""
    passages: Passages | None


def quantize(
    subject: Subject,
    order: Order,
    out: Path,
    *,
    on_work: OnWork,
    cancelled: Callable[[], bool],
) -> Made:
    """Make the export, measured where there is room for that.

    Raises UsageError, PlanError, CheckpointError, Cancelled; leaves no half.
    """
    if subject.source.export is not None:
        raise UsageError(
            f"{subject.name} is an export already", hint="quantize the model that it was made of"
        )
    plan = subject.plan(
        order.scheme, "16bit", order.device, min(CONTEXT_TOKENS, subject.source.spec.context)
    )
    if plan.scheme.weights == "stored":
        raise UsageError(
            "'as stored' is what the file holds already", hint="choose another --scheme"
        )
    with _draft(out, card_weight_bytes(subject, plan, held_bytes=0)) as draft:
        ops = subject.ops(plan)
        recipe = WeightRecipe(
            scheme=plan.scheme,
            group_size=plan.group_size,
            dtype=dense_dtype([e.dtype for e in subject.source.checkpoint.tensors.values()]),
            device=ops.device,
        )
        reader = WeightReader(subject.source, recipe)
        loading = phases(plan.scheme.name, on_work)
        made = calibrated_matrices(
            subject.source, recipe, ops, order.calibration, loading, cancelled
        )
        written = write_weights(draft, reader, made, on_progress=loading, cancelled=cancelled)
        del made
        _write_rest(subject, plan, draft)
        words = _recipe(subject, plan, recipe, order)
        write_marker(draft, reader, written, recipe=words, quality=[])
        try:
            rows, passages, refused, found = _measured(subject, order, draft, on_work, cancelled)
        except Exception as error:
            # What took hours to make is not given up for want of room for the original beside it.
            rows, passages, found = (), None, ()
            refused = (f"the measurement: {reason_of(error)}",)
        write_marker(
            draft, reader, written, recipe=words, quality=[as_object(one) for one in found]
        )
    remember(found)
    _remember_export(out, found)
    return Made(out, written.nbytes, len(written.files), rows, found, refused, passages)


@contextlib.contextmanager
def _draft(out: Path, expected_bytes: int) -> Iterator[Path]:
    """A folder beside `out` that takes its place at the end, and is removed where that fails."""
    try:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UsageError(f"{out} is there already", hint="name a new folder")
        out.parent.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(out.parent).free
        if expected_bytes + LEAVE_FREE_BYTES > free:
            raise QuantchatError(
                f"the export takes {expected_bytes / 2**30:.1f} GiB, "
                f"{free / 2**30:.1f} GiB are free in {out.parent}",
                hint="name a folder on another disk",
            )
        draft = out.with_name(f".{out.name}.{uuid.uuid4().hex[:12]}")
        draft.mkdir()
    except OSError as error:
        raise UsageError(
            f"{out} cannot be written: {error.strerror or error}", hint="name another folder"
        ) from None
    try:
        yield draft
        if out.exists():
            out.rmdir()
        draft.rename(out)
    except OSError as error:
        raise QuantchatError(
            f"{out} cannot be written: {error.strerror or error}", hint="name another folder"
        ) from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)


def _write_rest(subject: Subject, plan: ExecutionPlan, draft: Path) -> None:
    """Tokenizer files, chat template and config.json."""
    checkpoint = subject.source.checkpoint
    if isinstance(checkpoint, SafetensorsFolder):
        copy_tokenizer(checkpoint.path, draft)
        config, _ = read_object(checkpoint.path / CONFIG)
    else:
        write_tokenizer(subject.tokenizer, draft)
        config = {
            "model_type": subject.source.spec.architecture,
            "vocab_size": subject.source.spec.vocab,
            "eos_token_id": sorted(subject.tokenizer.eos_ids),
        }
    if not (draft / "tokenizer.json").is_file():
        write_tokenizer(subject.tokenizer, draft)
    write_config(draft, config, plan.scheme.name)


def _recipe(
    subject: Subject, plan: ExecutionPlan, recipe: WeightRecipe, order: Order
) -> dict[str, Any]:
    settings = order.calibration
    calibrated = plan.scheme.calibration != "none"
    return {
        "scheme": plan.scheme.name,
        "method": plan.scheme.source,
        "group_size": plan.group_size,
        "dense_dtype": str(recipe.dtype).removeprefix("torch."),
        "calibration": {
            "key": calibration_key(plan.scheme, settings),
            "text": "its own" if settings.file is None else settings.file.name,
            "sequences": settings.sequences,
            "tokens": settings.tokens,
            "seed": settings.seed,
        }
        if calibrated
        else None,
        "source": {
            "model": subject.name,
            "identity": subject.identity,
            "container": subject.source.checkpoint.container,
            "parameters": subject.source.spec.parameters,
        },
        "device": plan.device_name,
        "quantchat": __version__,
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _measured(
    subject: Subject,
    order: Order,
    draft: Path,
    on_work: OnWork,
    cancelled: Callable[[], bool],
) -> tuple[tuple[Row, ...], Passages | None, tuple[str, ...], tuple[Quality, ...]]:
    """The export in `draft` against the model that it was made of."""
    if not order.eval_tokens:
        return (), None, (), ()
    passages = write_chats(
        subject,
        ChatWish(tokens=order.eval_tokens, seed=order.seed),
        device=order.device,
        on_work=on_work,
        cancelled=cancelled,
    )
    base, kind = _reference(subject, passages, order.device, on_work, cancelled)
    exported = open_subject(str(draft))
    rows: list[Row] = []
    refused: list[str] = []
    wish = Wish(
        schemes=(order.scheme,), kvs=order.kvs, device=order.device, calibration=order.calibration
    )
    try:
        plans = []
        for kv in order.kvs:
            try:
                plans.append(exported.plan("auto", kv, order.device, passages.longest_tokens))
            except PlanError as error:
                refused.append(f"{order.scheme} with {kv} KV: {error.message}")
        if plans:
            decoder = exported.decoder(plans[0], phases("export", on_work), cancelled).decoder
            for plan in plans:
                try:
                    row, _ = measure(
                        exported, decoder, plan, passages, base, wish, on_work, cancelled
                    )
                except Exception as error:
                    refused.append(f"{order.scheme} with {plan.kv} KV: {reason_of(error)}")
                else:
                    rows.append(row)
    finally:
        exported.close()
    found = tuple(
        quality(row, passages, identity=subject.identity, model=subject.name, reference=kind)
        for row in rows
    )
    return tuple(rows), passages, tuple(refused), found


def _reference(
    subject: Subject,
    passages: Passages,
    device: str,
    on_work: OnWork,
    cancelled: Callable[[], bool],
) -> tuple[Reference, ReferenceKind]:
    """In float32 where that fits, else in 16 bits."""
    try:
        return reference_for(subject, passages, "fp32", device, on_work, cancelled), "fp32"
    except PlanError:
        return reference_for(subject, passages, "fp16", device, on_work, cancelled), "fp16"


def _remember_export(out: Path, found: tuple[Quality, ...]) -> None:
    """The same figures under the export's own identity, for when it is chosen in the app."""
    if not found:
        return
    with contextlib.closing(open_subject(str(out))) as exported:
        remember(replace(one, identity=exported.identity, model=exported.name) for one in found)
