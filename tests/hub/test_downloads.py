"""The list of wanted downloads, and what progress says of several files and of kept bytes."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest
from fake_servers import FakeServer, gguf

from quantchat.errors import Cancelled, DownloadError, QuantchatError, UsageError
from quantchat.hub import downloads
from quantchat.hub.downloads import Elsewhere, NotFetched, entered, hold, unwant, want, wanted
from quantchat.hub.drain import drain
from quantchat.hub.fetch import FetchProgress, fetch
from quantchat.hub.giving_up import give_up
from quantchat.hub.local import LocalModel, list_local
from quantchat.hub.part import Part
from quantchat.hub.partial import partial, unfinished
from quantchat.hub.progress import Meter


class Log:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def began(self, name: str) -> None:
        self.told.append(f"{name} began")

    def moved(self, progress: FetchProgress) -> None:
        assert progress.done_bytes <= (progress.total_bytes or progress.done_bytes)

    def came(self, name: str, model: LocalModel) -> None:
        self.told.append(f"{name} came")

    def failed(self, name: str, error: QuantchatError) -> None:
        self.told.append(f"{name} failed")


def states() -> list[tuple[str, str]]:
    return [(job.name, job.state) for job in wanted()]


def test_list_keeps_its_order_and_states(home: Path) -> None:
    want(["a/b", "c/d", "a/b"])
    assert states() == [("a/b", "waiting"), ("c/d", "waiting")]
    with entered("c/d"):
        assert states()[1] == ("c/d", "running")
        with entered("c/d"):
            pass
        assert states()[1] == ("c/d", "running"), "the second one leaves the list alone"
    assert states() == [("a/b", "waiting")]
    with pytest.raises(Cancelled), entered("a/b"):
        raise Cancelled("enough")
    assert states() == [("a/b", "stopped")]
    with pytest.raises(DownloadError), entered("a/b"):
        raise DownloadError("no", hint="try")
    assert (wanted()[0].state, wanted()[0].message, wanted()[0].hint) == ("failed", "no", "try")
    want(["a/b"])
    assert states() == [("a/b", "waiting")]
    assert unwant("a/b") and not unwant("a/b")


def test_wishes_come_first_are_held_and_fail_on_paper(home: Path) -> None:
    want(["a/b", "c/d"])
    want(["e/f", "c/d"], first=True)
    assert [name for name, _ in states()] == ["e/f", "c/d", "a/b"]
    hold("c/d")
    assert states()[1] == ("c/d", "stopped")
    gated = DownloadError("gated", hint="accept it")
    assert not downloads.failed("c/d", gated, state="waiting")
    assert downloads.failed("a/b", gated, state="waiting") and not downloads.failed("a/b", gated)
    assert (wanted()[2].state, wanted()[2].message, wanted()[2].again) == ("failed", "gated", False)
    leaving = threading.Event()
    leaving.set()
    with pytest.raises(Cancelled), entered("e/f", leaving=leaving):
        with pytest.raises(Elsewhere), entered("e/f", waits=False):
            pass
        with pytest.raises(Elsewhere):
            hold("e/f")
        raise Cancelled("quit")
    assert states()[0] == ("e/f", "waiting")
    with pytest.raises(NotFetched), entered("e/f"):
        raise NotFetched("no network", again=True)
    assert wanted()[0].again


@pytest.mark.parametrize("text", ["", "[]", '{"format": 1, "jobs": [3, {"name": 4}]}', "{" * 9000])
def test_damaged_list_is_an_empty_one(home: Path, text: str) -> None:
    want(["a/b"])
    (home / "data/downloads/queue.json").write_text(text)
    assert wanted() == []
    want(["c/d"])
    assert states() == [("c/d", "waiting")]


def test_many_threads_lose_nothing(home: Path) -> None:
    threads = [threading.Thread(target=want, args=([f"a/m{n}"],)) for n in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(job.name for job in wanted()) == sorted(f"a/m{n}" for n in range(12))


def test_list_has_an_end(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(downloads, "_JOBS_MAX", 2)
    with pytest.raises(DownloadError, match="wait already"):
        want(["a/1", "a/2", "a/3"])


def test_drain_goes_on_after_a_failure(hub: FakeServer) -> None:
    want(["own/one", "own/nothing", "own/folder"])
    log = Log()
    drain(log, cancel=threading.Event())
    assert log.told == [
        *("own/one began", "own/one came"),
        *("own/nothing began", "own/nothing failed"),
        *("own/folder began", "own/folder came"),
    ]
    assert states() == [("own/nothing", "failed")]
    assert len(list_local()) == 2
    again = Log()
    drain(again, cancel=threading.Event())
    assert again.told == []


def test_drain_stops_at_cancel_and_keeps_the_rest(hub: FakeServer) -> None:
    hub.faults.slow_s = 0.05
    want(["own/one", "own/folder"])
    cancel = threading.Event()

    class Impatient(Log):
        def moved(self, progress: FetchProgress) -> None:
            if progress.done_bytes:
                cancel.set()

    with pytest.raises(Cancelled):
        drain(Impatient(), cancel=cancel)
    assert states() == [("own/one", "stopped"), ("own/folder", "waiting")]
    assert [each.name for each in unfinished()] == ["own/one"]
    assert (give_up("own/one") or 0) > 0
    assert give_up("own/folder") == 0 and give_up("own/folder") is None
    assert unfinished() == [] and wanted() == []


def test_running_download_is_not_given_up(hub: FakeServer) -> None:
    hub.faults.slow_s = 0.05
    cancel = threading.Event()
    wrong: list[str] = []

    def look(progress: FetchProgress) -> None:
        if not progress.done_bytes or cancel.is_set():
            return
        try:
            give_up("own/one")
        except UsageError as error:
            wrong.append(error.message)
        cancel.set()

    with pytest.raises(Cancelled):
        fetch("own/one", on_progress=look, cancel=cancel)
    assert wrong == ["own/one is being downloaded now"]
    assert unfinished()[0].done_bytes > 0


def test_second_one_waits_for_the_first(hub: FakeServer) -> None:
    seen: list[FetchProgress] = []
    cancel = threading.Event()

    def look(progress: FetchProgress) -> None:
        seen.append(progress)
        if "another quantchat" in progress.detail:
            cancel.set()

    with (
        partial("own--one", cancel=cancel, on_wait=lambda: None),
        pytest.raises(Cancelled),
    ):
        fetch("own/one", on_progress=look, cancel=cancel)
    assert "another quantchat" in seen[-1].detail
    assert hub.requests == []


def test_several_files_have_one_honest_total(hub: FakeServer) -> None:
    hub.repos["own/folder"]["model-00001-of-00002.safetensors"] *= 4
    hub.faults.slow_s = 0.01
    seen: list[FetchProgress] = []
    model = fetch("own/folder", on_progress=seen.append, cancel=threading.Event())
    counted = [progress for progress in seen if progress.total_bytes]
    assert {progress.total_bytes for progress in counted} == {model.size_bytes}
    done = [progress.done_bytes for progress in counted]
    assert done == sorted(done) and done[-1] == model.size_bytes
    assert any("and 1 more" in progress.detail for progress in counted)


def test_kept_bytes_are_no_speed(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("quantchat.hub.progress.time.monotonic", lambda: now[0])
    seen: list[FetchProgress] = []
    meter = Meter(seen.append, "hub")
    meter.total_bytes = 10_000
    meter.keep(5_000)
    for _ in range(4):
        now[0] += 1.0
        meter.add(100)
    last = seen[-1]
    assert (last.done_bytes, last.bytes_per_s) == (5_400, pytest.approx(100))
    assert last.remaining_s == pytest.approx(46)
    now[0] += 5.5
    meter.report()
    assert seen[-1].stalled and seen[-1].bytes_per_s == 0 and seen[-1].remaining_s is None
    now[0] += 1.0
    meter.add(1)
    assert not seen[-1].stalled


def test_wanted_file_of_another_size_is_begun_anew(hub: FakeServer) -> None:
    hub.faults.slow_s = 0.05
    cancel = threading.Event()

    def enough(progress: FetchProgress) -> None:
        if progress.done_bytes:
            cancel.set()

    with pytest.raises(Cancelled):
        fetch("own/one", on_progress=enough, cancel=cancel)
    hub.faults.slow_s = 0.0
    hub.repos["own/one"]["tiny.Q4.gguf"] = body = gguf(150_000)[::-1]
    hub.requests.clear()
    model = fetch("own/one", on_progress=lambda _: None, cancel=threading.Event())
    assert model.path.read_bytes() == body
    assert not any("range" in headers for _, headers in hub.requests)


def test_disk_that_fills_up_is_told_and_what_came_is_kept(
    hub: FakeServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = Part.append

    def full(self: Part, chunk: bytes) -> None:
        if self.done_bytes + len(chunk) > 100_000:
            raise OSError(errno.ENOSPC, "No space left on device")
        append(self, chunk)

    hub.faults.slow_s = 0.001
    with monkeypatch.context() as patch:
        patch.setattr(Part, "append", full)
        with pytest.raises(DownloadError, match="No space left on device") as caught:
            fetch("own/one", on_progress=lambda _: None, cancel=threading.Event())
    assert "what came is kept" in caught.value.hint
    assert states() == [("own/one", "failed")]
    kept_bytes = unfinished()[0].done_bytes
    assert kept_bytes > 50_000
    hub.faults.slow_s = 0.0
    hub.requests.clear()
    model = fetch("own/one", on_progress=lambda _: None, cancel=threading.Event())
    assert model.path.read_bytes() == hub.repos["own/one"]["tiny.Q4.gguf"]
    assert hub.requests[-1][1]["range"] == f"bytes={kept_bytes}-"
