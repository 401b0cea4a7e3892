"""Versions that a comparison depends on, as its exports name them."""

from __future__ import annotations

from quantchat import __version__


def versions() -> tuple[tuple[str, str], ...]:
    """Name and version of what is there; reads the machine, so not for a screen's thread."""
    from quantchat.hardware.probe import probe

    facts = probe()
    software = facts.software
    known = (
        ("quantchat", __version__),
        ("python", software.python),
        ("torch", software.torch),
        ("cuda", software.torch_cuda),
        ("triton", software.triton),
        ("transformers", software.transformers),
        ("driver", facts.gpus[0].driver if facts.gpus else None),
        ("system", software.system),
    )
    return tuple((name, value) for name, value in known if value)
