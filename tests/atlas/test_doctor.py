"""What `abc-dask doctor` finds, and what it says to do."""

from __future__ import annotations

import json
import shutil
from types import SimpleNamespace

import dask
import pytest

from abc_dask.atlas import doctor
from abc_dask.base.errors import DownloadError
from abc_dask.run import costs
from abc_dask.run.costs import kept_rate
from tests.command_line import run_cli


@pytest.fixture(autouse=True)
def own_rates(tmp_path, monkeypatch):
    """Rates of this test alone."""
    monkeypatch.setattr(costs, "rates_file", lambda: tmp_path / "cache" / "rates.json")
    monkeypatch.setattr(doctor, "rates_file", lambda: tmp_path / "cache" / "rates.json")


@pytest.fixture
def without_reading(monkeypatch):
    """Leave the reading test out, which takes a second."""
    monkeypatch.setattr(doctor, "read_test", lambda: "not tried")


def findings(*output, **options) -> dict[str, doctor.Finding]:
    return {found.name: found for found in doctor.examine(*output, **options)}


def test_a_machine_that_is_fit(tmp_path):
    done = run_cli("doctor", tmp_path / "v.parquet", "--json")
    told = {one["name"]: one for one in json.loads(done.stdout)}
    assert not any(one["is_needed"] for one in told.values())
    for name in ("abc_dask", "Python", "libraries", "cores", "memory", "cache", "output"):
        assert told[name]["found"], name
    assert "network" not in told, "only where it is asked for"
    assert "of stored values" in told["reading"]["found"]
    kept = kept_rate("extract", 10**6)
    assert kept.kind == "test"
    # indices of 4,000 cells with 1,000 genes each; values of other genes are not read
    assert kept.n_bytes == 4_000 * 1_000 * 4


@pytest.mark.usefixtures("without_reading")
def test_libraries_that_are_absent_or_too_old(monkeypatch):
    def there(name):
        return {"zarr": "3.0.0", "h5py": None, "matplotlib": None}.get(name.lower(), "9999")

    monkeypatch.setattr(doctor, "_installed", there)
    found = findings()
    assert found["libraries"].is_needed
    assert found["libraries"].found == "2 libraries absent or too old"
    assert "'zarr>=" in found["libraries"].advice
    assert "'h5py>=" in found["libraries"].advice
    assert not found["plot"].is_needed
    assert "'matplotlib>=" in found["plot"].advice
    done = run_cli("doctor", code=1)
    assert "wrong libraries    2 libraries absent or too old; pip install '" in done.stdout
    assert "note  plot" in done.stdout
    assert "ok    jobqueue" in done.stdout


@pytest.mark.usefixtures("without_reading")
def test_folders_that_cannot_be_written(tmp_path):
    (tmp_path / "cache").write_text("a file")
    found = findings("/proc/none/v.parquet")
    assert "cannot be written" in found["cache"].found
    assert "abc-dask.cache-directory" in found["cache"].advice
    assert not found["cache"].is_needed, "tables lie beside the atlas as well"
    with dask.config.set({"abc-dask.cache-directory": str(tmp_path / "cache")}):
        assert findings()["cache"].is_needed


@pytest.mark.usefixtures("without_reading")
def test_little_memory_and_room(monkeypatch):
    monkeypatch.setattr("distributed.system.MEMORY_LIMIT", 10**9)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(total=10**9, free=10**6))
    found = findings()
    assert "give the job or container more" in found["memory"].advice
    assert "make room" in found["cache"].advice
    assert "make room" in found["temporary"].advice
    assert not any(one.is_needed for one in found.values())


@pytest.mark.usefixtures("without_reading")
def test_batch_systems(monkeypatch):
    monkeypatch.setattr(doctor.shutil, "which", lambda name: name if name == "sbatch" else None)
    assert findings()["batch system"].found == "slurm found"
    monkeypatch.setattr(doctor.shutil, "which", lambda _: None)
    assert "none found" in findings()["batch system"].found


@pytest.mark.usefixtures("without_reading")
def test_the_server_is_asked_where_that_is_wanted(monkeypatch):
    ask = "abc_dask.acquire.remote.list_remote_releases"
    monkeypatch.setattr(ask, lambda: ["20240330", "20250531"])
    assert "has 2 releases, up to 20250531" in findings(network=True)["network"].found

    def fails():
        raise DownloadError("no answer")

    monkeypatch.setattr(ask, fails)
    found = findings(network=True)["network"]
    assert (found.is_needed, found.advice) == (True, "no answer")


def test_reading_that_does_not_work(monkeypatch):
    def fails(_path):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(doctor, "_write_matrix", fails)
    found = list(doctor.examine())[-1]
    assert found.name == "reading"
    assert found.is_needed
    assert "No space left on device" in found.advice
