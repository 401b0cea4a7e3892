"""What tests of the engine begin with: a tiny model on disk, and a session that ends with the test."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from engine_log import Log

from quantchat.engine.session import Session

if TYPE_CHECKING:
    from failing_ops import Faults


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A llama of a few thousand weights and 256 tokens of context, with a tokenizer."""
    import factory

    return factory.write_hf(tmp_path_factory.mktemp("tiny"), "llama", max_position_embeddings=256)


@pytest.fixture
def session() -> Iterator[Session]:
    made = Session()
    yield made
    made.close()


@pytest.fixture
def log(session: Session) -> Log:
    """The session's, with ways to load and ask."""
    return Log(session)


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Faults:
    """Ops of models that are loaded from here on fail when told to."""
    from failing_ops import Faults

    from quantchat.engine import loading

    made = Faults()
    monkeypatch.setattr(loading, "make_ops", made.make_ops)
    return made
