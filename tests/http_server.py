"""A real HTTP server on loopback that serves files and can be told to misbehave."""

from __future__ import annotations

import contextlib
import hashlib
import http.server
import re
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs, unquote, urlsplit

from tests.waiting import PATIENCE, wait_until

_CHUNK = 64 << 10


@dataclass(frozen=True)
class Request:
    path: str
    range: tuple[int, int] | None
    if_range: str | None
    headers: dict[str, str]


@dataclass
class Exchange:
    """One request and the means to answer it, rightly or wrongly."""

    server: Server
    handler: http.server.BaseHTTPRequestHandler
    request: Request
    content: bytes
    number: int
    """How many requests for this path came before."""
    etag: str | None = None

    def __post_init__(self):
        if self.server.etags:
            self.etag = f'"{hashlib.md5(self.content).hexdigest()}"'

    def head(self, status, headers):
        self.handler.send_response(status)
        for name, value in headers.items():
            self.handler.send_header(name, str(value))
        self.handler.end_headers()

    def body(self, data, *, pause=0.0, chunk=_CHUNK):
        for at in range(0, len(data), chunk):
            piece = data[at : at + chunk]
            self.handler.wfile.write(piece)
            self.handler.wfile.flush()
            with self.server.lock:
                self.server.sent[self.request.path] += len(piece)
            if pause and self.server.closing.wait(pause):
                return

    def close(self):
        self.handler.close_connection = True
        with contextlib.suppress(OSError):
            self.handler.wfile.flush()
            self.handler.connection.shutdown(socket.SHUT_RDWR)

    def plan(self):
        """Status, header fields and body of the right answer."""
        size = len(self.content)
        headers = {"Content-Type": "application/octet-stream", "Accept-Ranges": "bytes"}
        if self.etag:
            headers["ETag"] = self.etag
        span = self.request.range
        if span is not None and self.request.if_range not in {None, self.etag}:
            span = None
        if span is None:
            return 200, headers | {"Content-Length": size}, self.content
        start, stop = span[0], min(span[1], size)
        if start >= size:
            return 416, headers | {"Content-Length": 0, "Content-Range": f"bytes */{size}"}, b""
        headers |= {"Content-Length": stop - start}
        headers |= {"Content-Range": f"bytes {start}-{stop - 1}/{size}"}
        return 206, headers, self.content[start:stop]

    def serve(self, *, cut=None, pause=0.0, chunk=_CHUNK, **changed):
        """Answer rightly, but for `changed` header fields and a body cut at `cut`."""
        status, headers, body = self.plan()
        headers |= {name.replace("_", "-"): value for name, value in changed.items()}
        self.head(status, {k: v for k, v in headers.items() if v is not None})
        self.body(body if cut is None else body[:cut], pause=pause, chunk=chunk)


Fault = Callable[[Exchange], None]


def times(count: int, fault: Fault) -> Fault:
    """Misbehave for the first requests, then serve."""
    return lambda x: fault(x) if x.number < count else x.serve()


def drop(after: int) -> Fault:
    def fault(x):
        x.serve(cut=after)
        x.close()

    return fault


def stall(after: int) -> Fault:
    def fault(x):
        x.serve(cut=after)
        x.server.closing.wait(PATIENCE)
        x.close()

    return fault


def stall_before_headers(x):
    x.server.closing.wait(PATIENCE)
    x.close()


def drip(x):
    x.serve(pause=0.01, chunk=1)
    x.close()


def drip_headers(x):
    with contextlib.suppress(OSError):
        x.handler.wfile.write(b"HTTP/1.1 200 OK\r\nX-Slow: ")
        while not x.server.closing.wait(0.01):
            x.handler.wfile.write(b"a")
            x.handler.wfile.flush()
    x.close()


def truncate(x):
    x.content = x.content[:-10]
    x.serve()


def lie_about_length(x):
    """A correct ETag and a body shorter than Content-Length says, then the end."""
    x.serve(cut=max(0, len(x.plan()[2]) - 10))
    x.close()


def overrun(x):
    """No length, and bytes without end."""
    status, headers, body = x.plan()
    headers.pop("Content-Length")
    x.head(status, headers | {"Connection": "close"})
    with contextlib.suppress(OSError):
        x.body(body)
        for _ in range(10_000):
            x.body(b"x" * 100)
    x.close()


def longer(x):
    x.content += b"more"
    x.serve()


def busy(status: int, after: str | None) -> Fault:
    def fault(x):
        headers = {"Content-Length": 0}
        if after is not None:
            headers["Retry-After"] = after
        x.head(status, headers)

    return fault


def status(code: int) -> Fault:
    return lambda x: x.head(code, {"Content-Length": 0})


def no_ranges(x):
    x.request = Request(x.request.path, None, None, x.request.headers)
    x.serve()


