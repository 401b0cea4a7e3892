"""Token ids that calibration runs on: the model's own text, kept on disk, or a file's.

All schemes of a model are calibrated on the same ids, so the model writes them once.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from quantchat import paths
from quantchat.calibration.sampling import OnProgress, sample_text
from quantchat.calibration.settings import CalibrationSettings, read_text_bytes
from quantchat.errors import UsageError
from quantchat.model.families import ModelSource
from quantchat.model.packed_name import plain
from quantchat.tokenizer import Tokenizer

CHARS_A_TOKEN = 16
"""More than texts have: what is cut out of a file for a token of a sequence."""
MAX_KEPT_BYTES = 1 << 26

logger = logging.getLogger(__name__)


def calibration_ids(
    source: ModelSource,
    settings: CalibrationSettings,
    *,
    tokenizer: Callable[[], Tokenizer],
    device: torch.device,
    dtype: torch.dtype,
    on_progress: OnProgress,
    cancelled: Callable[[], bool],
) -> torch.Tensor:
    """int64 [S, T] on the CPU: of the file, or else sampled, dense in `dtype`, or kept from before.

    Raises UsageError for a file that cannot serve, Cancelled.
    """
    tokens = min(settings.tokens, source.spec.context)
    if settings.file is not None:
        return file_ids(settings.file, tokenizer(), settings.sequences, tokens)
    identity = plain(source.checkpoint.identity())
    kept = paths.calibration_dir() / f"{identity}-{settings.key()}.json"
    ids = _kept_ids(kept, (settings.sequences, tokens), source.spec.vocab)
    if ids is not None:
        return ids
    ids = sample_text(
        source,
        tokenizer(),
        sequences=settings.sequences,
        tokens=tokens,
        seed=settings.seed,
        device=device,
        dtype=dtype,
        on_progress=on_progress,
        cancelled=cancelled,
    )
    _keep(kept, ids)
    return ids


def file_ids(path: Path, tokenizer: Tokenizer, sequences: int, tokens: int) -> torch.Tensor:
    """Pieces of a text, spread evenly over it: int64 [S, T], S at most `sequences`."""
    try:
        text = read_text_bytes(path).decode("utf-8")
    except UnicodeDecodeError as error:
        raise UsageError(
            f"{path.name} is not UTF-8 text (byte {error.start})", hint="convert it to UTF-8"
        ) from None
    bos = [tokenizer.bos_id] if tokenizer.adds_bos and tokenizer.bos_id is not None else []
    length = tokens - len(bos)
    chars = tokens * CHARS_A_TOKEN
    rows: list[list[int]] = []
    if len(text) <= chars * sequences:
        ids = tokenizer.encode(text, add_bos=False)
        rows = [ids[i : i + length] for i in range(0, len(ids) - length + 1, length)]
        # Of more pieces than are wanted, some from everywhere.
        step = max(1.0, len(rows) / sequences)
        rows = [rows[int(n * step)] for n in range(min(sequences, len(rows)))]
    else:
        for n in range(sequences):
            start = n * (len(text) - chars) // max(1, sequences - 1)
            ids = tokenizer.encode(text[start : start + chars], add_bos=False)
            rows.append(ids[:length])
    whole = [bos + row for row in rows if len(row) == length]
    if not whole:
        raise UsageError(
            f"{path.name} is shorter than one sequence of {tokens} tokens",
            hint="take a longer text, or leave the text to the model",
        )
    return torch.tensor(whole, dtype=torch.int64)


def _kept_ids(path: Path, shape: tuple[int, int], vocab: int) -> torch.Tensor | None:
    """Ids from before; None where there are none of that shape."""
    try:
        if path.stat().st_size > MAX_KEPT_BYTES:
            return None
        rows: Any = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValueError, RecursionError) as error:
        logger.warning("the kept calibration text %s is no use: %s", path.name, error)
        return None
    if not isinstance(rows, list) or not all(isinstance(row, list) for row in rows):
        rows = []
    known = all(type(token) is int and 0 <= token < vocab for row in rows for token in row)
    if not known or [len(row) for row in rows] != [shape[1]] * shape[0]:
        logger.warning("the kept calibration text %s is not of this model", path.name)
        return None
    return torch.tensor(rows, dtype=torch.int64)


def _keep(path: Path, ids: torch.Tensor) -> None:
    draft = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        draft.write_text(json.dumps(ids.tolist()))
        os.replace(draft, path)
    except OSError as error:
        logger.warning("calibration text is not kept: %s", error)
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
