"""One streamed HTTP request that can be given up at any moment, even while a name is looked up.

Owns connection, redirects, certificates and reasons in words. A helper thread does the blocking
calls; the caller polls, so cancelling and time limits never wait for the network.
Credentials are sent to the origin they were given for and to no other.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import os
import queue
import socket
import ssl
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping
from email.message import Message
from typing import IO, Any, Literal, TypeAlias
from urllib.parse import urlsplit

from quantchat.errors import Cancelled, DownloadError

CONNECT_S = 4.0
_ANSWER_S = 20.0
_READ_S = 30.0
_POLL_S = 0.1
_CHUNK_BYTES = 1 << 19
_CHUNKS_AHEAD = 4
_USER_AGENT = "quantchat"
_CERTIFICATES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "PIP_CERT")


Fault: TypeAlias = Literal["final", "broken", "unreachable"]
"""Final will be the same again; broken may not; unreachable is worth more tries once it worked."""


class SourceError(DownloadError):
    """A source did not deliver; the message is the reason in one line."""

    def __init__(
        self, message: str, *, hint: str = "", status: int = 0, fault: Fault = "final"
    ) -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.fault = fault


class HttpStream:
    """A GET whose head is awaited by `open` and whose body comes from `chunks`."""

    def __init__(
        self,
        url: str,
        *,
        cancel: threading.Event,
        headers: Mapping[str, str] | None = None,
        authorization: str | None = None,
    ) -> None:
        self._url = url
        self._host = urlsplit(url).hostname or url
        self._cancel = cancel
        self._headers = {"Accept-Encoding": "identity", "User-Agent": _USER_AGENT}
        self._headers.update(headers or {})
        self._authorization = authorization
        self._queue: queue.Queue[Any] = queue.Queue(maxsize=_CHUNKS_AHEAD)
        self._connected = threading.Event()
        self._stopped = threading.Event()
        self._socket: socket.socket | None = None
        self.status = 0
        self.headers: Message = Message()
        self.url = url
        """After redirects."""
        self.linked_etag = ""
        """The origin's own ETag of the file that it redirects to, where it says."""

    def __enter__(self) -> HttpStream:
        self.open()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def open(self) -> None:
        """Wait for the answer's head. Raises Cancelled, SourceError."""
        threading.Thread(target=self._run, name="quantchat-http", daemon=True).start()
        # Several addresses may be tried in turn; the limit holds for all of them together.
        limit_s = time.monotonic() + CONNECT_S + 1.0
        answering = False
        while True:
            if self._connected.is_set() and not answering:
                answering = True
                limit_s = time.monotonic() + _ANSWER_S
            try:
                head = self._next()
            except queue.Empty:
                if time.monotonic() < limit_s:
                    continue
                self.close()
                if answering:
                    raise SourceError(
                        f"{self._host} did not answer in time", fault="broken"
                    ) from None
                raise SourceError(
                    f"{self._host} could not be reached within {CONNECT_S:.0f} s",
                    fault="unreachable",
                ) from None
            self.status, self.headers, self.url = head
            return

    def chunks(self) -> Iterator[bytes]:
        """The body as it comes; an empty chunk ten times a second while nothing comes."""
        waited_s = 0.0
        while True:
            try:
                chunk = self._next()
            except queue.Empty:
                waited_s += _POLL_S
                if waited_s > _READ_S:
                    raise SourceError(
                        f"{self._host} sent nothing for {_READ_S:.0f} s", fault="broken"
                    ) from None
                yield b""
                continue
            if chunk is None:
                return
            waited_s = 0.0
            yield chunk

    def close(self) -> None:
        """Give the request up; the helper thread ends by itself."""
        self._stopped.set()
        if self._socket is not None:
            # The base class's shutdown wakes a blocked read; SSLSocket's own would race with it.
            with contextlib.suppress(OSError):
                socket.socket.shutdown(self._socket, socket.SHUT_RDWR)

    def _next(self) -> Any:
        if self._cancel.is_set():
            self.close()
            raise Cancelled("the download was stopped")
        item = self._queue.get(timeout=_POLL_S)
        if isinstance(item, BaseException):
            self.close()
            raise _in_words(item, self._host) from item
        return item

    def _put(self, item: object) -> bool:
        while not self._stopped.is_set():
            try:
                self._queue.put(item, timeout=0.2)
                return True
            except queue.Full:
                continue
        return False

    def _run(self) -> None:
        try:
            with self._request() as answer:
                if same_origin(self._url, answer.url):
                    self._see_linked(answer.headers)
                if not self._put((answer.status or 200, answer.headers, answer.url)):
                    return
                left = _content_length(answer.headers)
                while chunk := answer.read1(_CHUNK_BYTES):
                    left -= len(chunk)
                    if not self._put(chunk):
                        return
                if left > 0 and _content_length(answer.headers):
                    raise ConnectionError("the connection broke off")
            self._put(None)
        # Whatever the helper meets is handed over and raised in the caller's thread.
        except Exception as error:
            self._put(error)

    def _request(self) -> Any:
        request = urllib.request.Request(self._url, headers=self._headers)
        if self._authorization:
            request.add_unredirected_header("Authorization", self._authorization)
        opener = urllib.request.build_opener(
            _PlainHandler(self._on_connect),
            _SecureHandler(self._on_connect),
            _Redirects(self._url, self._authorization, self._see_linked),
        )
        try:
            return opener.open(request, timeout=CONNECT_S)
        except urllib.error.HTTPError as error:
            return error

    def _see_linked(self, headers: Message) -> None:
        self.linked_etag = headers.get("X-Linked-Etag", "") or self.linked_etag

    def _on_connect(self, connected: socket.socket) -> None:
        connected.settimeout(_READ_S)
        self._socket = connected
        self._connected.set()
        if self._stopped.is_set():
            self.close()


