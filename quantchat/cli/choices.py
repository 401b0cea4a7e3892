"""The names that options take, as help lists them: drawn from the tables, never written twice."""

from __future__ import annotations

from quantchat.kv_formats import KV_FORMATS
from quantchat.quant.registry import SCHEMES

SCHEME_HELP = f"auto, {', '.join(SCHEMES)}."
KV_HELP = f"auto, {', '.join(KV_FORMATS)}."
CALIBRATION_HELP = (
    "UTF-8 text that calibrated schemes look at; without it the model writes its own."
)
