"""What the picker says of the entry under the cursor, beside what fits."""

from __future__ import annotations

from textual.content import Content

from quantchat.tui import figures
from quantchat.tui.control import transfer_words
from quantchat.tui.control.hub_finds import RepoEntry
from quantchat.tui.control.picking import (
    Entry,
    ModelEntry,
    NamedEntry,
    PathEntry,
    TransferEntry,
    VariantEntry,
)
from quantchat.tui.markup.palette import Palette
from quantchat.tui.printable import printable


def about(entry: Entry, palette: Palette, *, loaded: str) -> list[Content]:
    """One to three lines."""
    if isinstance(entry, TransferEntry):
        return _transfer(entry, palette)
    if isinstance(entry, ModelEntry):
        return [_model(entry, palette, loaded)]
    if isinstance(entry, RepoEntry):
        return _repo(entry, palette)
    if isinstance(entry, PathEntry):
        way = "looks into it" if entry.path.kind == "folder" else "loads it"
        return [Content.styled(printable(f"{entry.name} · Enter {way}"), palette.muted)]
    if isinstance(entry, VariantEntry):
        return _variant(entry, palette, loaded)
    assert isinstance(entry, NamedEntry)
    words = f"{entry.name} · Enter asks the hub what it offers"
    return [Content.styled(printable(words), palette.muted)]


def fits_name(entry: Entry | None) -> str:
    """The name to plan for; "" where a choice must be made first, or nothing can be known."""
    if isinstance(entry, ModelEntry | TransferEntry):
        return entry.name
    if isinstance(entry, VariantEntry):
        return "" if entry.blocked else entry.name
    if isinstance(entry, PathEntry) and entry.path.kind != "folder":
        return entry.name
    return ""


def _model(entry: ModelEntry, palette: Palette, loaded: str) -> Content:
    row = entry.row
    if row.name == loaded:
        where = "loaded"
    else:
        within = f" in {entry.pick.scheme}" if entry.pick is not None else ""
        where = "on disk" if row.on_disk else f"Enter fetches it and loads it{within}"
    licence = f"{row.license}, gated" if row.gated and row.license else row.license
    parts = [row.title, licence, row.note, where]
    if entry.pick is not None:
        pick = entry.pick
        meant = f"meant for {pick.memory}"
        parts.insert(1, f"★ suits this machine best, {meant}" if pick.best else meant)
    return Content.styled(printable(" · ".join(part for part in parts if part)), palette.muted)


def _variant(entry: VariantEntry, palette: Palette, loaded: str) -> list[Content]:
    variant = entry.variant
    if entry.transfer is not None:
        lines = _transfer(TransferEntry(transfer=entry.transfer), palette)
        return lines
    if entry.row is not None:
        where = "loaded" if entry.name == loaded else "on disk"
    elif entry.blocked:
        where = f"{figures.size(variant.size_bytes)}; you have no access yet"
    else:
        where = f"Enter fetches {figures.size(variant.size_bytes)} and loads it"
    files = f"{variant.files} files" if variant.files > 1 else "1 file"
    parts = dict.fromkeys((variant.label, variant.container, files))
    words = f"{', '.join(parts)} · {where}"
    return [Content.styled(printable(words), palette.muted)]


def _repo(entry: RepoEntry, palette: Palette) -> list[Content]:
    repo = entry.repo
    parts = [
        repo.repo,
        repo.license and f"licence {repo.license}",
        f"{figures.count(repo.downloads)} downloads in 30 days",
        f"{figures.count(repo.likes)} likes",
    ]
    lines = [Content.styled(printable(" · ".join(part for part in parts if part)), palette.muted)]
    if repo.gated:
        words = "gated: its licence must be accepted on the hub first"
        lines.append(Content.styled(words, palette.warning))
    if repo.private:
        lines.append(Content.styled("private: your account may see it", palette.warning))
    return lines


def _transfer(entry: TransferEntry, palette: Palette) -> list[Content]:
    line = entry.transfer
    if line.phase == "failed":
        return [
            Content.styled(printable(line.message), palette.error),
            Content.styled(printable(line.hint), palette.muted),
        ]
    parts = [
        line.name.removesuffix(".gguf"),
        transfer_words.amount(line),
        transfer_words.state(line),
    ]
    lines = [Content.styled(printable(" · ".join(part for part in parts if part)), palette.muted)]
    if line.files:
        files = f"{line.files_done} of {line.files} files"
        words = f"{files} · {line.file}" if line.file else files
        lines.append(Content.styled(printable(words), palette.muted))
    return lines
