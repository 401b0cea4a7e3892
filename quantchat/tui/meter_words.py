"""What every meter measures, how, and what it leaves out: the words behind `?`.

Owns the words alone, and why a figure is not known.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from quantchat.tui.reading import LEAST_ENERGY_S, Reading


@dataclass(frozen=True, slots=True)
class Explanation:
    """A meter in words."""

    title: str
    what: str
    how: str
    leaves_out: str


EXPLANATIONS: Mapping[str, Explanation] = MappingProxyType(
    {
        "ttft": Explanation(
            "TTFT: time to first token",
            "From sending the message to the first token of the answer, and where it went. "
            "queue: waiting for the engine and for a turn among other requests. template: writing "
            "the conversation as the model wants it, and cutting it into tokens. prefill: "
            "computing the prompt's tokens that are not in the KV cache. sample: picking the "
            "first token.",
            "Stamped in the engine's thread with a clock that never goes back. The parts add up "
            "to the whole; those below 2 % are not named.",
            "The way from the engine to the screen: text is drawn 8 to 16 times a second.",
        ),
        "itl": Explanation(
            "ITL: inter-token latency",
            "The gap between two tokens. p50 is the middle one, 19 of 20 are no longer than p95, "
            "max is the longest. The bars are the latest gaps, the oldest at the left, from zero "
            "to the largest of them.",
            "Every token is stamped in the engine when it leaves the model; all gaps of the "
            "answer count.",
            "Nothing of the screen is in it. Where two models answer at once they take turns, and "
            "a gap holds the other's step too.",
        ),
        "prefill": Explanation(
            "Prefill speed",
            "Prompt tokens computed in a second.",
            "Tokens of the prompt that were not in the KV cache, over the time the prompt was "
            "computed in.",
            "Queue and template. Tokens reused from the cache are not counted, so a short new "
            "message behind a long conversation shows a low speed.",
        ),
        "decode": Explanation(
            "Decode speed",
            "Tokens written in a second, after the first.",
            "Tokens after the first, over the time from the first to the last.",
            "The time to first token. A token is a piece of a word: in English about four make "
            "three words.",
        ),
        "bandwidth": Explanation(
            "Memory read while decoding",
            "A decode step reads every weight and the answer's KV cache once: this is how fast, "
            "and its share of what the device reads at best. Decoding one answer is bound by "
            "this, which is why fewer bits are faster.",
            "Stored bytes of linears and head plus KV of the context at the middle of the answer, "
            "times decode speed. The best of a processor was measured here; of a card, measured "
            "here or 93 % of the maker's figure. A measurement that decoding has beaten, because "
            "others were busy then, is taken again.",
            "Norms, one row of the embedding, activations and what a step writes: small beside "
            "the rest. Bytes are counted from what is stored, not by the hardware.",
        ),
        "energy": Explanation(
            "Energy of a token",
            "Joules that the whole card took for each token after the first.",
            "The driver's energy counter (NVML) at the first token and now. The counter moves in "
            "steps, so it is shown after a second of decoding.",
            "The processor and the rest of the machine. Work of other programs on the card is "
            "counted in; so is what the card takes when idle.",
        ),
        "context": Explanation(
            "Context",
            "Tokens that the model sees now, of the most it can see here: system prompt, all "
            "messages and answers. When it is full, the oldest messages are left out.",
            "Counted by the engine. Reused tokens were in the KV cache already. The number of "
            "exchanges left divides what is left by what an exchange of this conversation took on "
            "average so far.",
            "The next message: it is counted when it is sent. Exchanges are told after the second "
            "answer.",
        ),
        "memory": Explanation(
            "Memory of the device",
            "All of the device's memory, by who holds it; the parts add up to the total.",
            "Weights, KV and workspace are asked of the objects and of torch, total and free of "
            "the driver or the system. A part that is too small for a cell gets one all the same.",
            "Nothing: what is in no other part is the program's, or free.",
        ),
        "weights": Explanation(
            "Weights",
            "Bytes of the model's weights as decoding reads them, with scales and codebooks.",
            "Added up over the tensors that are loaded. Weights that two sides share are there "
            "once.",
            "Copies for prefill on the processor: they are workspace.",
        ),
        "kv_used": Explanation(
            "KV cache in use",
            "Keys and values of the tokens of running answers; behind an answer, of the last one.",
            "Pages of 16 tokens that answers hold, times the bytes of a page.",
            "Pages of earlier conversations that are kept for reuse: they are reserved, and give "
            "way when they are needed.",
        ),
        "kv_reserved": Explanation(
            "KV cache reserved",
            "The rest of the cache: room for the longest context.",
            "The cache's tensors less the pages in use. A card's memory is taken when the model "
            "is loaded; the system gives the processor's when a page is first written.",
            "",
        ),
        "workspace": Explanation(
            "Workspace",
            "On a card: what torch holds beyond weights and KV, for activations, graphs and "
            "later use. On the processor: dense copies of weights that make prompts fast.",
            "Torch's reserve less weights and KV; bytes of the copies.",
            "On a card another loaded model is counted in here.",
        ),
        "program": Explanation(
            "The rest of this program",
            "Python, torch and their libraries; on a card, the CUDA context and compiled kernels "
            "where the driver tells how much this process holds.",
            "What this process holds, less weights, KV and workspace.",
            "Pages of files that are only mapped: the system takes them back when it needs them.",
        ),
        "others": Explanation(
            "Other programs",
            "Memory of the device that other programs hold.",
            "Total less free less what is this process's.",
            "Where the driver does not tell what a process holds, as in many containers, this "
            "process's CUDA context counts here: some hundred MiB.",
        ),
        "free": Explanation(
            "Free",
            "What nobody holds.",
            "The device's total less all other parts.",
            "On the processor, cache that is reserved but not yet written is not counted as free, "
            "though the system still has it.",
        ),
        "peak": Explanation(
            "Peak",
            "The most that this process ever held of the device.",
            "On a card torch's reserve at its highest; else the process's resident memory at its "
            "highest, from the system.",
            "It does not go down when a model is unloaded.",
        ),
        "process": Explanation(
            "Process",
            "Main memory that this process holds now.",
            "Resident set size, from the system.",
            "What lies on a card. Mapped files are counted in.",
        ),
        "model": Explanation(
            "Model",
            "What is loaded: parameters, bits each takes with scales and all, scheme, device.",
            "Bits are the weights' bytes over the parameters.",
            "",
        ),
    }
)


def unknown(key: str, reading: Reading) -> str:
    """Why a meter shows "–"; "" where it shows a figure."""
    if not reading.answered:
        return "There is no answer yet." if key in ANSWER_METERS else ""
    one = reading.kept["completion_tokens"] < 2
    if key in ("itl", "decode", "bandwidth") and one:
        return "An answer of one token has no gap."
    if key in KEYS_NEEDED and not any(name in reading.kept for name in KEYS_NEEDED[key]):
        if key == "energy":
            return _no_energy(reading)
        return "This answer was kept before its figure was recorded."
    if key == "energy" and reading.joules_per_token is None:
        return f"Told after {LEAST_ENERGY_S:.0f} s of decoding: the counter moves in steps."
    if key == "bandwidth" and reading.device_bytes_per_s is None:
        return _no_share(reading)
    if key == "prefill" and not reading.kept.get("prefill_tok_per_s"):
        return "The whole prompt was in the cache."
    return ""


ANSWER_METERS = frozenset({"ttft", "itl", "prefill", "decode", "bandwidth", "energy", "context"})
KEYS_NEEDED: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "bandwidth": ("read_bytes_per_token",),
        "energy": ("decode_joules",),
        "context": ("context_tokens",),
    }
)


def _no_energy(reading: Reading) -> str:
    if not reading.live:
        return "It was not recorded for this answer."
    if reading.info is not None and reading.info.device == "cpu":
        return "The model runs on the processor, whose energy is not counted."
    return "The driver does not count this card's energy, or the card is split into slices."


def _no_share(reading: Reading) -> str:
    if not reading.live or reading.info is None:
        return "What the device reads at best was not known then."
    if reading.info.device == "cpu":
        return (
            "What this processor's memory reads at best is measured as soon as nothing else runs "
            "for some seconds."
        )
    return "The card is not among those whose bandwidth is known."