def get_bytes(
    url: str,
    *,
    cancel: threading.Event,
    limit_bytes: int,
    headers: Mapping[str, str] | None = None,
    authorization: str | None = None,
) -> tuple[int, Message, bytes, str]:
    """Fetch a small document: status, headers, body of at most `limit_bytes`, final address."""
    stream = HttpStream(url, cancel=cancel, headers=headers, authorization=authorization)
    with stream:
        body = bytearray()
        for chunk in stream.chunks():
            body += chunk
            if len(body) > limit_bytes:
                raise SourceError(f"{urlsplit(url).hostname} answered with more than is sensible")
        return stream.status, stream.headers, bytes(body), stream.url


def parse_json(body: bytes, host: str) -> Any:
    """Decode a JSON answer or say who sent something else."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{host} answered with something that is not JSON") from error


def same_origin(one: str, other: str) -> bool:
    """Whether two addresses share scheme, host and port."""
    return _origin(one) == _origin(other)


def _origin(url: str) -> tuple[str, str | None, int | None]:
    parts = urlsplit(url)
    port = parts.port or {"http": 80, "https": 443}.get(parts.scheme)
    return parts.scheme, parts.hostname, port


def _content_length(headers: Message) -> int:
    text = headers.get("Content-Length", "")
    return int(text) if text.isdecimal() else 0


class _PlainHandler(urllib.request.HTTPHandler):
    def __init__(self, on_connect: Callable[[socket.socket], None]) -> None:
        super().__init__()
        self._on_connect = on_connect

    def http_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        on_connect = self._on_connect

        class Connection(http.client.HTTPConnection):
            def connect(self) -> None:
                super().connect()
                on_connect(self.sock)

        return self.do_open(Connection, req)


class _SecureHandler(urllib.request.HTTPSHandler):
    def __init__(self, on_connect: Callable[[socket.socket], None]) -> None:
        urllib.request.AbstractHTTPHandler.__init__(self)
        self._on_connect = on_connect

    def https_open(self, req: urllib.request.Request) -> http.client.HTTPResponse:
        on_connect = self._on_connect

        class Connection(http.client.HTTPSConnection):
            def connect(self) -> None:
                super().connect()
                on_connect(self.sock)

        extra = [os.environ.get(name, "") for name in _CERTIFICATES]
        context = _tls_context(tuple(dict.fromkeys(path for path in extra if path)))
        return self.do_open(Connection, req, context=context)


class _Redirects(urllib.request.HTTPRedirectHandler):
    def __init__(self, url: str, authorization: str | None, see: Callable[[Message], None]) -> None:
        self._start = url
        self._authorization = authorization
        self._see = see

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: http.client.HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        if req.full_url.startswith("https:") and not newurl.startswith("https:"):
            raise urllib.error.URLError("redirected from https to an unprotected address")
        if same_origin(self._start, req.full_url):
            self._see(headers)
        new = super().redirect_request(req, fp, code, msg, headers, newurl)
        if new is not None and self._authorization and same_origin(self._start, newurl):
            new.add_unredirected_header("Authorization", self._authorization)
        return new


@functools.lru_cache(maxsize=4)
def _tls_context(extra: tuple[str, ...]) -> ssl.SSLContext:
    context = ssl.create_default_context()
    for path in extra:
        if os.path.isfile(path):
            context.load_verify_locations(path)
    places = ssl.get_default_verify_paths()
    if not (places.cafile or places.capath or context.cert_store_stats()["x509_ca"]):
        # Python from python.org on macOS finds no certificates of its own.
        with contextlib.suppress(ImportError):
            import certifi

            context.load_verify_locations(certifi.where())
    return context


def _in_words(error: BaseException, host: str) -> SourceError:
    cause: object = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(cause, ssl.SSLCertVerificationError):
        return SourceError(
            f"the certificate of {host} is not trusted ({cause.verify_message})",
            hint="behind a company proxy, set SSL_CERT_FILE to its certificate",
        )
    if isinstance(cause, socket.gaierror):
        return SourceError(
            f"{host} was not found (no network, or no name service)", fault="unreachable"
        )
    if isinstance(cause, TimeoutError):
        return SourceError(f"{host} did not answer in time", fault="broken")
    if isinstance(cause, ConnectionRefusedError):
        return SourceError(f"{host} refused the connection", fault="unreachable")
    if isinstance(cause, http.client.HTTPException | ConnectionError | ssl.SSLError):
        return SourceError(f"the connection to {host} broke off", fault="broken")
    if isinstance(cause, OSError):
        return SourceError(
            f"{host} could not be reached ({cause.strerror or cause})", fault="unreachable"
        )
    return SourceError(f"{host}: {cause}")
