"""A warm process that forks: runs the command many times, each time with one fault in it.

``python -m tests.faults.zygote`` reads one request a line on stdin and answers each with one
line on stdout. A request is run in a forked child, in a session of its own, as
``abc-dask`` would: with the interpreter's own end, so that threads left over are seen.
"""

from __future__ import annotations

import atexit
import json
import os
import signal
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import dask.config

from tests.waiting import PATIENCE


def serve() -> dict[str, Any] | None:
    """Answer requests; in a child, give the request to be run."""
    print("ready", flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        child = os.fork()
        if child == 0:
            return dict(request)
        code = _wait(child, float(request.get("seconds", PATIENCE)))
        print(json.dumps({"code": code, "pid": child}), flush=True)
    return None


def _wait(child: int, seconds: float) -> int | str:
    end = time.monotonic() + seconds
    pause = 0.002
    while time.monotonic() < end:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        time.sleep(pause)
        pause = min(pause * 1.5, 0.05)
    os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return "hangs"


def warm_up() -> None:
    """Load what every command would load for itself; no thread is started by that."""
    import anndata  # noqa: F401
    import dask.dataframe  # noqa: F401
    import distributed  # noqa: F401
    import matplotlib.backends.backend_agg  # noqa: F401
    import zarr.codecs  # noqa: F401

    import abc_dask.analysis.plots.figures
    import abc_dask.analysis.report.page
    import abc_dask.atlas
    import abc_dask.cli.cells
    import abc_dask.cli.extract
    import abc_dask.cli.report
    import abc_dask.cli.store
    import abc_dask.cli.summarize
    import abc_dask.cli.text
    import abc_dask.cli.view
    import abc_dask.matrix.search_loops
    import abc_dask.run.build_store
    import abc_dask.run.cluster.local
    import abc_dask.run.extraction
    import abc_dask.run.fetching
    import abc_dask.run.make_store
    import abc_dask.run.store_export
    import abc_dask.run.subset  # noqa: F401
    from abc_dask._version import build
    from abc_dask.base.config import setting

    from .judge import warm_up as read_some
    from .mutations import write_base

    build()  # it and the settings are read once a process
    setting("block-size")
    with tempfile.TemporaryDirectory() as folder:
        for stored in ("plain", "gzip+shuffle"):
            read_some(write_base(Path(folder) / "warm.h5ad", stored), Path(folder))


def become(request: dict[str, Any]) -> None:
    """Turn a forked child into the command, or run Python's text; its output in files."""
    os.setsid()
    for number, name in ((1, "out"), (2, "err")):
        descriptor = os.open(request[name], os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        os.dup2(descriptor, number)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if "env" in request:
        os.environ.update(request["env"])
        dask.config.refresh()  # its settings were read when it was loaded
    if request.get("fault"):
        from .injection import install

        install(**request["fault"])
    if "cwd" in request:
        os.chdir(request["cwd"])
    if "python" in request:
        exec(compile(request["python"], "text", "exec"), {})
        # as the command ends: to take modules apart takes longer than most texts
        threading._shutdown()
        atexit._run_exitfuncs()
        sys.stdout.flush()
        os._exit(0)
    from abc_dask.cli import main

    sys.argv = ["abc-dask", *request["argv"]]
    main()


if __name__ == "__main__":
    warm_up()
    asked = serve()
    if asked is not None:
        become(asked)
