"""A home without the user's own settings, token and caches, that talks to a loopback hub."""

from __future__ import annotations

from pathlib import Path

import pytest

VARIABLES = (
    "HF_ENDPOINT HF_TOKEN HF_HOME HF_HUB_CACHE HUGGINGFACE_HUB_CACHE HF_HUB_OFFLINE "
    "HTTP_PROXY HTTPS_PROXY ALL_PROXY http_proxy https_proxy all_proxy"
)


def isolate(folder: Path, monkeypatch: pytest.MonkeyPatch, endpoint: str) -> None:
    """Point this process and its children at `endpoint`, and at nothing of the user's."""
    for name in VARIABLES.split():
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HF_ENDPOINT", endpoint)
    monkeypatch.setenv("HF_HUB_CACHE", str(folder / "hf-cache"))
    monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(folder / "no-token"))
    # A hub that holds a file back is not asked anew, however slow the machine is.
    monkeypatch.setattr("quantchat.hub.http._READ_S", 600.0)
    monkeypatch.setattr("quantchat.hub.download._WAIT_S", 0.01)
    monkeypatch.setattr("quantchat.hub.download._MAX_WAIT_S", 0.02)
