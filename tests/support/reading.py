"""What our readers make of a model on disk, in one call."""

from __future__ import annotations

from pathlib import Path

from quantchat.model.families import open_model
from quantchat.spec import DecoderSpec


def read_spec(path: Path) -> DecoderSpec:
    """Its spec; the files are closed again."""
    source = open_model(path)
    source.close()
    return source.spec
