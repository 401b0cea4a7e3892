"""Loopback stand-ins for the hub, its storage host and a package index, with faults on demand."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import re
import socket
import struct
import threading
import time
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, TypeAlias, get_args
from urllib.parse import parse_qs, unquote, urlsplit


@dataclass
class Faults:
    """What goes wrong; all off by default."""

    status: int = 0
    """Answer every listing with this status."""
    error_code: str = ""
    drop_after_bytes: int = 0
    """Break the connection after so many bytes of a body, `drops` times."""
    drops: int = 0
    busy: int = 0
    """Answer so many file requests with 503."""
    hold_after_bytes: int = 0
    """Wait so far in a file until `flowing` is set."""
    slow_s: float = 0.0
    """Pause after every 4 KiB."""
    silent: bool = False
    """Accept the request and never answer."""
    ignore_range: bool = False
    corrupt: bool = False
    corrupt_answers: int = 0
    """Send so many answers with wrong bytes."""
    change_after_drop: bool = False
    """Serve other bytes under another ETag once a connection was dropped."""
    extra_bytes: int = 0
    """Send more than was announced."""


Trouble: TypeAlias = Literal[
    "drop",
    "reset",
    "slow",
    "ignore_range",
    "416",
    "etag",
    "429",
    "503",
    "cut_headers",
    "stale",
    "shifted",
    "gone",
]
TROUBLES: tuple[Trouble, ...] = get_args(Trouble)
"""What may go wrong once with a file request and must cost no byte that came already; at "gone" the
storage that it leads to cannot be reached."""
SLOW_S = 0.001
GONE = "http://127.0.0.1:9"


@dataclass
class FakeServer:
    """One server's content, faults and record of requests."""

    faults: Faults = field(default_factory=Faults)
    repos: dict[str, dict[str, bytes]] = field(default_factory=dict)
    gated: set[str] = field(default_factory=set)
    token: str = "hf_fake"
    allowed: bool = True
    """Whether the token has been granted access to gated repositories."""
    facts: dict[str, dict[str, Any]] = field(default_factory=dict)
    """Repository -> what the hub tells of it beside its files."""
    private: set[str] = field(default_factory=set)
    disabled: set[str] = field(default_factory=set)
    renamed: dict[str, str] = field(default_factory=dict)
    """Old name -> name of today."""
    cdn: str = ""
    """Redirect file requests to this origin."""
    cdns: list[str] = field(default_factory=list)
    """Redirect each file request to the next of these origins, over and over."""
    troubles: dict[str, list[Trouble]] = field(default_factory=dict)
    """End of a path -> one for each request, from the end, until none is left."""
    trouble_bytes: int = 0
    """Break a connection that met a trouble after so many bytes."""
    listings_busy: int = 0
    """Answer so many listings with 429 and a moment to wait."""
    lock: threading.Lock = field(default_factory=threading.Lock)
    pages: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    """Path -> (content type, body), for an index."""
    requests: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    url: str = ""
    closing: threading.Event = field(default_factory=threading.Event)
    flowing: threading.Event = field(default_factory=threading.Event)

    def paths(self, part: str = "") -> list[str]:
        return [path for path, _ in self.requests if part in path]


