"""From a load request to a loaded model: find, plan, read, round, place, warm.

Runs in a loader thread, beside an engine that goes on answering with the old model.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import torch

from quantchat import paths
from quantchat.calibration.methods import method_of
from quantchat.calibration.settings import CalibrationSettings
from quantchat.calibration.source import CalibratedSource
from quantchat.calibration.text import calibration_ids
from quantchat.calibration.walk import product_dtype
from quantchat.checkpoints.gguf import GgufFile
from quantchat.engine.device_errors import forget_frames, trouble_of
from quantchat.engine.load_errors import device_error
from quantchat.engine.memory import free_bytes, give_back
from quantchat.engine.model import LoadedModel
from quantchat.engine.read_ahead import cache_used as cache_used
from quantchat.engine.read_ahead import calibration_key, calibration_of
from quantchat.engine.read_ahead import plan_request as plan_request
from quantchat.engine.room import Room, plan_in
from quantchat.engine.sharing import SharedDecoders as SharedDecoders
from quantchat.engine.sharing import decoder_key
from quantchat.engine.waking import keeps_memory, wake
from quantchat.errors import Cancelled, CheckpointError, QuantchatError, TokenizerError
from quantchat.events import LoadPhase, ModelInfo
from quantchat.hardware.bandwidth import read_bytes_per_s as device_rate
from quantchat.hardware.execution import ExecutionPlan
from quantchat.hardware.memory import calibration_text_bytes
from quantchat.hardware.probe import probe
from quantchat.hub.local import LocalModel, resolve
from quantchat.model.decoder import Decoder
from quantchat.model.export_marker import Export
from quantchat.model.exported import ExportedMatrices
from quantchat.model.families import ModelSource, open_model
from quantchat.model.loader import LoadedDecoder, MatrixSource, OnProgress, load_decoder
from quantchat.model.packed_cache import PackedCache
from quantchat.model.weights import WeightRecipe
from quantchat.ops.batch import Batch, Span
from quantchat.ops.kernel_cache import import_compiler, learn_compiler
from quantchat.ops.kv_pool import KvPool
from quantchat.ops.select import make_ops
from quantchat.ops.torch_ops import TorchOps
from quantchat.reasoning import opening_of
from quantchat.requests import LoadRequest, Message
from quantchat.spec import DecoderSpec
from quantchat.tokenizer import Tokenizer, from_folder, from_gguf

logger = logging.getLogger(__name__)

SHARED = "weights shared with a loaded model"
WARM_TOKENS = 16
THREAD_BYTES = 1 << 29
"""Weights for which a thread more is worth its waiting in the warm-up."""

Report = Callable[[LoadPhase, int, int, str], None]
"""phase, done, total, detail."""


def load_model(
    request: LoadRequest,
    report: Report,
    cancelled: Callable[[], bool],
    shared: SharedDecoders,
    room: Room | None = None,
) -> LoadedModel:
    """Load what was asked for; raises QuantchatError with a hint, Cancelled when told to stop."""
    started_s = time.perf_counter()
    report("read", 0, 0, "looking at the file")
    local = resolve(request.model)
    source = open_model(local.path)
    try:
        plan = plan_in(source.spec, plan_request(request, source), room)
        if plan.device == "cuda":
            wake(plan.gpu_index)
        try:
            return _placed(request, local, source, plan, report, cancelled, shared, started_s)
        except Exception as error:
            trouble = trouble_of(error)
            if isinstance(error, QuantchatError) or trouble is None:
                raise
            logger.warning("loading %s: %s", request.model, trouble.reason)
            forget_frames(error)
        raise device_error(trouble, plan, source.spec)
    finally:
        source.close()


def _placed(
    request: LoadRequest,
    local: LocalModel,
    source: ModelSource,
    plan: ExecutionPlan,
    report: Report,
    cancelled: Callable[[], bool],
    shared: SharedDecoders,
    started_s: float,
) -> LoadedModel:
    """The model on its device; raises what torch raises where the device fails."""
    torch.set_num_threads(plan.threads)
    if plan.device == "cuda" and keeps_memory(plan.gpu_index):
        # What torch keeps for later, the kernels and graphs of a new model cannot have.
        give_back(workspaces=False)
    if plan.triton:
        import_compiler()
    # The tokenizer is read while bytes are on their way to the card.
    with ThreadPoolExecutor(2, "beside-load") as beside:
        reading = beside.submit(_texts, source, local.path, shared)
        rate = beside.submit(lambda: device_rate(probe(), plan))
        decoder, notes, from_cache = _decoder(
            source, plan, calibration_of(request), report, cancelled, shared, beside
        )
        tokenizer, opening = reading.result()
    report("warm", 0, 1, "")
    pool = build_pool(decoder, plan)
    info = _info(
        request,
        local.name,
        local.path,
        decoder,
        plan,
        notes,
        from_cache,
        started_s,
        identity=source.checkpoint.identity(),
        read_bytes_per_s=rate.result(),
        kv_bytes_per_token=pool.token_bytes,
        opening=opening,
    )
    model = LoadedModel(info=info, plan=plan, decoder=decoder, pool=pool, tokenizer=tokenizer)
    _warm(model, report, cancelled)
    report("warm", 1, 1, "")
    return model


def _texts(source: ModelSource, path: Path, shared: SharedDecoders) -> tuple[Tokenizer, str]:
    """The tokenizer, and how its template opens answers."""
    tokenizer = shared.tokenizer(source, path, read_tokenizer)
    return tokenizer, reasoning_opening(tokenizer)


def read_tokenizer(source: ModelSource, path: Path) -> Tokenizer:
    """The model's tokenizer, from its GGUF metadata or its folder."""
    checkpoint = source.checkpoint
    if isinstance(checkpoint, GgufFile):
        return from_gguf(checkpoint)
    return from_folder(path)


