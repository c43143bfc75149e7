"""Two hundred extractions in one process, some broken off: nothing grows."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from .drivers import FOLDER

SOAK = """
import gc, json, os, random, signal, sys, threading, time
from pathlib import Path
import psutil
from abc_dask import Atlas
from abc_dask.errors import AbcDaskError

base, folder, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
rng = random.Random(1)
atlas = Atlas(base)
genes = list(atlas.genes["gene_symbol"].drop_duplicates(keep=False))
process = psutil.Process()
looks, stopped = [], 0
for number in range(count):
    chosen = rng.sample(genes, rng.randint(1, 12))
    out = folder / ("v." + rng.choice(["parquet", "zarr", "csv"]))
    timer = None
    if rng.random() < 0.25:
        timer = threading.Timer(rng.uniform(0.05, 0.4), os.kill, (os.getpid(), signal.SIGINT))
        timer.start()
    try:
        view = atlas.extract(chosen, out, overwrite=True, block_size=rng.choice([20_000, 90_000]))
        if timer is not None:
            timer.cancel()
            timer.join()
        view.verify()
    except KeyboardInterrupt:
        stopped += 1
    if number % 10 == 9:
        gc.collect()
        time.sleep(0.2)
        looks.append([process.memory_info().rss, process.num_fds(), process.num_threads(),
                      len(list(folder.iterdir()))])
print(json.dumps({"looks": looks, "stopped": stopped}))
"""


@pytest.mark.slow
def test_nothing_grows(tiny, tmp_path):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SOAK, str(tiny.download_base), str(tmp_path), "200"],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    found = json.loads(done.stdout.splitlines()[-1])
    print(found)
    looks = found["looks"]
    assert found["stopped"] > 5
    early, late = looks[4], looks[-1]
    assert late[0] - early[0] < 60_000_000, looks
    assert late[1] <= early[1] + 4, looks
    assert late[2] <= early[2] + 4, looks
    # at most a view, its description and what is unfinished of each format
    assert late[3] <= 9, looks
