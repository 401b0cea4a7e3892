"""How the entries of the model picker look: one line each, in the columns of their section."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from textual.content import Content
from textual.style import Style

from quantchat.tui import figures
from quantchat.tui.control import transfer_words
from quantchat.tui.control.fits import Fits
from quantchat.tui.control.fitting import NoFits
from quantchat.tui.control.hub_finds import RepoEntry
from quantchat.tui.control.picking import (
    Entry,
    ModelEntry,
    NamedEntry,
    PathEntry,
    SectionKind,
    TransferEntry,
    VariantEntry,
)
from quantchat.tui.control.transfers import Phase, Transfer
from quantchat.tui.markup.palette import Palette
from quantchat.tui.printable import printable
from quantchat.tui.widgets.columns import Cell, Column, line
from quantchat.tui.widgets.fit_words import short_verdict, style_of

FitsOf: TypeAlias = Callable[[str], "Fits | NoFits | None"]

MODEL = (
    Column(title="size", width=9),
    Column(title="params", width=7),
    Column(title="here", width=13, right=False),
    Column(title="licence", width=15, right=False),
)
REPO = (
    Column(title="params", width=6),
    Column(title="downloads", width=9),
    Column(title="updated", width=10),
    Column(title="", width=7, right=False),
    Column(title="likes", width=6),
    Column(title="licence", width=15, right=False),
)
VARIANT = (
    Column(title="type", width=12, right=False),
    Column(title="bits", width=4),
    Column(title="size", width=9),
    Column(title="here", width=13, right=False),
    Column(title="files", width=5),
    Column(title="format", width=11, right=False),
)
COLUMNS: dict[SectionKind, tuple[Column, ...]] = {
    "transfers": (),
    "disk": MODEL,
    "shelf": (*MODEL[:2], Column(title="meant for", width=13, right=False), MODEL[2]),
    "catalog": MODEL,
    "hub": REPO,
    "paths": (Column(title="size", width=9), Column(title="", width=14, right=False)),
    "variants": VARIANT,
}
SIGNS: dict[Phase, str] = {"failed": "✗", "stopped": "‖", "stalled": "!", "waiting": "·"}
BAR_CELLS = 12
WIDE_CELLS = 96


def heading(
    kind: SectionKind, title: str, width: int, palette: Palette, *, titles: bool
) -> Content:
    """The line above a section: its title, and with `titles` those of its columns."""
    first = Content.styled(f"   {title}", palette.accent)
    columns = COLUMNS[kind] if titles else ()
    cells = [Cell(column.title, palette.muted) for column in columns]
    return line(first, cells, columns, width, plain=False)


def row(
    entry: Entry,
    kind: SectionKind,
    width: int,
    palette: Palette,
    *,
    here: bool,
    loaded: str,
    fits_of: FitsOf,
) -> Content:
    """An entry as a line; `here`: under the cursor, where it has no colours of its own."""
    mark = "›" if here else " "
    if isinstance(entry, TransferEntry):
        return transfer_line(entry.transfer, width, palette, mark=mark, plain=here)
    if isinstance(entry, ModelEntry):
        return _model(entry, kind, width, palette, mark=mark, plain=here, loaded=loaded, of=fits_of)
    if isinstance(entry, RepoEntry):
        return _repo(entry, width, palette, mark=mark, plain=here)
    if isinstance(entry, PathEntry):
        path = entry.path
        what = {"folder": "folder", "model": "model folder", "gguf": "GGUF"}[path.kind]
        size = figures.size(path.size_bytes) if path.size_bytes else ""
        first = Content(f"{mark}  {printable(path.name)}")
        cells = (Cell(size), Cell(what, palette.muted))
        return line(first, cells, COLUMNS[kind], width, plain=here)
    if isinstance(entry, VariantEntry):
        return _variant(entry, width, palette, mark=mark, plain=here, loaded=loaded, of=fits_of)
    return _named(entry, width, palette, mark=mark, plain=here)


def transfer_line(
    transfer: Transfer, width: int, palette: Palette, *, mark: str, plain: bool
) -> Content:
    """A download: how far, how fast, how long still, or why not."""
    share = transfer_words.share(transfer)
    sign = SIGNS.get(transfer.phase, "↓")
    columns: list[Column] = []
    cells: list[Cell] = []

    def add(text: str, cells_wide: int, style: Style = palette.muted, right: bool = True) -> None:
        columns.append(Column(title="", width=cells_wide, right=right))
        cells.append(Cell(text, style))

    wide = width >= WIDE_CELLS
    if share is not None:
        if wide:
            full, empty = figures.bar(share, BAR_CELLS)
            add(full + "░" * len(empty), BAR_CELLS, palette.primary, right=False)
        add(f"{share * 100:.0f} %", 5, palette.strong)
    if wide:
        add(transfer_words.amount(transfer), 20)
    inks = {"failed": palette.error, "stalled": palette.warning, "stopped": palette.warning}
    words = transfer_words.state(transfer) or "beginning"
    add(words, 32 if wide else 28, inks.get(transfer.phase, palette.muted), right=False)
    style = palette.error if transfer.phase == "failed" else palette.primary
    first = Content.assemble(
        mark,
        Content(sign) if plain else Content.styled(sign, style),
        f" {printable(figures.model_name(transfer.name))}",
    )
    return line(first, cells, columns, width, plain=plain)


def _model(
    entry: ModelEntry,
    kind: SectionKind,
    width: int,
    palette: Palette,
    *,
    mark: str,
    plain: bool,
    loaded: str,
    of: FitsOf,
) -> Content:
    model = entry.row
    sign = "◆" if model.name == loaded else "●" if model.on_disk else "○"
    ink = palette.success if model.on_disk else palette.faint
    name = printable(model.name)
    first = Content.assemble(
        mark,
        Content(sign) if plain else Content.styled(sign, ink),
        " ",
        Content(name) if plain or not model.on_disk else Content.styled(name, palette.strong),
    )
    if entry.pick is not None and entry.pick.best:
        first = first + (Content(" ★") if plain else Content.styled(" ★", palette.success))
    words, verdict = short_verdict(of(model.name))
    here = Cell(words, palette.muted if verdict is None else style_of(verdict, palette))
    if entry.pick is not None:
        last = (Cell(f"{entry.pick.memory}, {entry.pick.scheme}", palette.muted), here)
    else:
        licence = printable(model.license) + (" (gated)" if model.gated else "")
        last = (here, Cell(licence, palette.muted))
    cells = (
        Cell(figures.size(model.size_bytes) if model.size_bytes else ""),
        Cell(figures.parameters(model.parameters)),
        *last,
    )
    return line(first, cells, COLUMNS[kind], width, plain=plain)


def _repo(entry: RepoEntry, width: int, palette: Palette, *, mark: str, plain: bool) -> Content:
    repo = entry.repo
    access = "private" if repo.private else "gated" if repo.gated else ""
    cells = (
        Cell(figures.parameters(repo.parameters)),
        Cell(figures.short_count(repo.downloads)),
        Cell(repo.updated, palette.muted),
        Cell(access, palette.warning),
        Cell(figures.short_count(repo.likes), palette.muted),
        Cell(printable(repo.license), palette.muted),
    )
    return line(Content(f"{mark}  {printable(repo.repo)}"), cells, REPO, width, plain=plain)


def _named(entry: NamedEntry, width: int, palette: Palette, *, mark: str, plain: bool) -> Content:
    words = f"{mark}→ {printable(entry.name)}"
    tail = "  look it up on the hub"
    said = Content(tail) if plain else Content.styled(tail, palette.muted)
    return (Content(words) + said).truncate(width, ellipsis=True)


def _variant(
    entry: VariantEntry,
    width: int,
    palette: Palette,
    *,
    mark: str,
    plain: bool,
    loaded: str,
    of: FitsOf,
) -> Content:
    variant = entry.variant
    if entry.transfer is not None:
        sign, ink = SIGNS.get(entry.transfer.phase, "↓"), palette.primary
    elif entry.row is not None:
        sign, ink = ("◆" if entry.name == loaded else "●"), palette.success
    else:
        sign, ink = "○", palette.faint
    file = variant.name.partition(":")[2] or "the whole repository"
    first = Content.assemble(
        mark, Content(sign) if plain else Content.styled(sign, ink), f" {printable(file)}"
    )
    words, verdict = short_verdict(of(entry.name))
    cells = (
        Cell(printable(variant.label), palette.strong),
        Cell(f"{variant.bits:g}" if variant.bits else ""),
        Cell(figures.size(variant.size_bytes)),
        Cell(words, palette.muted if verdict is None else style_of(verdict, palette)),
        Cell(str(variant.files), palette.muted),
        Cell({"gguf": "GGUF"}.get(variant.container, variant.container), palette.muted),
    )
    return line(first, cells, VARIANT, width, plain=plain)
