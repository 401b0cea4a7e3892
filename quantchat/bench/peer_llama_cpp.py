"""llama.cpp beside us, through the xllamacpp wheel, on the same GGUF file.

Times are llama.cpp's own: they leave out the request's JSON, to its favour. Flash attention,
batch sizes and KV precision are its defaults; the prompt cache is off.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable
from importlib import metadata

from quantchat.bench.accounting import read_file_bytes
from quantchat.bench.contest import EngineFacts, Job, RunTimes
from quantchat.bench.memory import peak_bytes
from quantchat.checkpoints.base import TensorEntry
from quantchat.errors import EngineError, PlanError
from quantchat.hub.local import resolve
from quantchat.model.families import open_model

KV_ELEMENT_BYTES = 2
"""f16, llama.cpp's default."""
ALL_LAYERS = 999


class LlamaCppEngine:
    """Implements `quantchat.bench.contest.BenchEngine`."""

    def __init__(self, job: Job) -> None:
        import xllamacpp

        if job.shape:
            raise PlanError("llama.cpp needs a GGUF file, not a shape")
        path = resolve(job.model).path
        source = open_model(path)
        source.close()
        if source.checkpoint.container != "gguf":
            raise PlanError("llama.cpp needs a GGUF file")
        started_s = time.perf_counter()
        params = xllamacpp.CommonParams()
        params.model.path = str(path)
        params.n_ctx = job.context_tokens
        params.n_parallel = 1
        params.cpuparams.n_threads = job.threads
        params.cpuparams_batch.n_threads = job.threads
        params.n_gpu_layers = 0 if job.device == "cpu" else ALL_LAYERS
        params.cache_prompt = False
        params.cache_ram_mib = 0
        params.verbosity = 0
        self._server = xllamacpp.Server(params)
        self._device = job.device
        read = read_file_bytes(source)
        self.facts = EngineFacts(
            engine="llama.cpp",
            version=metadata.version("xllamacpp"),
            scheme=_types(source.checkpoint.tensors.values()),
            kv="16bit",
            device=job.device,
            weight_bytes=sum(entry.nbytes for entry in source.checkpoint.tensors.values()),
            read_bytes=read,
            kv_bytes_per_token=source.spec.kv_elements_per_token() * KV_ELEMENT_BYTES,
            load_s=time.perf_counter() - started_s,
        )

    def run(self, prompt: list[int], tokens: int, rows: int = 1) -> RunTimes:
        """See BenchEngine.run."""
        if rows > 1:
            raise EngineError("llama.cpp is asked for one sequence at a time here")
        answer = self._server.handle_completions(
            {
                "prompt": prompt,
                "n_predict": tokens,
                "ignore_eos": True,
                "temperature": 0,
                "cache_prompt": False,
            }
        )
        try:
            timings = answer["timings"]
            read, written = int(timings["prompt_n"]), int(timings["predicted_n"])
            prefill_s = float(timings["prompt_ms"]) / 1e3
            decode_s = float(timings["predicted_ms"]) / 1e3
        except (KeyError, TypeError, ValueError) as error:
            raise EngineError(f"llama.cpp answered without timings: {str(answer)[:200]}") from error
        if read != len(prompt) or written != tokens:
            raise EngineError(
                f"llama.cpp read {read} and wrote {written} tokens, "
                f"{len(prompt)} and {tokens} were asked for"
            )
        return RunTimes(
            prefill_s=prefill_s,
            decode_s=decode_s,
            decode_steps=written - 1,
            first_step=1,
            gaps_s=(),
            first_ids=(),
        )

    def peak_bytes(self) -> int:
        """See BenchEngine.peak_bytes; on a card llama.cpp does not tell, so 0."""
        return peak_bytes("cpu") if self._device == "cpu" else 0


def _types(entries: Iterable[TensorEntry]) -> str:
    """The matrix types of the file, the one with the most bytes first."""
    sizes: Counter[str] = Counter()
    for entry in entries:
        if len(entry.shape) == 2:
            sizes[entry.dtype] += entry.nbytes
    return " + ".join(name for name, _ in sizes.most_common())
