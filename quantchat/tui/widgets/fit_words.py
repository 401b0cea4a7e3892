"""Verdicts in words and colours: never by colour alone."""

from __future__ import annotations

from textual.content import Content
from textual.style import Style

from quantchat.tui import figures
from quantchat.tui.control.fits import Fit, Fits, Known, Verdict
from quantchat.tui.control.fitting import NoFits
from quantchat.tui.markup.palette import Palette
from quantchat.tui.printable import printable

SIGNS: dict[Verdict, str] = {"fits": "✓", "tight": "~", "too_large": "✗"}
WORDS: dict[Verdict, str] = {"fits": "fits", "tight": "tight", "too_large": "too large"}
KNOWN: dict[Known, str] = {
    "file": "read from the file",
    "header": "by the file's header",
    "config": "by its config.json",
    "catalog": "by the catalog",
}
USUAL_TOKENS = 8192
"""A model that cannot have as much, and could by itself, is tight."""


def style_of(verdict: Verdict, palette: Palette) -> Style:
    """Green, yellow, red."""
    return {"fits": palette.success, "tight": palette.warning, "too_large": palette.error}[verdict]


def overall(fits: Fits) -> Verdict:
    """Of the model as a whole: at the usual context, or at its longest where that is shorter."""
    usual = [fit for fit in fits.fits if fit.context_tokens <= USUAL_TOKENS] or list(fits.fits[:1])
    if not usual or not fits.longest_context_tokens:
        return "too_large"
    last = usual[-1].verdict
    return "tight" if last == "too_large" else last


def short_verdict(found: Fits | NoFits | None) -> tuple[str, Verdict | None]:
    """For a column of a list: a sign, and the longest context that fits; "" where not known."""
    if found is None:
        return "", None
    if isinstance(found, NoFits):
        return "? not known", None
    if found.refusal:
        return "✗ cannot load", "too_large"
    verdict = overall(found)
    if verdict == "too_large":
        return "✗ too large", verdict
    return f"{SIGNS[verdict]} {WORDS[verdict]} {_thousands(found.longest_context_tokens)}", verdict


def one_line(found: Fits | NoFits | None, palette: Palette) -> Content:
    """All in a line, for where there is no room for the table."""
    if found is None:
        return Content.styled("working out what fits", palette.muted)
    if isinstance(found, NoFits):
        return Content.styled(printable(f"what fits is not known: {found.message}"), palette.muted)
    if found.refusal:
        return Content.styled(printable(f"✗ cannot be loaded: {found.refusal}"), palette.error)
    verdict = overall(found)
    if verdict == "too_large":
        need = min((needed(fit) for fit in found.fits), default=0)
        words = f"✗ too large: needs {figures.size(need)}, free {figures.size(found.free_bytes)}"
        return Content.styled(words, palette.error)
    words = f"{SIGNS[verdict]} {WORDS[verdict]} as {printable(found.scheme)}, context up to "
    words += figures.count(found.longest_context_tokens)
    speed = next((fit.tok_per_s for fit in found.fits if fit.tok_per_s), None)
    if speed:
        mark = "" if "tok_per_s" in found.fits[0].measured else "~"
        words += f", {mark}{figures.speed(speed)} tok/s"
    return Content.styled(words, style_of(verdict, palette))


def needed(fit: Fit) -> int:
    """Bytes that must be free: what stays, or the peak of the load."""
    return max(fit.weight_bytes + fit.kv_bytes + fit.workspace_bytes, fit.load_peak_bytes)


def _thousands(tokens: int) -> str:
    """131072 -> 128k."""
    return f"{tokens // 1024}k" if tokens >= 1024 else str(tokens)