def _decoder(
    source: ModelSource,
    plan: ExecutionPlan,
    calibration: CalibrationSettings,
    report: Report,
    cancelled: Callable[[], bool],
    shared: SharedDecoders,
    beside: ThreadPoolExecutor,
) -> tuple[Decoder, tuple[str, ...], bool]:
    key = decoder_key(source, plan, calibration)
    known = shared.by_key.get(key)
    if known is not None:
        return known, (SHARED,), False
    ops = make_ops(source.spec, plan)
    if plan.triton:
        # Not before: Triton cannot be imported by two threads at once.
        beside.submit(learn_compiler, plan.gpu_index)
    loaded = build_decoder(
        source,
        plan,
        ops,
        on_progress=lambda phase, done, total: report(phase, done, total, plan.scheme.title),
        cancelled=cancelled,
        calibration=calibration,
    )
    shared.by_key[key] = loaded.decoder
    return loaded.decoder, loaded.notes, loaded.from_cache


def build_decoder(
    source: ModelSource,
    plan: ExecutionPlan,
    ops: TorchOps,
    *,
    on_progress: OnProgress,
    cancelled: Callable[[], bool],
    made: MatrixSource | None = None,
    calibration: CalibrationSettings | None = None,
) -> LoadedDecoder:
    """Read, round and place the plan's weights, out of the packed cache where they are in it.

    `ops` may compute in another type than the plan's, as the float32 reference does. `made`: where
    matrices come from that are not in the cache, in place of the source. `calibration`: of schemes
    that are calibrated, the default where it is None.
    """
    calibration = calibration or CalibrationSettings()
    recipe = WeightRecipe(
        scheme=plan.scheme, group_size=plan.group_size, dtype=ops.dtype, device=ops.device
    )
    cache = None
    if source.export is not None:
        made = exported_matrices(source.export, plan)
    elif cache_used(plan):
        identity = source.checkpoint.identity()
        key = calibration_key(plan.scheme, calibration)
        cache = PackedCache(paths.packed_dir(), identity, plan.scheme.name, plan.group_size, key)
    if made is None:
        made = calibrated_matrices(source, recipe, ops, calibration, on_progress, cancelled)
    return load_decoder(
        source,
        ops,
        recipe,
        context_tokens=plan.context_tokens,
        cache=cache,
        on_progress=on_progress,
        cancelled=cancelled,
        made=made,
    )


def exported_matrices(export: Export, plan: ExecutionPlan) -> MatrixSource:
    """Matrices of an export; raises CheckpointError where its groups are not the plan's."""
    if export.scheme != plan.scheme or export.group_size != plan.group_size:
        raise CheckpointError(
            export.checkpoint.path,
            f"holds {export.scheme.title} in groups of {export.group_size}, not "
            f"{plan.scheme.title} in groups of {plan.group_size}",
        )
    return ExportedMatrices(export)


def calibrated_matrices(
    source: ModelSource,
    recipe: WeightRecipe,
    ops: TorchOps,
    settings: CalibrationSettings,
    on_progress: OnProgress,
    cancelled: Callable[[], bool],
) -> MatrixSource | None:
    """Matrices of a calibrated scheme, None for others; nothing runs before the first is asked for."""
    if recipe.scheme.calibration == "none":
        return None

    def ids() -> torch.Tensor:
        on_progress("sample", 0, settings.tokens)
        device, dtype = _sampler(source.spec, ops, settings)
        return calibration_ids(
            source,
            settings,
            tokenizer=lambda: read_tokenizer(source, source.checkpoint.path),
            device=device,
            dtype=dtype,
            on_progress=lambda done, total: on_progress("sample", done, total),
            cancelled=cancelled,
        )

    return CalibratedSource(
        source,
        recipe,
        method_of(recipe),
        ids,
        dtype=product_dtype(ops.device),
        memory_bytes=settings.memory_bytes,
        cancelled=cancelled,
    )


