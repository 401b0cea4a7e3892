"""transformers beside us: `generate` on the same weights, dequantised where the file packs them.

Built from the model source that we read ourselves: its own GGUF loader takes half a minute and
drops rope scaling. Rows of q and k go back to its pairing (i, i + D/2). "-static" is its static
cache with the decode step compiled (mode reduce-overhead: CUDA graphs); prefill stays eager.
"""

from __future__ import annotations

import time
from typing import Any

import torch

from quantchat.bench.contest import EngineFacts, Job, RunTimes, row_prompts, run_times
from quantchat.bench.memory import peak_bytes
from quantchat.bench.own import open_subject
from quantchat.bench.peer_formats import FORMATS, Format
from quantchat.errors import PlanError
from quantchat.model.families import ModelSource
from quantchat.model.names import HUGGING_FACE, tensor_names
from quantchat.model.rope import rope_frequencies
from quantchat.spec import DecoderSpec

CLASSES = {"llama": "Llama", "mistral": "Mistral", "qwen2": "Qwen2", "qwen3": "Qwen3"}
STATIC = "-static"
PERMUTED = ("q", "k", "q_norm", "k_norm")


class TransformersEngine:
    """Implements `quantchat.bench.contest.BenchEngine`; variants bf16, nf4-dq, bf16-static, ..."""

    def __init__(self, job: Job) -> None:
        import transformers

        started_s = time.perf_counter()
        form = FORMATS[job.variant.removesuffix(STATIC)]
        self._device = torch.device(job.device)
        if job.threads:
            torch.set_num_threads(job.threads)
        subject = open_subject(job.model, job.shape)
        try:
            spec = subject.source.spec
            model = build(subject.source, form.dtype, self._device, job.context_tokens)
        finally:
            subject.source.close()
        form.convert(model)
        self._options: dict[str, object] = {}
        if job.variant.endswith(STATIC):
            self._options = {
                "cache_implementation": "static",
                "compile_config": _compile_config(self._device),
            }
        self._model = model
        linears = _weight_bytes(model.model.layers, form) + _weight_bytes(model.lm_head, form)
        table = model.model.embed_tokens.weight
        tied = table is model.lm_head.weight
        self.facts = EngineFacts(
            engine=job.kind,
            version=form.version() or transformers.__version__,
            scheme=job.variant,
            kv="16bit" if form.dtype.itemsize == 2 else "32bit",
            device=job.device,
            weight_bytes=linears + (0 if tied else table.nbytes),
            read_bytes=linears,
            kv_bytes_per_token=spec.kv_elements_per_token() * form.dtype.itemsize,
            load_s=time.perf_counter() - started_s,
        )

    @torch.inference_mode()
    def run(self, prompt: list[int], tokens: int, rows: int = 1) -> RunTimes:
        """See BenchEngine.run."""
        ids = torch.tensor(row_prompts(prompt, rows), device=self._device)
        stamps = _Stamps()
        if self._device.type == "cuda":
            torch.cuda.synchronize()
        started_s = time.perf_counter()
        self._model.generate(
            ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=tokens,
            min_new_tokens=tokens,
            do_sample=False,
            streamer=stamps,
            **self._options,
        )
        return run_times(started_s, stamps.times_s, tokens, stamps.ids)

    def peak_bytes(self) -> int:
        """See BenchEngine.peak_bytes."""
        return peak_bytes(self._device.type)


def _compile_config(device: torch.device) -> Any:
    import transformers

    make: Any = transformers.CompileConfig
    if device.type == "cuda":
        return make(mode="reduce-overhead", fullgraph=True)
    config = make(mode="default", fullgraph=True)
    # transformers compiles on a CPU only where this says so.
    config._compile_all_devices = True
    return config


def _weight_bytes(module: Any, form: Format) -> int:
    """Bytes of a module's weights as they lie in memory, scales included."""
    return sum(form.nbytes(parameter) for parameter in module.parameters())


class _Stamps:
    """A transformers streamer that notes when each token comes; the first put is the prompt."""

    def __init__(self) -> None:
        self.times_s: list[float] = []
        self.ids: list[int] = []
        self._prompt_seen = False

    def put(self, value: torch.Tensor) -> None:
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        # A copy from the card waits for the step; one from the host costs nothing.
        self.ids.append(int(value.flatten()[0]))
        self.times_s.append(time.perf_counter())

    def end(self) -> None:
        pass


def build(source: ModelSource, dtype: torch.dtype, device: torch.device, context: int) -> Any:
    """A transformers causal LM with the source's weights, without end-of-sequence."""
    import transformers

    spec = source.spec
    auto: Any = transformers.AutoModelForCausalLM
    generation: Any = transformers.GenerationConfig
    config = _config(spec)
    with torch.device("meta"):
        model = auto.from_config(config, dtype=dtype)
    model = model.to_empty(device=device).eval()
    targets = dict(model.named_parameters())
    theirs = tensor_names(spec, HUGGING_FACE)
    with torch.no_grad():
        for ours, name in source.names.items():
            values = source.checkpoint.dense(name, dtype=dtype, device=device)
            targets[theirs[ours]].copy_(_paired(values, ours, source))
        model.tie_weights()
        frequencies, factor = rope_frequencies(spec.rope, context)
        rotary = model.model.rotary_emb
        rotary.inv_freq.copy_(frequencies)
        rotary.attention_scaling = factor
    model.generation_config = generation(eos_token_id=None, bos_token_id=None, pad_token_id=0)
    return model


def _config(spec: DecoderSpec) -> Any:
    import transformers

    if spec.architecture not in CLASSES:
        raise PlanError(f"transformers: no class is known here for {spec.architecture}")
    extra: dict[str, object] = {}
    if spec.architecture == "llama":
        extra = {"attention_bias": spec.qkv_bias, "mlp_bias": spec.mlp_bias}
    if spec.architecture == "mistral":
        extra = {"sliding_window": spec.window(0) or None}
    return getattr(transformers, f"{CLASSES[spec.architecture]}Config")(
        vocab_size=spec.vocab,
        hidden_size=spec.hidden,
        intermediate_size=spec.intermediate,
        num_hidden_layers=spec.layers,
        num_attention_heads=spec.heads,
        num_key_value_heads=spec.kv_heads,
        head_dim=spec.head_dim,
        max_position_embeddings=spec.context,
        rms_norm_eps=spec.norm_eps,
        rope_parameters={"rope_type": "default", "rope_theta": spec.rope.theta},
        tie_word_embeddings=spec.tied_head,
        bos_token_id=None,
        eos_token_id=None,
        **extra,
    )


def _paired(values: torch.Tensor, ours: str, source: ModelSource) -> torch.Tensor:
    """Rows of q and k in transformers' pairing; everything else as it is."""
    part = ours.removesuffix(".bias").rsplit(".", 1)[-1]
    if not source.adjacent_pairs or part not in PERMUTED:
        return values
    spec = source.spec
    within = torch.arange(spec.head_dim)
    r = spec.rope.rotary_dim
    within[:r] = torch.cat((torch.arange(0, r, 2), torch.arange(1, r, 2)))
    heads = values.shape[0] // spec.head_dim
    rows = torch.arange(heads)[:, None] * spec.head_dim + within[None]
    return values.index_select(0, rows.flatten().to(values.device))
