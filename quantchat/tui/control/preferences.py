"""The settings while the app runs: changed one at a time, saved at once."""

from __future__ import annotations

import logging
from pathlib import Path

from quantchat.errors import SettingsError
from quantchat.hub.shelf import shelf_scheme
from quantchat.quant.registry import our_name
from quantchat.requests import LoadRequest
from quantchat.settings.file import save_settings
from quantchat.settings.model import Settings

log = logging.getLogger(__name__)

MODEL_KEYS = frozenset({"model", "scheme", "kv", "device", "context_tokens", "calibration_file"})
"""Settings that take effect by loading the model anew."""
SCHEME_KEYS = ("scheme", "compare_left_scheme", "compare_right_scheme")
"""Settings that may name a scheme as others call it."""


class Preferences:
    """Settings and their file."""

    def __init__(self, settings: Settings, path: Path | None) -> None:
        for key in SCHEME_KEYS:
            settings = settings.with_value(key, our_name(str(settings.value(key))))
        self.settings = settings
        self.path = path
        """None keeps them in memory only."""

    def change(self, **values: object) -> str:
        """Set values and save; the words of a failed save, or "". Raises SettingsError."""
        for key, value in values.items():
            if key in SCHEME_KEYS and isinstance(value, str):
                value = our_name(value)
            self.settings = self.settings.with_value(key, value)
        if self.path is None:
            return ""
        try:
            return "; ".join(save_settings(self.settings, self.path))
        except SettingsError as error:
            log.warning("settings not saved: %s", error)
            return str(error)

    def choose(self, model: str, scheme: str = "") -> str:
        """Another model, with its recommended `scheme` where one is given; see `change`."""
        scheme = scheme or scheme_for(self.settings, model)
        return self.change(model=model, scheme=scheme)

    def load_request(self, *, kv: str = "") -> LoadRequest:
        """What the settings ask of the main slot; with another KV precision where one is named."""
        settings = self.settings
        return LoadRequest(
            model=settings.model,
            scheme=settings.scheme,
            kv=kv or settings.kv,
            device=settings.device,
            context_tokens=settings.context_tokens,
            calibration_file=settings.calibration_file,
            tune=settings.tune == "auto",
        )


def scheme_for(settings: Settings, model: str, *, recommended: bool = False) -> str:
    """What a model would be loaded with if it was chosen now; `recommended`: from the shelf.

    A recommended scheme goes with its model: the next one has its own, or the best that fits.
    """
    own = shelf_scheme(model)
    if recommended and own:
        return own
    if model != settings.model and settings.scheme in ("auto", shelf_scheme(settings.model)):
        return own or "auto"
    return settings.scheme
