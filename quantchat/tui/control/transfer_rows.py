"""The list of wanted downloads as the app shows it: records of `quantchat.hub` made into lines."""

from __future__ import annotations

from typing import TYPE_CHECKING

from quantchat.tui import figures
from quantchat.tui.control.transfers import News, Phase, Transfer

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from quantchat.hub.downloads import State, Wanted
    from quantchat.hub.partial import Unfinished
    from quantchat.hub.progress import FetchProgress


def is_due(job: Wanted) -> bool:
    """Whether it goes on by itself."""
    return job.state in ("waiting", "interrupted") or (job.state == "failed" and job.again)


def listed(job: Wanted, part: Unfinished | None, *, own: bool, again_s: float | None) -> Transfer:
    """A line of the list; `again_s`: seconds until it is tried again."""
    from quantchat.hub.names import entry_for

    phases: Mapping[State, Phase] = {
        "waiting": "waiting",
        "interrupted": "waiting",
        "running": "running" if own else "elsewhere",
        "stopped": "stopped",
        "failed": "waiting" if job.again else "failed",
    }
    waits = ""
    if again_s is not None and job.again:
        waits = f"tries again in {figures.time_left(again_s)}"
    entry = entry_for(job.name)
    known_bytes = 0 if entry is None else entry.size_bytes
    return Transfer(
        name=job.name,
        phase=phases[job.state],
        done_bytes=0 if part is None else part.done_bytes,
        total_bytes=(0 if part is None else part.total_bytes) or known_bytes,
        message=reason(job.name, job.message),
        waits=waits,
        hint=job.hint,
    )


def at_work(name: str, progress: FetchProgress) -> Transfer:
    """The one that comes now."""
    message = progress.trouble
    if progress.failed:
        message = f"{progress.source}: {progress.detail}; trying the next source"
    elif not progress.total_bytes:
        message = message or progress.detail
    return Transfer(
        name=name,
        phase="stalled" if progress.stalled else "running",
        done_bytes=progress.done_bytes,
        total_bytes=progress.total_bytes,
        bytes_per_s=progress.bytes_per_s,
        left_s=progress.remaining_s,
        files_done=progress.files_done,
        files=progress.files,
        file=progress.detail if progress.total_bytes else "",
        message=message,
        waits=progress.waits,
    )


def reason(name: str, message: str) -> str:
    """Why it failed, in one line and without its name, which stands beside it."""
    text = message.removeprefix(f"{name} could not be downloaded:")
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())


def goes_on(lines: Sequence[Transfer]) -> News | None:
    """What to say of downloads that an earlier start left; None where there are none."""
    if not lines:
        return None
    names = [figures.model_name(line.name) for line in lines]
    if len(names) > 1:
        some = ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
        text = f"{len(names)} downloads go on: {some}."
    else:
        line = lines[0]
        text = f"The download of {names[0]} goes on"
        if line.done_bytes and line.total_bytes:
            done, total = figures.size(line.done_bytes), figures.size(line.total_bytes)
            text += f": {done} of {total} are there"
        text += "."
    return News(what="goes_on", name=lines[0].name, message=text)