def _sampler(
    spec: DecoderSpec, ops: TorchOps, settings: CalibrationSettings
) -> tuple[torch.device, torch.dtype]:
    """Where the model writes its text, in 16 bits: on its device, or beside it where it is small."""
    needed = calibration_text_bytes(spec, settings.sequences * settings.tokens)
    if ops.device.type == "cpu" or needed <= free_bytes(ops.device):
        return ops.device, ops.dtype
    logger.info("calibration text is written on the CPU: %d bytes do not fit on the card", needed)
    return torch.device("cpu"), torch.bfloat16


def reasoning_opening(tokenizer: Tokenizer) -> str:
    """The mark of reasoning that the template opens each answer with, or ""."""
    try:
        prompt = tokenizer.template.render((Message("user", "?"),), add_generation_prompt=True)
    except TokenizerError:
        return ""
    return opening_of(prompt)


def build_pool(decoder: Decoder, plan: ExecutionPlan) -> KvPool:
    """Cache memory for the plan's context, in the decoder's type where KV is 16-bit."""
    return KvPool(
        decoder.spec,
        pages=plan.pages,
        page_tokens=plan.page_tokens,
        precision=plan.kv,
        dtype=decoder.ops.dtype,
        device=decoder.ops.device,
    )


def _info(
    request: LoadRequest,
    name: str,
    path: Path,
    decoder: Decoder,
    plan: ExecutionPlan,
    notes: tuple[str, ...],
    from_cache: bool,
    started_s: float,
    *,
    identity: str,
    read_bytes_per_s: float | None,
    kv_bytes_per_token: int,
    opening: str,
) -> ModelInfo:
    parameters = decoder.spec.parameters
    cached = ("packed weights from the cache",) if from_cache and cache_used(plan) else ()
    return ModelInfo(
        slot=request.slot,
        model=name,
        path=str(path),
        architecture=decoder.spec.architecture,
        parameters=parameters,
        scheme=plan.scheme.name,
        scheme_detail=scheme_detail(plan),
        kv=plan.kv,
        device=plan.device,
        device_name=plan.device_name,
        context_tokens=plan.context_tokens,
        weight_bytes=decoder.weight_bytes,
        bits_per_weight=8 * decoder.weight_bytes / parameters,
        load_s=time.perf_counter() - started_s,
        identity=identity,
        read_bytes_per_s=read_bytes_per_s,
        kv_bytes_per_token=kv_bytes_per_token,
        opening=opening,
        notes=tuple(note for note in notes if note != SHARED),
        reasons=(*plan.reasons, *plan.refused, *notes, *cached),
    )


def scheme_detail(plan: ExecutionPlan) -> str:
    """The plan's scheme in words: "int4 group 64, int8 head"."""
    group = f" group {plan.group_size}" if plan.group_size else ""
    head = ", int8 head" if plan.scheme.head == "int8_channel" else ""
    return f"{plan.scheme.title}{group}{head}"


@torch.inference_mode()
def _warm(model: LoadedModel, report: Report, cancelled: Callable[[], bool]) -> None:
    """Run prompt chunks and a token once, so that the first answer pays no set-up.

    Where decode runs in a graph, capturing it is the set-up of a token.
    """
    if cancelled():
        raise Cancelled("loading was stopped")
    model.use_device()
    pool, device = model.pool, model.decoder.ops.device
    # Threads that wait for each other beside an engine that answers are slower than one.
    torch.set_num_threads(
        max(1, min(model.plan.threads, model.decoder.weight_bytes // THREAD_BYTES))
    )
    if model.plan.triton:
        from quantchat.engine.warming import warm_card

        warm_card(model, report, cancelled)
        return
    for count in (WARM_TOKENS, 1):
        rows = torch.arange(min(count, model.plan.context_tokens), device=device)
        tokens = rows.shape[0]
        pages = tuple(range(-(-tokens // pool.page_tokens)))
        batch = Batch(
            torch.zeros_like(rows),
            rows.to(torch.int32),
            rows,
            count == 1,
            (Span(0, tokens, tokens, pages),),
        )
        hidden = model.decoder.forward(batch, pool)
        model.decoder.logits(hidden[-1:]).argmax().item()
