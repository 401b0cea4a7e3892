"""What a model needs on this machine, context length by context length."""

from __future__ import annotations

from textual.content import Content

from quantchat.tui import figures
from quantchat.tui.control.fits import Fit, Fits
from quantchat.tui.control.fitting import NoFits
from quantchat.tui.markup.palette import Palette
from quantchat.tui.printable import printable
from quantchat.tui.widgets.fit_words import KNOWN, SIGNS, WORDS, style_of
from quantchat.tui.widgets.painted import Painted

COLUMNS = (
    ("context", 8, "context_tokens"),
    ("weights", 10, "weight_bytes"),
    ("KV", 10, "kv_bytes"),
    ("workspace", 10, "workspace_bytes"),
    ("load peak", 10, "load_peak_bytes"),
    ("tok/s", 8, "tok_per_s"),
)
"""Title, width, the field of a Fit."""
CELLS = sum(width + 1 for _, width, _ in COLUMNS) + 12
MEASURED = "*"
NOTHING = "–"


class FitTable(Painted):
    """Draws verdicts; says what is being worked out, or why nothing is known."""

    def __init__(self, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._found: Fits | NoFits | None = None
        self._waiting = ""

    def show(self, found: Fits | NoFits | None, waiting: str = "") -> None:
        """Other verdicts; `waiting` stands where there are none."""
        if (found, waiting) != (self._found, self._waiting):
            rows = len(self._lines())
            self._found, self._waiting = found, waiting
            self.refresh(layout=len(self._lines()) != rows)

    def render(self) -> Content:
        """Lines cut to the width."""
        width = self.size.width
        return Content("\n").join(line.truncate(width, ellipsis=True) for line in self._lines())

    def _lines(self) -> list[Content]:
        return table_lines(self._found, self._waiting, self.size.width, self.palette)


def table_lines(
    found: Fits | NoFits | None, waiting: str, width: int, palette: Palette
) -> list[Content]:
    """The table with what stands above and below it."""
    if found is None:
        return [Content.styled(waiting, palette.muted)]
    if isinstance(found, NoFits):
        return _words(f"What fits is not known: {found.message}", found.hint, width, palette)
    if found.refusal:
        return _words(f"✗ Cannot be loaded: {found.refusal}", found.hint, width, palette)
    free, total = figures.size(found.free_bytes), figures.size(found.total_bytes)
    longest = found.longest_context_tokens
    lines = [
        _pair("plan", f"{found.scheme}, KV {found.kv}, {KNOWN[found.known]}", palette),
        _pair("free now", f"{free} of {total} on {printable(found.device_name)}", palette),
        _pair(
            "longest context that fits",
            f"{figures.count(longest)} tokens" if longest else "none",
            palette,
        ),
        Content.styled(
            " ".join(title.rjust(size) for title, size, _ in COLUMNS) + "  verdict", palette.muted
        ),
        *(_row(fit, palette) for fit in found.fits),
    ]
    if found.reencoded:
        text = Content.styled(printable(f"Re-encoded: {found.reencoded}"), palette.warning)
        lines += text.wrap(max(20, width))[:3]
    notes = []
    if any(fit.measured for fit in found.fits):
        notes.append(f"{MEASURED} measured here after a load")
    behind = next((fit.speed_tokens for fit in found.fits if fit.tok_per_s), 0)
    if behind:
        notes.append(f"tok/s behind {figures.count(behind)} tokens, ~ predicted")
    if notes:
        lines.append(Content.styled("; ".join(notes), palette.muted))
    return lines


def cell(fit: Fit, field: str) -> str:
    """A figure with its mark where it was measured."""
    mark = MEASURED if field in fit.measured else " "
    if field == "tok_per_s":
        if fit.tok_per_s is None:
            return f"{NOTHING} "
        return ("" if field in fit.measured else "~") + figures.speed(fit.tok_per_s) + mark
    if field == "context_tokens":
        return figures.count(fit.context_tokens)
    sizes = {
        "weight_bytes": fit.weight_bytes,
        "kv_bytes": fit.kv_bytes,
        "workspace_bytes": fit.workspace_bytes,
        "load_peak_bytes": fit.load_peak_bytes,
    }
    return figures.size(sizes[field]) + mark


def _row(fit: Fit, palette: Palette) -> Content:
    parts = []
    for _, size, field in COLUMNS:
        text = cell(fit, field).rjust(size)
        strong = field in fit.measured
        parts.append(Content.styled(text, palette.strong) if strong else Content(text))
    verdict = f"{SIGNS[fit.verdict]} {WORDS[fit.verdict]}"
    return Content.assemble(
        Content(" ").join(parts), "  ", Content.styled(verdict, style_of(fit.verdict, palette))
    )


def _pair(name: str, text: str, palette: Palette) -> Content:
    return Content.assemble(Content.styled(f"{name}  ", palette.muted), text)


def _words(message: str, hint: str, width: int, palette: Palette) -> list[Content]:
    room = max(20, width)
    lines = Content.styled(printable(message), palette.error).wrap(room)[:4]
    if hint:
        lines += Content.styled(printable(hint), palette.muted).wrap(room)[:4]
    return lines
