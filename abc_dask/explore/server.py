"""The page on this machine alone: a random port, a secret in the path, nothing to write.

What a page elsewhere in the same browser could try is refused: a name of its own that it
has point here (the Host is compared), guessing (the path has 128 random bits), reading the
answer (no CORS, and Cross-Origin-Resource-Policy), and starting work (only markers of a store
are asked for by POST, by the page's own origin, and one run at a time).
"""

from __future__ import annotations

import contextlib
import gzip
import http.server
import json
import re
import secrets
import tempfile
import threading
import weakref
from collections import OrderedDict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from abc_dask.base.errors import AbcDaskError, UsageError
from abc_dask.explore.build import META, Prepared, Progress, prepare
from abc_dask.explore.contents import Contents

if TYPE_CHECKING:
    from abc_dask.explore.marker_runs import MarkerRuns

HOST = "127.0.0.1"

_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".json": "application/json",
    ".csv": "text/csv; charset=utf-8",
    ".bin": "application/octet-stream",
}

POLICY = (
    "default-src 'none'; script-src 'self'; worker-src 'self'; style-src 'self'; "
    "img-src 'self' data: blob:; connect-src 'self'; base-uri 'none'; form-action 'none'"
)

_NO_FRAME = "frame-ancestors 'none'"

# Who may show the page in a frame, where that was asked for: pages of this machine, notebooks
# in Visual Studio Code among them.
_FRAMES = (
    "frame-ancestors http://127.0.0.1:* http://localhost:* https://127.0.0.1:* "
    "https://localhost:* vscode-webview: vscode-file:"
)

_TEXTS = (".html", ".js", ".css", ".json")

_MADE = re.compile(r"(genes|exact)/(\d{1,9})\.bin")

_RUN = re.compile(r"markers/(\d{1,9})\.(json|csv)")

_RANGE = re.compile(r"bytes=(\d{1,15})-(\d{1,15})")

# Files of genes that are kept in memory.
_KEPT_BYTES = 256 << 20

_TIMEOUT = 30


class Served:
    """What a server answers with: a folder's files, and genes that are made when asked for.

    Parameters
    ----------
    prepared : Prepared
    runs : MarkerRuns, optional
        Markers of selections.
    """

    def __init__(self, prepared: Prepared, runs: MarkerRuns | None = None) -> None:
        folder = prepared.folder
        self.runs = runs
        self._prepared = prepared
        self._files = {
            path.relative_to(folder).as_posix(): path
            for path in folder.rglob("*")
            if path.is_file()
        }
        self._kept: OrderedDict[str, bytes] = OrderedDict()
        self._packed: dict[str, bytes] = {}
        self._lock = threading.Lock()

    def packed(self, name: str) -> bytes:
        """Return a file of text as a gzip stream, which is made once."""
        if name not in self._packed:
            self._packed[name] = gzip.compress(self._files[name].read_bytes(), mtime=0)
        return self._packed[name]

    def packs(self, name: str) -> bool:
        """Return whether gzip makes a file smaller: it is text, not a tile."""
        return name in self._files and name.endswith(_TEXTS)

    def content(self, name: str) -> bytes | None:
        """Return a file's bytes; None where there is no such file."""
        if name in self._files:
            return self._files[name].read_bytes()
        asked = _RUN.fullmatch(name)
        if asked and self.runs is not None:
            run = self.runs.find(int(asked[1]))
            if run is None or asked[2] == "csv":
                return None if run is None else run.csv()
            return json.dumps(run.describe()).encode()
        made = _MADE.fullmatch(name)
        if not made or int(made[2]) >= len(self._prepared.contents.genes):
            return None
        with self._lock:  # one gene at a time: each needs its own memory
            if name not in self._kept:
                self._kept[name] = self._prepared.file(made[1], int(made[2]))
                while sum(map(len, self._kept.values())) > _KEPT_BYTES and len(self._kept) > 1:
                    self._kept.popitem(last=False)
            self._kept.move_to_end(name)
            return self._kept[name]


