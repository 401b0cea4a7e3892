"""While torch is imported, the disk can work: files that a load will read go into the page cache.

Knows which files these are without torch; a guess that costs nothing but a read where it is wrong.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from io import FileIO
from pathlib import Path

from quantchat import paths
from quantchat.calibration.settings import CalibrationSettings
from quantchat.checkpoints.base import TensorEntry
from quantchat.errors import QuantchatError
from quantchat.hardware.execution import ExecutionPlan, PlanRequest
from quantchat.hardware.facts import Facts
from quantchat.hardware.plan import plan as make_plan
from quantchat.hardware.probe import probe
from quantchat.hardware.stored_types import stored_type
from quantchat.hub.local import resolve
from quantchat.model.families import ModelSource, open_model
from quantchat.model.packed_name import packed_file, packed_stem
from quantchat.quant.registry import scheme_of_export
from quantchat.quant.scheme import Scheme
from quantchat.requests import LoadRequest

PIECE_BYTES = 8 << 20
MEMORY_SHARE = 0.5
"""Files larger than this part of the free memory would push each other out of it."""

logger = logging.getLogger(__name__)


def read_ahead(request: LoadRequest, enough: Callable[[], bool]) -> int:
    """Read what loading will read, until it is `enough`; bytes read. Never raises."""
    count = 0
    try:
        facts = probe()
        files = files_of(request, facts)
        size = sum(path.stat().st_size for path in files)
        if size > MEMORY_SHARE * facts.cpu.ram_free_bytes:
            return 0
        piece = bytearray(PIECE_BYTES)
        for path in files:
            with FileIO(path) as file:
                while not enough() and (read := file.readinto(piece)):
                    count += read
    except (QuantchatError, OSError) as error:
        # The load itself meets the same trouble, and tells.
        logger.info("nothing is read ahead: %s", error)
    return count


def files_of(request: LoadRequest, facts: Facts) -> list[Path]:
    """The packed file of the plan, or else those of the model."""
    source = open_model(resolve(request.model).path)
    try:
        plan = make_plan(facts, source.spec, plan_request(request, source))
        if cache_used(plan) and source.export is None:
            identity = source.checkpoint.identity()
            key = calibration_key(plan.scheme, calibration_of(request))
            stem = packed_stem(identity, plan.scheme.name, plan.group_size, key)
            kind = "card-*" if plan.triton else "stored-*"
            packed = list(paths.packed_dir().glob(packed_file(stem, kind)))
            if packed:
                return [max(packed, key=lambda path: path.stat().st_mtime)]
        return sorted({entry.file for entry in source.checkpoint.tensors.values()})
    finally:
        source.close()


def plan_request(request: LoadRequest, source: ModelSource) -> PlanRequest:
    """The plan's question for a load request and an open model."""
    tensors = source.checkpoint.tensors
    entries = [tensors[name] for name in dict.fromkeys(source.names.values())]
    matrices = [
        tensors[theirs]
        for ours, theirs in source.names.items()
        if len(tensors[theirs].shape) == 2 and not ours.endswith((".router", ".shared_gate"))
    ]
    parts = Counter[str]()
    for entry in entries:
        parts[entry.dtype] += entry.nbytes * _copies(source, entry)
    return PlanRequest(
        scheme=_scheme_of(request, source),
        kv=request.kv,
        device=request.device,
        context_tokens=request.context_tokens,
        container=source.checkpoint.container,
        stored_bytes=parts.total(),
        stored_types=frozenset(entry.dtype for entry in matrices),
        stored_parts=tuple(sorted(parts.items())),
        exported="" if source.export is None else source.export.scheme.name,
    )


def _copies(source: ModelSource, entry: TensorEntry) -> int:
    """How often a tensor is held in its stored form: an untied table is dense instead, and a tied
    one in 4 bits lies beside the head that kernels read.
    """
    if entry.name != source.names["embed"]:
        return 1
    if not source.spec.tied_head:
        return 0
    return 2 if stored_type(entry.dtype).route == "int4" else 1


def _scheme_of(request: LoadRequest, source: ModelSource) -> str:
    """The scheme asked for; that of an export where it is one. Raises PlanError for another."""
    export = source.export
    if export is None:
        return request.scheme
    return scheme_of_export(source.checkpoint.path.name, export.scheme.name, request.scheme)


def calibration_of(request: LoadRequest) -> CalibrationSettings:
    """What a calibrated scheme is to be made with."""
    file = request.calibration_file
    return CalibrationSettings(file=paths.expanded(file) if file else None)


def calibration_key(scheme: Scheme, settings: CalibrationSettings) -> str:
    """What the name of the scheme's packed files adds; empty where nothing is calibrated."""
    return "" if scheme.calibration == "none" else settings.key()


def cache_used(plan: ExecutionPlan) -> bool:
    """Whether the plan's scheme keeps packed weights on disk."""
    return plan.scheme.rounding != "none"