@contextlib.contextmanager
def serve(server: FakeServer, port: int = 0) -> Iterator[FakeServer]:
    """Run the server on a loopback port, a free one where none is named, until the block ends."""

    class Handler(_Handler):
        fake = server

    httpd = ThreadingHTTPServer(("127.0.0.1", port), Handler)
    httpd.daemon_threads = True
    server.url = f"http://127.0.0.1:{httpd.server_address[1]}"
    thread = threading.Thread(target=httpd.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.closing.set()
        httpd.shutdown()
        thread.join()
        httpd.server_close()


class _Handler(BaseHTTPRequestHandler):
    fake: FakeServer
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: object) -> None:
        return

    def do_GET(self) -> None:
        fake = self.fake
        path = unquote(urlsplit(self.path).path)
        fake.requests.append((path, {key.lower(): value for key, value in self.headers.items()}))
        self.close_connection = True
        if fake.faults.silent:
            fake.closing.wait(30)
            return
        try:
            if path in fake.pages:
                kind, body = fake.pages[path]
                self._file(body) if kind == "file" else self._answer(
                    200, body, {"Content-Type": kind}
                )
            elif path == "/api/models":
                self._search(parse_qs(urlsplit(self.path).query))
            elif check := re.fullmatch(r"/api/models/([^/]+/[^/]+)/auth-check", path):
                open_to_all = check[1] not in fake.gated
                granted = open_to_all or (self._has_token() and fake.allowed)
                self._answer(200 if granted else 403, b"{}")
            elif listing := re.fullmatch(r"/api/models/([^/]+/[^/]+)/revision/(.+)", path):
                self._listing(listing[1])
            elif wanted := re.fullmatch(r"/([^/]+/[^/]+)/resolve/[^/]+/(.+)", path):
                self._resolve(wanted[1], wanted[2])
            else:
                self._answer(404, b"")
        except (BrokenPipeError, ConnectionResetError):
            return

    def _has_token(self) -> bool:
        return self.headers.get("Authorization") == f"Bearer {self.fake.token}"

    def _search(self, asked: dict[str, list[str]]) -> None:
        """As the hub does: by a part of the name, sorted, the highest first."""
        fake = self.fake
        words = asked.get("search", [""])[0].lower()
        rows = [
            {"id": repo, "private": False, **fake.facts.get(repo, {})}
            for repo in fake.repos
            if words in repo.lower()
        ]
        key = asked["sort"][0]
        rows.sort(key=lambda row: row.get(key, 0 if key != "lastModified" else ""), reverse=True)
        body = json.dumps(rows[: int(asked["limit"][0])]).encode()
        self._answer(200, body, {"Content-Type": "application/json"})

    def _listing(self, repo: str) -> None:
        fake = self.fake
        if fake.listings_busy:
            fake.listings_busy -= 1
            self._answer(429, b"{}", {"Retry-After": "0"})
            return
        if repo in fake.renamed:
            self._answer(307, b"", {"Location": self.path.replace(repo, fake.renamed[repo])})
            return
        if repo in fake.disabled:
            self._answer(403, b"{}", {"X-Error-Message": "Access to this resource is disabled."})
            return
        if repo in fake.private and not self._has_token():
            self._answer(401, b"{}", {"X-Error-Code": "RepoNotFound"})
            return
        if fake.faults.status:
            self._answer(fake.faults.status, b"{}", {"X-Error-Code": fake.faults.error_code})
            return
        if repo not in fake.repos:
            self._answer(401, b"{}", {"X-Error-Code": "RepoNotFound"})
            return
        siblings = []
        for name, body in fake.repos[repo].items():
            item: dict[str, object] = {"rfilename": name, "size": len(body)}
            if name.endswith((".gguf", ".safetensors")):
                digest = hashlib.sha256(body).hexdigest()
                item["lfs"] = {"sha256": digest, "size": len(body), "pointerSize": 130}
                item["blobId"] = "0" * 40
            else:
                git = hashlib.sha1(b"blob %d\0" % len(body) + body)
                item["blobId"] = git.hexdigest()
            siblings.append(item)
        gated = "manual" if repo in fake.gated else False
        answer = {"id": repo, "sha": "c" * 40, "gated": gated, "siblings": siblings}
        answer |= fake.facts.get(repo, {})
        self._answer(200, json.dumps(answer).encode(), {"Content-Type": "application/json"})

    def _resolve(self, repo: str, name: str) -> None:
        fake = self.fake
        if repo in fake.gated and not (self._has_token() and fake.allowed):
            self._answer(403, b"", {"X-Error-Code": "GatedRepo"})
            return
        if fake.cdn:
            self._answer(302, b"", {"Location": fake.cdn + self.path})
            return
        if fake.cdns:
            with fake.lock:
                fake.cdns.append(fake.cdns.pop(0))
            waiting = fake.troubles.get(name.rpartition("/")[2])
            if waiting and waiting[-1] == "gone":
                waiting.pop()
                self._answer(302, b"", {"Location": GONE + self.path})
                return
            linked = hashlib.sha256(fake.repos[repo][name]).hexdigest()
            self._answer(
                302, b"", {"Location": fake.cdns[0] + self.path, "X-Linked-Etag": f'"{linked}"'}
            )
            return
        self._file(fake.repos[repo][name])

    def _file(self, body: bytes) -> None:
        faults = self.fake.faults
        waiting = self.fake.troubles.get(urlsplit(self.path).path.rpartition("/")[2])
        trouble = waiting.pop() if waiting else None
        if faults.busy:
            faults.busy -= 1
            self._answer(503, b"", {"Retry-After": "0"})
            return
        if trouble in ("429", "503", "416", "stale"):
            status = {"429": 429, "503": 503, "416": 416, "stale": 403}[trouble]
            self._answer(status, b"", {"Retry-After": "0"} if trouble == "429" else {})
            return
        if trouble == "cut_headers":
            self.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Le")
            return
        changed = faults.change_after_drop and not faults.drops
        wrong = faults.corrupt_answers > 0
        faults.corrupt_answers -= wrong
        if faults.corrupt or changed or wrong:
            body = bytes([body[0] ^ 0xFF]) + body[1:-1] + bytes([body[-1] ^ 0xFF])
        etag = f'"{hashlib.sha256(body).hexdigest()}"'
        if trouble == "etag":
            etag = '"other-name-of-the-same-bytes"'
        start = 0
        stop = len(body)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        same = self.headers.get("If-Range", etag) == etag
        if asked and not faults.ignore_range and trouble != "ignore_range" and same:
            start = int(asked[1])
            stop = min(stop, int(asked[2]) + 1) if asked[2] else stop
        if trouble == "shifted":
            start = min(start + 1, len(body) - 1)
        part = body[start:stop]
        partial = bool(start) or stop < len(body)
        self.send_response(206 if partial else 200)
        self.send_header("ETag", etag)
        if not faults.extra_bytes:
            self.send_header("Content-Length", str(len(part)))
        if partial:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{len(body)}")
        self.end_headers()
        if faults.drops and len(part) > faults.drop_after_bytes:
            faults.drops -= 1
            part = part[: faults.drop_after_bytes]
        if trouble is not None:
            part = part[: self.fake.trouble_bytes]
        part += b"x" * faults.extra_bytes
        self._body(part, start, SLOW_S if trouble == "slow" else self.fake.faults.slow_s)
        if trouble == "reset":
            # Close with a reset in place of an orderly end.
            linger = struct.pack("ii", 1, 0)
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)

    def _body(self, part: bytes, start: int, slow_s: float) -> None:
        fake = self.fake
        hold_bytes = fake.faults.hold_after_bytes
        step_bytes = 4096 if slow_s or hold_bytes else 1 << 16
        for at in range(0, len(part), step_bytes):
            if hold_bytes and start + at >= hold_bytes:
                while not fake.flowing.wait(0.05):
                    if fake.closing.is_set():
                        return
            self.wfile.write(part[at : at + step_bytes])
            if slow_s and fake.closing.wait(slow_s):
                return

    def _answer(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for key, value in (headers or {}).items():
            if value:
                self.send_header(key, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def folder_files() -> dict[str, bytes]:
    """A repository as the hub holds it, with files that must not be fetched."""
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    return {
        "config.json": json.dumps({"architectures": ["LlamaForCausalLM"]}).encode(),
        "tokenizer.json": b'{"version": "1.0"}',
        "tokenizer_config.json": b"{}",
        "model.safetensors.index.json": json.dumps({"weight_map": shards}).encode(),
        shards["a"]: bytes(range(256)) * 300,
        shards["b"]: bytes(reversed(range(256))) * 200,
        "consolidated.safetensors": b"c" * 5000,
        "README.md": b"# a model",
        "original/params.json": b"{}",
    }


def gguf(size_bytes: int = 200_000) -> bytes:
    """Bytes that begin like a GGUF file."""
    body = b"GGUF" + bytes(i * 37 % 251 for i in range(1024)) * (size_bytes // 1024 + 1)
    return body[:size_bytes]


def fake_wheel(package: str, version: str, members: dict[str, bytes]) -> tuple[str, bytes]:
    """A small but installable wheel: its file name and bytes."""
    stem = package.replace("-", "_")
    info = f"{stem}-{version}.dist-info"
    files = {
        **members,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"]).encode()
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, body in files.items():
            archive.writestr(name, body)
    return f"{stem}-{version}-py3-none-any.whl", out.getvalue()


def wait_until(condition: object, timeout_s: float = 60.0) -> None:
    """Poll until `condition()` holds."""
    assert callable(condition)
    until_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until_s, "it did not come to pass in time"
        time.sleep(0.01)
