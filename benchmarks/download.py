"""Throughput of a fetch on loopback, against curl and a plain `requests` stream.

    python -m benchmarks.download [--size 1GB] [--rounds 3] [--folder DIR]

One large file comes from a server of its own process (`os.sendfile`, so that it is not
what is measured). In turn, round after round:

- ``fetch``: abc_dask, with ranges, journal, hash, fsync and rename;
- ``curl``: writes the file, checks nothing;
- ``curl+md5``: the same, then the hash in a second pass, then fsync;
- ``requests``: one stream written piece by piece, hashed after.

Prints a table of medians; appends one JSON row to `--results`.
"""

from __future__ import annotations

import argparse
import hashlib
import http.server
import multiprocessing
import os
import re
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import dask.utils

from benchmarks.measure import write_row

PATH = "expression_matrices/D/1/D-log2.h5ad"


class _Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    file = Path()

    def do_GET(self) -> None:
        size = self.file.stat().st_size
        start, stop = 0, size
        match = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        if match:
            start, stop = int(match[1]), int(match[2]) + 1
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{size}")
        else:
            self.send_response(200)
        self.send_header("ETag", '"made-up"')
        self.send_header("Content-Length", str(stop - start))
        self.end_headers()
        with self.file.open("rb") as file:
            while start < stop:
                start += os.sendfile(self.connection.fileno(), file.fileno(), start, stop - start)

    def log_message(self, *_: object) -> None:
        pass


def serve(file: str, port: multiprocessing.Queue[int]) -> None:
    _Handler.file = Path(file)
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    port.put(server.server_address[1])
    server.serve_forever()


def make_file(path: Path, size: int) -> str:
    digest = hashlib.md5(usedforsecurity=False)
    block = os.urandom(1 << 20)
    with path.open("wb") as file:
        left = size
        while left:
            piece = block[: min(left, len(block))]
            file.write(piece)
            digest.update(piece)
            left -= len(piece)
    return digest.hexdigest()


FETCH = """
import resource, sys, time
from pathlib import Path
from abc_dask.acquire.fetch import fetch
from abc_dask.acquire.settings import FetchSettings
from abc_dask.net.settings import HttpSettings
from abc_dask.release.manifest import FileEntry, Manifest
from abc_dask.release.release import Release
base, url, path, size, md5, workers = sys.argv[1:]
entry = FileEntry("D", "expression_matrices", "D", "log2", "h5ad", "1", path, "", int(size), md5)
release = Release(Path(base).resolve(), Manifest("1", "", (entry,)))
settings = FetchSettings(HttpSettings(url), workers=int(workers))
start = time.perf_counter()
assert fetch(release, [entry], settings=settings).files[0].verified
print(time.perf_counter() - start, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""

REQUESTS = """
import hashlib, sys, time
import requests
base, url, path, size, md5, _ = sys.argv[1:]
start = time.perf_counter()
with requests.get(url + path, stream=True) as answer, open(base + "/file", "wb") as file:
    for piece in answer.iter_content(1 << 20):
        file.write(piece)
with open(base + "/file", "rb") as file:
    digest = hashlib.file_digest(file, "md5")
assert digest.hexdigest() == md5
print(time.perf_counter() - start, 0)
"""


def in_python(code: str, arguments: list[str]) -> tuple[float, float]:
    command = [sys.executable, "-c", code, *arguments]
    out = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    seconds, kilobytes = out.split()
    return float(seconds), float(kilobytes) * 1024


def curl(base: str, url: str, *, md5: bool) -> tuple[float, float]:
    target = f"{base}/file"
    start = time.perf_counter()
    subprocess.run(["curl", "-sf", "-o", target, url + PATH], check=True)
    if md5:
        with Path(target).open("rb") as file:
            hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False))
            os.fsync(file.fileno())
    return time.perf_counter() - start, 0.0


def cpu_seconds() -> float:
    """CPU time of this process and of those it has waited for; the server is neither."""
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--size", default="1GB")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--folder", help="where to write; a temporary folder where not given")
    parser.add_argument("--results", type=Path, default=Path("benchmark-results.jsonl"))
    options = parser.parse_args()
    size = dask.utils.parse_bytes(options.size)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        source = Path(folder) / "source"
        md5 = make_file(source, size)
        context = multiprocessing.get_context("spawn")
        port: multiprocessing.Queue[int] = context.Queue()
        server = context.Process(target=serve, args=(str(source), port), daemon=True)
        server.start()
        url = f"http://127.0.0.1:{port.get()}/"
        ways = {
            "fetch": lambda arguments: in_python(FETCH, arguments),
            "curl": lambda arguments: curl(*arguments[:2], md5=False),
            "curl+md5": lambda arguments: curl(*arguments[:2], md5=True),
            "requests": lambda arguments: in_python(REQUESTS, arguments),
        }
        if shutil.which("curl") is None:
            ways = {name: way for name, way in ways.items() if "curl" not in name}
        seconds: dict[str, list[float]] = {name: [] for name in ways}
        memory: list[float] = []
        cpu: dict[str, list[float]] = {name: [] for name in ways}
        for _ in range(options.rounds):
            for name, way in ways.items():
                base = Path(folder) / "base"
                base.mkdir()
                arguments = [str(base), url, PATH, str(size), md5, str(options.workers)]
                before = cpu_seconds()
                taken, peak = way(arguments)
                cpu[name].append(cpu_seconds() - before)
                seconds[name].append(taken)
                if name == "fetch":
                    memory.append(peak)
                shutil.rmtree(base)
                os.sync()
        server.terminate()
    rates = {name: size / 1e6 / statistics.median(values) for name, values in seconds.items()}
    print(f"medians of {options.rounds} rounds; CPU seconds are the client's, start included")
    print(f"{'way':10} {'MB/s':>7} {'seconds':>8} {'least':>8} {'CPU s':>7}")
    for name, rate in rates.items():
        values, used = seconds[name], statistics.median(cpu[name])
        median = statistics.median(values)
        print(f"{name:10} {rate:7.0f} {median:8.2f} {min(values):8.2f} {used:7.2f}")
    row = {
        "bytes": size,
        "rounds": options.rounds,
        "workers": options.workers,
        "mb_per_s": {name: round(rate, 1) for name, rate in rates.items()},
        "least_s": {name: round(min(values), 2) for name, values in seconds.items()},
        "cpu_s": {name: round(statistics.median(values), 2) for name, values in cpu.items()},
        "fetch_peak_memory_mb": round(max(memory) / 1e6, 1),
    }
    print(f"peak memory of fetch: {row['fetch_peak_memory_mb']} MB")
    write_row(options.results, "download", row)


if __name__ == "__main__":
    main()