def other_range(x):
    """206 for bytes that nobody asked for."""
    start, stop = x.request.range or (0, 0)
    if start > 0:
        x.request = Request(x.request.path, (start - 1, stop - 1), None, x.request.headers)
    x.serve()


def redirect(location: str) -> Fault:
    return lambda x: x.head(302, {"Location": location, "Content-Length": 0})


def wrong_bytes(x):
    x.content = bytes([x.content[0] ^ 1]) + x.content[1:]
    x.serve()


def html(x):
    page = b"<html>please log in</html>"
    page += b" " * max(0, len(x.content) - len(page))
    x.head(200, {"Content-Type": "text/html; charset=utf-8", "Content-Length": len(page)})
    x.body(page)


def gzipped(x):
    x.serve(Content_Encoding="gzip")


def slow(pause: float, chunk: int = _CHUNK) -> Fault:
    return lambda x: x.serve(pause=pause, chunk=chunk)


@dataclass
class Server:
    """Files by path, and what to do wrong with which.

    `faults` names a path, or "*" for all. `sent` counts bytes of bodies a path. With a
    `certificate` (a file that holds its key as well) it speaks https.
    """

    files: dict[str, bytes] = field(default_factory=dict)
    faults: dict[str, Fault] = field(default_factory=dict)
    etags: bool = True
    page: int = 1000
    sent: Counter[str] = field(default_factory=Counter)
    requests: list[Request] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)
    closing: threading.Event = field(default_factory=threading.Event)
    connections: int = 0
    certificate: Path | None = None

    def __enter__(self):
        outer = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True  # else every body waits 40 ms for its head's receipt

            def handle(self):
                with outer.lock:
                    outer.connections += 1
                try:
                    super().handle()
                finally:
                    with outer.lock:
                        outer.connections -= 1

            def do_GET(self):
                with contextlib.suppress(OSError):
                    outer.answer(self)

            def do_HEAD(self):
                content = outer.files.get(unquote(urlsplit(self.path).path).lstrip("/"))
                self.send_response(404 if content is None else 200)
                self.send_header("Content-Length", str(len(content or b"")))
                self.end_headers()

            def log_message(self, *_):
                pass

        class Threads(http.server.ThreadingHTTPServer):
            daemon_threads = True
            block_on_close = False
            request_queue_size = 64

            def handle_error(self, *_):
                pass

        self._server = Threads(("127.0.0.1", 0), Handler)
        if self.certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(self.certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )
        self._thread.start()
        return self

    def __exit__(self, *_):
        self.closing.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self):
        scheme = "http" if self.certificate is None else "https"
        return f"{scheme}://127.0.0.1:{self._server.server_address[1]}/"

    @property
    def total(self):
        return sum(self.sent.values())

    def forget(self):
        self.sent.clear()
        self.requests.clear()

    def wait_until_left_alone(self):
        """Let what a killed client had asked for come to its end: it counts as sent."""
        wait_until(lambda: not self.connections)

    def wait_until_sent(self, path, count, by=None):
        """Wait for a client; a process that ends before will never ask for so much."""
        wait_until(lambda: self.sent[path] >= count, by)

    def answer(self, handler):
        parts = urlsplit(handler.path)
        path = unquote(parts.path).lstrip("/")
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", handler.headers.get("Range", ""))
        span = (int(match[1]), int(match[2]) + 1) if match else None
        request = Request(path, span, handler.headers.get("If-Range"), dict(handler.headers))
        with self.lock:
            number = sum(r.path == path for r in self.requests)
            self.requests.append(request)
        fault = self.faults.get(path) or self.faults.get("*")
        if path == "" and "list-type" in parts.query:
            content = self.listing(parse_qs(parts.query))
        elif path in self.files:
            content = self.files[path]
        elif fault is None:
            handler.send_response(404)
            handler.send_header("Content-Length", "0")
            handler.end_headers()
            return
        else:
            content = b""
        x = Exchange(self, handler, request, content, number)
        (fault or Exchange.serve)(x)

    def listing(self, query):
        """Answer ListObjectsV2 with prefix and delimiter, `page` names at a time."""
        prefix = query.get("prefix", [""])[0]
        names = sorted(
            {
                prefix + path.removeprefix(prefix).split("/")[0] + "/"
                for path in self.files
                if path.startswith(prefix) and "/" in path.removeprefix(prefix)
            }
        )
        first = int(query.get("continuation-token", ["0"])[0])
        shown, more = names[first : first + self.page], first + self.page < len(names)
        token = f"<NextContinuationToken>{first + self.page}</NextContinuationToken>"
        prefixes = "".join(f"<CommonPrefixes><Prefix>{n}</Prefix></CommonPrefixes>" for n in shown)
        return (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<IsTruncated>{str(more).lower()}</IsTruncated>{token if more else ''}{prefixes}"
            "</ListBucketResult>"
        ).encode()
