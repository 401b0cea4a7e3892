"""What a download takes of memory: no more for a large file than for a small one."""

from __future__ import annotations

import hashlib
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from quantchat.hub.download import Digest, Remote, download
from quantchat.hub.progress import Meter

BLOCK = bytes(range(256)) * 4096
BLOCKS = 128
MOST_BYTES = 12 << 20


class Handler(BaseHTTPRequestHandler):
    """The same block over and over, as fast as it is taken."""

    def log_message(self, *_: object) -> None:
        return

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(BLOCKS * len(BLOCK)))
        self.end_headers()
        for _ in range(BLOCKS):
            self.wfile.write(BLOCK)


@contextmanager
def serving() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/file"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_memory_does_not_grow_with_the_file(tmp_path: Path) -> None:
    digest = hashlib.sha256()
    for _ in range(BLOCKS):
        digest.update(BLOCK)
    size_bytes = BLOCKS * len(BLOCK)
    target = tmp_path / "file"
    with serving() as url:
        remote = Remote(
            url=url,
            name="file",
            size_bytes=size_bytes,
            limit_bytes=size_bytes,
            digest=Digest(kind="sha256", value=digest.hexdigest()),
        )
        meter = Meter(lambda _: None, "")
        tracemalloc.start()
        try:
            download(remote, target, meter=meter, cancel=threading.Event())
            peak_bytes = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert target.stat().st_size == size_bytes == meter.done_bytes
    target.unlink()
    assert peak_bytes < MOST_BYTES
