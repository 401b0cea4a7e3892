"""How fast a download runs from this machine to itself, beside curl, and what memory it takes.

Owns the loopback server and the two clients, each a process of its own. Nothing leaves the machine.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from quantchat.errors import UsageError

_BLOCK_BYTES = 1 << 20
_SERVER = "from quantchat.bench.download import serve; serve({path!r})"
_CLIENT = """
import resource, sys, threading, time
from pathlib import Path
from quantchat.hub.download import Digest, Remote, download
from quantchat.hub.progress import Meter
url, target, size, digest = sys.argv[1:]
remote = Remote(url=url, name="file", size_bytes=int(size), limit_bytes=1 << 50,
                digest=Digest(kind="sha256", value=digest))
def peak():
    # On Linux ru_maxrss begins at the size of the parent process.
    status = Path("/proc/self/status")
    if status.exists():
        text = status.read_text()
        return int(text.partition("VmHWM:")[2].split()[0]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
before, start_s = peak(), time.perf_counter()
meter = Meter(lambda _: None, "")
download(remote, Path(target), meter=meter, cancel=threading.Event())
print(time.perf_counter() - start_s, peak() - before)
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class DownloadReport:
    """One file from loopback to disk, best of the runs."""

    size_bytes: int
    own_s: float
    """With its sha256 checked and the file safe on disk."""
    curl_s: float
    """Without either; 0 where there is no curl."""
    added_bytes: int
    """Peak memory above the idle process."""

    @property
    def ratio(self) -> float:
        """Own speed over curl's; 0 where there is no curl."""
        return self.curl_s / self.own_s


def measure(size_bytes: int, runs: int, folder: Path | None) -> DownloadReport:
    """Time both clients in turn; `folder` says on which disk. Raises UsageError."""
    if sys.platform == "win32":
        raise UsageError("this measurement runs on Linux and macOS")
    own_s: list[float] = []
    curl_s: list[float] = []
    added_bytes = 0
    curl = shutil.which("curl")
    with tempfile.TemporaryDirectory(dir=folder) as name:
        where = Path(name)
        digest = _make(where / "source", size_bytes)
        target = where / "target"
        with _serving(where / "source") as url:
            for _ in range(runs):
                if curl is not None:
                    start_s = time.perf_counter()
                    subprocess.run([curl, "-sS", "--noproxy", "*", "-o", target, url], check=True)
                    curl_s.append(time.perf_counter() - start_s)
                    target.unlink()
                words = [sys.executable, "-c", _CLIENT, url, str(target), str(size_bytes), digest]
                out = subprocess.run(
                    words,
                    check=True,
                    capture_output=True,
                    text=True,
                    env={**os.environ, "no_proxy": "*"},
                ).stdout
                seconds, more_bytes = out.split()
                own_s.append(float(seconds))
                added_bytes = max(added_bytes, int(more_bytes))
                target.unlink()
    return DownloadReport(
        size_bytes=size_bytes,
        own_s=min(own_s),
        curl_s=min(curl_s, default=0.0),
        added_bytes=added_bytes,
    )


def serve(path: str) -> None:
    """Serve one file on a free loopback port, printed first, until the process is ended."""
    size_bytes = os.path.getsize(path)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            return

        def do_GET(self) -> None:
            asked = re.fullmatch(r"bytes=(\d+)-", self.headers.get("Range", ""))
            start = min(int(asked[1]), size_bytes) if asked else 0
            self.send_response(206 if asked else 200)
            self.send_header("Content-Length", str(size_bytes - start))
            if asked:
                self.send_header("Content-Range", f"bytes {start}-{size_bytes - 1}/{size_bytes}")
            self.end_headers()
            with open(path, "rb") as file, contextlib.suppress(ConnectionError):
                self.connection.sendfile(file, start)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


@contextlib.contextmanager
def _serving(path: Path) -> Iterator[str]:
    server = subprocess.Popen(
        [sys.executable, "-c", _SERVER.format(path=str(path))], stdout=subprocess.PIPE, text=True
    )
    try:
        assert server.stdout is not None
        port = server.stdout.readline().strip()
        if not port:
            raise UsageError("the loopback server did not start")
        yield f"http://127.0.0.1:{port}/file"
    finally:
        server.terminate()
        server.wait()


def _make(path: Path, size_bytes: int) -> str:
    """Random bytes, repeated; their sha256."""
    block, digest, left = os.urandom(_BLOCK_BYTES), hashlib.sha256(), size_bytes
    with path.open("wb") as out:
        while left:
            piece = block[: min(left, _BLOCK_BYTES)]
            out.write(piece)
            digest.update(piece)
            left -= len(piece)
    return digest.hexdigest()
