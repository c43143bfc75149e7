"""Two hundred extractions in one process, some broken off, some losing a worker: nothing grows."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from .drivers import FOLDER, INJECTED

SOAK = """
import gc, json, os, random, signal, sys, threading, time
from pathlib import Path
import numpy as np
import psutil
from abc_dask import Atlas
from abc_dask.base.errors import ClusterError
from abc_dask.testing import reference_table

base, folder, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
rng = random.Random(1)
atlas = Atlas(base)
symbols = atlas.genes["gene_symbol"].drop_duplicates(keep=False)
paths = {p.name.removesuffix("-log2.h5ad"): p for p in base.rglob("*-log2.h5ad")}
(cells,) = base.rglob("cell_metadata.csv")
whole = reference_table(cells, paths, list(symbols.index)).set_axis(list(symbols), axis=1)
process = psutil.Process()
looks, stopped, killed = [], 0, 0

def kill_a_worker(end):
    # as soon as there is one
    while time.monotonic() < end:
        workers = [p for p in process.children() if "spawn_main" in " ".join(p.cmdline())]
        if workers:
            rng.choice(workers).kill()
            return
        time.sleep(0.01)

for number in range(count):
    chosen = rng.sample(list(symbols), rng.randint(1, 12))
    out = folder / ("v." + rng.choice(["parquet", "zarr", "csv"]))
    options = {"block_size": rng.choice([20_000, 90_000])}
    timer = None
    if number % 20 == 7:
        options["workers"] = 2
        timer = threading.Timer(rng.uniform(0.0, 2.0), kill_a_worker, [time.monotonic() + 30])
        killed += 1
    elif rng.random() < 0.25:
        timer = threading.Timer(rng.uniform(0.0, 0.16), os.kill, (os.getpid(), signal.SIGINT))
    try:
        if timer is not None:
            timer.start()
        view = atlas.extract(chosen, out, overwrite=True, **options)
        if timer is not None:
            timer.cancel()
            timer.join()
        view.verify()
        found = view.to_pandas()
        assert list(found.index) == list(whole.index)
        assert np.array_equal(found.to_numpy(), whole[chosen].to_numpy(), equal_nan=True)
        time.sleep(0.01)  # a signal that came at the end is taken here
    except KeyboardInterrupt:
        stopped += 1
    except ClusterError as error:  # a worker died before all were there
        assert "failed to start" in str(error), error
        assert killed
    if number % 10 == 9:
        gc.collect()
        time.sleep(0.2)
        looks.append([process.memory_info().rss, process.num_fds(), process.num_threads(),
                      len(list(folder.iterdir())), len(process.children(recursive=True)),
                      len(list(base.rglob(".*.tmp")))])
print(json.dumps({"looks": looks, "stopped": stopped, "killed": killed}))
"""


@pytest.mark.slow
def test_nothing_grows(tiny, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SOAK, str(tiny.download_base), str(out), "200"],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    print(found)
    looks = found["looks"]
    assert found["stopped"] > 20
    assert found["killed"] == 10
    INJECTED["int in a soak"] += found["stopped"]
    INJECTED["worker killed in a soak"] += found["killed"]
    early, late = looks[4], looks[-1]
    assert late[0] - early[0] < 25_000_000, looks
    # what a signal broke off may be let go a little later
    assert late[1] <= early[1] + 4, looks
    assert late[2] <= early[2] + 4, looks
    # at most a view, its description and what is unfinished of each format
    assert late[3] <= 9, looks
    # the one that tracks shared resources, which multiprocessing keeps
    assert late[4] <= 1, looks
    # a table beside the atlas that an interruption broke off is removed at once
    assert late[5] == 0, looks
