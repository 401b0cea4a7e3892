"""What a scripted engine reports: a model of the starter's size, its memory, its latency."""

from __future__ import annotations

from quantchat.events import GapTrace, MemoryUse, Metrics, ModelInfo
from quantchat.requests import LoadRequest

BITS = {"fp16": 16.0, "int8": 8.5, "int4": 4.7, "stored": 5.0, "auto": 5.0}
PARAMETERS = 134_515_008
KV_TOKEN_BYTES = 23_040
READ_BYTES_PER_S = 40e9


def model_info(request: LoadRequest, context_tokens: int = 2048) -> ModelInfo:
    """What a load of the starter's size would report."""
    scheme = "int8" if request.scheme == "auto" else request.scheme
    bits = BITS.get(scheme, 8.0)
    return ModelInfo(
        slot=request.slot,
        model=request.model,
        path=f"/models/{request.model}.gguf",
        architecture="llama",
        parameters=PARAMETERS,
        scheme=scheme,
        scheme_detail=f"{scheme}, group 64",
        kv="16bit" if request.kv == "auto" else request.kv,
        device="cpu",
        device_name="CPU, 2 cores",
        context_tokens=context_tokens,
        weight_bytes=int(PARAMETERS * bits / 8),
        bits_per_weight=bits,
        load_s=1.5,
        identity="starter",
        read_bytes_per_s=READ_BYTES_PER_S,
        kv_bytes_per_token=KV_TOKEN_BYTES,
    )


def memory_use(info: ModelInfo, tokens: int = 0) -> MemoryUse:
    """Memory that grows with the tokens."""
    return MemoryUse(
        weight_bytes=info.weight_bytes,
        kv_used_bytes=tokens * KV_TOKEN_BYTES,
        kv_reserved_bytes=info.context_tokens * KV_TOKEN_BYTES,
        workspace_bytes=12 * 2**20,
        peak_bytes=info.weight_bytes + 80 * 2**20,
        process_bytes=info.weight_bytes + 400 * 2**20,
        device_total_bytes=8 * 2**30,
        device_free_bytes=5 * 2**30,
        others_bytes=2 * 2**30,
    )


def metrics_of(tokens: int, info: ModelInfo, tok_per_s: float | None = None) -> Metrics:
    """Latency that depends on the scheme, as a real one does."""
    gap = info.bits_per_weight / 16.0 / (tok_per_s or 40.0)
    return Metrics(
        prompt_tokens=20,
        cached_tokens=0,
        completion_tokens=tokens,
        context_tokens=20 + tokens,
        context_tokens_max=info.context_tokens,
        queue_s=0.001,
        template_s=0.002,
        prefill_s=0.15,
        first_sample_s=0.004,
        ttft_s=0.157,
        itl_p50_s=gap,
        itl_p95_s=gap * 1.6,
        itl_max_s=gap * 2.2,
        itl_recent_s=tuple(gap * (1 + 0.3 * ((at * 7) % 5)) for at in range(min(tokens, 60))),
        itl_trace=GapTrace(
            run_tokens=1,
            mean_s=(gap,) * max(0, min(tokens, 256) - 1),
            max_s=(gap * 1.6,) * max(0, min(tokens, 256) - 1),
        ),
        prefill_tok_per_s=133.0,
        decode_tok_per_s=1 / gap,
        e2e_s=0.157 + gap * tokens,
        read_bytes_per_token=info.weight_bytes + (20 + tokens) * KV_TOKEN_BYTES,
        decode_joules=None,
    )