def _takes_gzip(accepted: str) -> bool:
    """Return whether an Accept-Encoding has gzip, by name or as one of all, and not with q=0."""
    weights = {}
    for part in accepted.lower().split(","):
        coding, _, weight = part.replace(" ", "").partition(";")
        weights[coding] = not re.fullmatch(r"q=0(\.0*)?", weight)
    return weights.get("gzip", weights.get("*", False))


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "abc-dask", ""
    timeout = _TIMEOUT
    server: Server

    def _name(self) -> str | None:
        """Return what is asked for; None where the answer is no already."""
        if self.headers.get("Host") not in self.server.hosts:
            self._answer(403, b"this server is asked by another name\n")
            return None
        path = self.path.partition("?")[0]
        first, _, name = path.removeprefix("/").partition("/")
        if not secrets.compare_digest(first.encode(), self.server.token.encode()):
            self._answer(404, b"no such page\n")
            return None
        return name

    def do_POST(self) -> None:
        """Begin to look for markers of two selections, ``markers/METHOD``, or end that."""
        self.close_connection = True  # a body that is refused is not read
        name, runs = self._name(), self.server.served.runs
        if name is None:
            return
        if self.headers.get("Origin") not in {f"http://{host}" for host in self.server.hosts}:
            self._answer(403, b"only the page itself may ask for this\n")
            return
        if runs is None or not name.startswith("markers/"):
            self._answer(405, b"there is nothing to write\n")
            return
        if name == "markers/cancel":
            runs.cancel()
            self._answer(200, b"{}", {"Content-Type": _TYPES[".json"]})
            return
        if self.headers.get("Content-Length") != str(runs.n_bytes):
            self._answer(413, f"{runs.n_bytes} bytes are two selections\n".encode())
            return
        try:
            run = runs.begin(name.partition("/")[2], self.rfile.read(runs.n_bytes))
        except AbcDaskError as error:
            self._answer(400, f"{error}\n".encode())
            return
        said = json.dumps(run.describe()).encode()
        self._answer(202, said, {"Content-Type": _TYPES[".json"]})

    def do_GET(self) -> None:
        """Answer with a file, or some of its bytes."""
        name = self._name()
        if name is None:
            return
        name = name or "index.html"
        try:
            content = self.server.served.content(name)
        except (AbcDaskError, OSError) as error:
            self._answer(500, f"{error}\n".encode())
            return
        if content is None:
            self._answer(404, b"no such file\n")
        else:
            self._send(name, content)

    def _send(self, name: str, content: bytes) -> None:
        kind = _TYPES.get(Path(name).suffix, "application/octet-stream")
        headers = {"Content-Type": kind, "Accept-Ranges": "bytes"}
        packs = self.server.served.packs(name)
        if packs:
            headers["Vary"] = "Accept-Encoding"
        if name.endswith((".js", ".css")):  # a worker need not fetch its modules again
            headers["Cache-Control"] = "private, max-age=3600"
        asked = _RANGE.fullmatch(self.headers.get("Range", ""))
        if asked and int(asked[1]) <= int(asked[2]):
            start, stop = int(asked[1]), min(int(asked[2]) + 1, len(content))
            if start >= len(content):
                self._answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
                return
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{len(content)}"
            self._answer(206, content[start:stop], headers)
            return
        if packs and _takes_gzip(self.headers.get("Accept-Encoding", "")):
            headers["Content-Encoding"] = "gzip"
            content = self.server.served.packed(name)
        self._answer(200, content, headers)

    def _answer(self, status: int, content: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        fields = {
            "Content-Type": "text/plain; charset=utf-8",
            "Content-Length": str(len(content)),
            "Content-Security-Policy": self.server.policy,
            "X-Content-Type-Options": "nosniff",
            "Referrer-Policy": "no-referrer",
            "Cross-Origin-Resource-Policy": "same-origin",
            "Cache-Control": "no-store",
        }
        for key, value in (fields | (headers or {})).items():
            self.send_header(key, value)
        self.end_headers()
        with contextlib.suppress(ConnectionError):
            self.wfile.write(content)

    def log_message(self, *_: Any) -> None:
        """Stay silent: the address with its secret belongs into no log."""


class Server(http.server.ThreadingHTTPServer):
    """Answers on loopback, to those who know the secret."""

    daemon_threads = True

    def __init__(self, port: int, served: Served, *, framed: bool) -> None:
        super().__init__((HOST, port), _Handler)
        self.served = served
        self.token = secrets.token_urlsafe(16)
        number = self.server_address[1]
        self.hosts = {f"{HOST}:{number}", f"localhost:{number}"}
        self.policy = f"{POLICY}; {_FRAMES if framed else _NO_FRAME}"

    @property
    def url(self) -> str:
        """Address of the page."""
        return f"http://{HOST}:{self.server_address[1]}/{self.token}/"

    def handle_error(self, *_: Any) -> None:
        """Stay silent: a browser that went away is no error of ours."""


def _runs_of(prepared: Prepared) -> MarkerRuns | None:
    """Return what finds markers, where a store is behind the page."""
    from abc_dask.explore.store_contents import StoreContents

    if not isinstance(prepared.contents, StoreContents):
        return None
    from abc_dask.explore.marker_runs import MarkerRuns

    return MarkerRuns(prepared.contents, prepared.layout.order)


class Explorer:
    """The page of a view or a store, served to this machine until it is closed.

    Parameters
    ----------
    contents : Contents
    port : int
        0 for any free one.
    framed : bool
        Whether another page of this machine, such as a notebook, may show it in a frame.
    progress : callable, optional
        As `abc_dask.explore.build.build_folder` calls it.

    Raises
    ------
    UsageError
        If the port is in use, or no cell has a place.
    """

    def __init__(
        self,
        contents: Contents,
        *,
        port: int = 0,
        framed: bool = False,
        progress: Progress | None = None,
    ) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="abc-dask-explore-")
        try:
            folder = Path(self._scratch.name) / "page"
            self._prepared = prepare(
                contents, folder, exact=True, served=True, name=contents.name, progress=progress
            )
            runs = _runs_of(self._prepared)
            self._server = Server(port, Served(self._prepared, runs), framed=framed)
        except BaseException as error:
            self._scratch.cleanup()
            if isinstance(error, OSError | OverflowError) and port:
                reason = getattr(error, "strerror", None) or error
                raise UsageError(f"port {port} cannot be used: {reason}; name another") from None
            raise
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.2,), name="abc-dask-explore", daemon=True
        )
        self._end = weakref.finalize(self, _end, self._server, self._thread, runs, self._scratch)

    @property
    def url(self) -> str:
        """Address of the page, with its secret."""
        return self._server.url

    def serve(self) -> None:
        """Answer until interrupted; `close` then."""
        self._server.serve_forever(poll_interval=0.2)

    def start(self) -> Explorer:
        """Answer in a thread, until closed or nobody has this object any more; return at once."""
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop answering, end a search for markers, and remove what was made."""
        self._end()

    def __repr__(self) -> str:
        """Say where it is."""
        return f"<Explorer of {self._prepared.contents.name}: {self.url}>"

    def _repr_html_(self) -> str:
        cells = f"{self._prepared.contents.n_cells:,} cells"
        return (
            f'<iframe src="{self.url}" title="Explorer of {cells}" width="100%" height="640" '
            'style="border: 1px solid #8888" allow="clipboard-write"></iframe>'
            f'<p><a href="{self.url}" target="_blank" rel="noopener">Open in a tab of its own</a>; '
            "both work where the browser runs on the same machine as Python.</p>"
        )


def _end(
    server: Server,
    thread: threading.Thread,
    runs: MarkerRuns | None,
    scratch: tempfile.TemporaryDirectory[str],
) -> None:
    """Stop a page's server and its search for markers, and remove what it served."""
    if threading.current_thread().daemon:  # garbage is collected by one that this would wait for
        arguments = (server, thread, runs, scratch)
        threading.Thread(target=_end, args=arguments, daemon=False).start()
        return
    if thread.is_alive():
        server.shutdown()
    if runs is not None:
        runs.cancel()
    server.server_close()
    scratch.cleanup()


def static_lines(folder: Path) -> str:
    """Return what to do with a folder: the line that serves it on this machine."""
    meta = json.loads((folder / META).read_bytes())
    return (
        f"{folder}: {meta['cells']:,} cells, {meta['genes']:,} genes; any web server can serve it\n"
        f"  python -m http.server --bind {HOST} --directory {json.dumps(str(folder))}"
    )
