"""Selection, check, progress and the commands around them."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
from inspect import signature
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

import abc_dask
from abc_dask.acquire.check import State, check
from abc_dask.acquire.choose import diff, matrices_for, select, tables_for
from abc_dask.acquire.download import fetch
from abc_dask.acquire.progress import FetchProgress
from abc_dask.cli import cli
from abc_dask.errors import AbcDaskError, MissingFileError, ReleaseError
from abc_dask.release.manifest import Manifest
from tests import http_server as hs
from tests.small_release import VERSION, content_of, manifest_json, release_of


def cells_csv(rows):
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(["cell_label", "feature_matrix_label", "dataset_label", "x"])
    writer.writerows(rows)
    return text.getvalue().encode()


CELLS = cells_csv(
    [(f"cell-{i}", f"WMB-10Xv{v}-TH", f"WMB-10Xv{v}", i) for i in range(5) for v in (2, 3)]
)
X = "expression_matrices"
FILES = {
    f"metadata/WMB-10X/{VERSION}/cell_metadata.csv": CELLS,
    f"metadata/WMB-10X/{VERSION}/gene.csv": b"gene_identifier,gene_symbol\nENS1,A\n",
    f"metadata/WMB-10X/{VERSION}/region_of_interest_metadata.csv": content_of(30),
    f"metadata/WMB-10X/{VERSION}/views/cell_metadata_with_cluster_annotation.csv": content_of(40),
    f"metadata/WMB-10X/{VERSION}/views/example_genes_all_cells_expression.csv": content_of(50),
    f"{X}/WMB-10Xv2/{VERSION}/WMB-10Xv2-TH-log2.h5ad": content_of(1000, 1),
    f"{X}/WMB-10Xv2/{VERSION}/WMB-10Xv2-TH-raw.h5ad": content_of(1001, 2),
    f"{X}/WMB-10Xv2/{VERSION}/WMB-10Xv2-MB-log2.h5ad": content_of(1002, 3),
    f"{X}/WMB-10Xv2/{VERSION}/WMB-10Xv2-MB-raw.h5ad": content_of(1003, 3),
    f"{X}/WMB-10Xv3/{VERSION}/WMB-10Xv3-TH-log2.h5ad": content_of(1004, 4),
    f"{X}/imputed/{VERSION}/imputed-log2.h5ad": content_of(1005, 5),
}
MANIFEST = Manifest.from_json(manifest_json(FILES))
NEEDED = [
    "cell_metadata.csv",
    "gene.csv",
    "region_of_interest_metadata.csv",
    "cell_metadata_with_cluster_annotation.csv",
    "WMB-10Xv2-TH-log2.h5ad",
    "WMB-10Xv3-TH-log2.h5ad",
]


@pytest.fixture(autouse=True)
def _own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))


@pytest.fixture
def server():
    files = FILES | {f"releases/{VERSION}/manifest.json": manifest_json(FILES)}
    older = {k: v for k, v in FILES.items() if "WMB-10Xv3" not in k}
    older[f"metadata/WMB-10X/{VERSION}/gene.csv"] = b"other"
    files["releases/20240330/manifest.json"] = manifest_json(older, version="20240330")
    with hs.Server(files=files) as server:
        yield server


@pytest.fixture
def run(server):
    """Run a command against the server; errors become exit codes as the package's group does."""
    import dask.config

    @click.group()
    def group():
        pass

    for name in ("releases", "datasets", "diff", "fetch", "check"):
        group.add_command(cli.get_command(None, name))

    def invoke(*arguments, **options):
        server.forget()
        # click before 8.2 mixes the two streams unless told
        apart = {"mix_stderr": False} if "mix_stderr" in signature(CliRunner).parameters else {}
        return CliRunner(**apart).invoke(group, [str(a) for a in arguments], **options)

    config = {
        "abc-dask.base-url": server.url,
        "abc-dask.download.retries": 1,
        "abc-dask.download.backoff": 0.01,
    }
    with dask.config.set(config):
        yield invoke


def succeeded(result):
    assert result.exit_code == 0, (result.output, result.exception)
    return result.stdout


def names(entries):
    return [entry.relative_path.rpartition("/")[2] for entry in entries]


# -- selection


@pytest.mark.parametrize(
    ("patterns", "normalization", "expected"),
    [
        ([], "log2", []),
        (["WMB-10Xv2"], "log2", ["WMB-10Xv2-TH-log2.h5ad", "WMB-10Xv2-MB-log2.h5ad"]),
        (["WMB-10Xv2/"], "raw", ["WMB-10Xv2-TH-raw.h5ad", "WMB-10Xv2-MB-raw.h5ad"]),
        ([f"WMB-10Xv2/{X}/WMB-10Xv2-TH"], None,
         ["WMB-10Xv2-TH-log2.h5ad", "WMB-10Xv2-TH-raw.h5ad"]),
        (["WMB-10X/metadata/gene", "WMB-10X/metadata/gene"], "raw", ["gene.csv"]),
    ],
)  # fmt: skip
def test_select(patterns, normalization, expected):
    assert names(select(MANIFEST, patterns, normalization)) == expected


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("WMB-10", "no dataset 'WMB-10'; nearest: WMB-10X"),
        ("", "no dataset ''"),
        ("WMB-10X/tables", "no kind 'tables'; there are: metadata"),
        ("WMB-10X/metadata/genes", "no tag 'genes'; nearest: gene"),
        ("WMB-10X/metadata/gene/csv", "too many parts; expected DATASET"),
        ("imputed", "imputed not in normalization 'raw'; there is: log2"),
        ("WMB-10Xv3", "WMB-10Xv3-TH not in normalization 'raw'; there is: log2"),
    ],
)
def test_select_names_the_nearest(pattern, message):
    with pytest.raises(ReleaseError, match=message):
        select(MANIFEST, [pattern], "raw")


def test_tables_and_matrices_of_a_metadata_directory(tmp_path):
    release = release_of(tmp_path, FILES)
    assert sorted(names(tables_for(MANIFEST, "WMB-10X"))) == sorted(NEEDED[:4])
    assert names(tables_for(MANIFEST, "WMB-10X", annotations=False)) == NEEDED[:2]
    with pytest.raises(ReleaseError, match="no cell_metadata in 'WMB-10Xv2'"):
        tables_for(MANIFEST, "WMB-10Xv2")
    with pytest.raises(MissingFileError, match="cell_metadata"):
        matrices_for(release, "WMB-10X")
    path = release.path(tables_for(MANIFEST, "WMB-10X")[0])
    path.parent.mkdir(parents=True)
    path.write_bytes(CELLS)
    assert names(matrices_for(release, "WMB-10X")) == NEEDED[4:]
    with pytest.raises(ReleaseError, match="no normalization 'raw'"):
        matrices_for(release, "WMB-10X", "raw")


def test_diff():
    old = {"metadata/D/1/a.csv": b"a", "metadata/D/1/b.csv": b"b", "metadata/D/1/c.csv": b"c",
           "metadata/D/1/d.csv": b"d"}  # fmt: skip
    new = {"metadata/D/1/a.csv": b"a", "metadata/D/2/b.csv": b"b", "metadata/D/1/c.csv": b"C",
           "metadata/E/2/d.csv": b"d"}  # fmt: skip
    found = diff(Manifest.from_json(manifest_json(old)), Manifest.from_json(manifest_json(new)))
    assert [e.relative_path for e in found.added] == ["metadata/E/2/d.csv"]
    assert [e.relative_path for e in found.removed] == ["metadata/D/1/d.csv"]
    assert [b.relative_path for _, b in found.changed] == ["metadata/D/1/c.csv"]
    assert [b.relative_path for _, b in found.moved] == ["metadata/D/2/b.csv"]
    # where one of the two has no hashes, the path decides
    plain = Manifest.from_json(manifest_json(old, hashes=False))
    found = diff(plain, Manifest.from_json(manifest_json(new)))
    assert [b.relative_path for _, b in found.changed] == ["metadata/D/2/b.csv"]
    assert diff(MANIFEST, MANIFEST) == type(found)((), (), (), ())


# -- check


def test_check_tells_all_states(server, tmp_path):
    from abc_dask.acquire.settings import DownloadSettings
    from abc_dask.net.settings import HttpSettings

    release = release_of(tmp_path / "base", FILES)
    entries = list(release.manifest.files)
    settings = DownloadSettings(HttpSettings(server.url, retries=0))
    fetch(release, entries[:2], settings=settings)
    server.faults[entries[2].relative_path] = hs.drop(10)
    with pytest.raises(AbcDaskError):
        fetch(release, [entries[2]], settings=settings)
    for entry, content in zip(entries[3:6], [b"short", None, b"x"], strict=True):
        path = release.path(entry)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(FILES[entry.relative_path] if content is None
                         else content.ljust(entry.size if content == b"x" else 0))  # fmt: skip
    release.path(entries[6]).mkdir(parents=True)
    expected = ["complete"] * 2 + ["partial", "damaged", "unverified", "unverified", "damaged"]
    report = check(release)
    assert [f.state.value for f in report.files] == expected + ["missing"] * (len(entries) - 7)
    reasons = [f.reason for f in report.files]
    assert reasons[2] == "10 B of 30 B are there"
    assert reasons[3] == "5 bytes, the manifest says 40"
    assert reasons[4] == "its hash was not taken yet; --rehash takes it"
    assert reasons[6] == "not a regular file"
    again = check(release, rehash=True)
    assert [f.state.value for f in again.files][:7] == [
        "complete", "complete", "partial", "damaged", "complete", "damaged", "damaged"]  # fmt: skip
    assert "MD5" in again.files[5].reason
    # what was found is remembered
    assert [f.state for f in check(release).files] == [f.state for f in again.files]


def test_check_finds_a_flipped_bit_only_by_reading(server, tmp_path):
    from abc_dask.acquire.settings import DownloadSettings
    from abc_dask.net.settings import HttpSettings

    release = release_of(tmp_path / "base", FILES)
    entry = release.manifest.files[0]
    fetch(release, [entry], settings=DownloadSettings(HttpSettings(server.url)))
    path = release.path(entry)
    before = path.stat()
    with path.open("r+b") as file:
        file.write(b"X")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert check(release, [entry]).files[0].state is State.COMPLETE
    assert check(release, [entry], rehash=True).files[0].state is State.DAMAGED


def test_check_without_hashes_says_so(tmp_path):
    release = release_of(tmp_path, {"metadata/D/1/a.csv": b"a"}, hashes=False)
    path = tmp_path / "metadata/D/1/a.csv"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"a")
    for rehash in (False, True):
        checked = check(release, rehash=rehash).files[0]
        assert (checked.state, checked.reason) == (State.UNVERIFIED, "the manifest has no hash")


# -- commands


def test_releases(run, tmp_path, server):
    assert succeeded(run("releases")).split() == ["20240330", VERSION]
    succeeded(run("fetch", "WMB-10X/metadata/gene", "--download-base", tmp_path))
    assert succeeded(run("releases", "--download-base", tmp_path)).splitlines() == [
        "20240330", f"{VERSION}  on disk"]  # fmt: skip
    listed = json.loads(succeeded(run("releases", "--download-base", tmp_path, "--json")))
    assert listed[1] == {"release": VERSION, "on_server": True, "on_disk": True}
    server.faults["*"] = hs.status(500)
    offline = run("releases", "--download-base", tmp_path)
    assert succeeded(offline) == f"{VERSION}  on disk\n"
    assert "only what is on disk: " in offline.stderr
    assert isinstance(run("releases").exception, AbcDaskError)


def test_datasets(run):
    lines = succeeded(run("datasets", "--release", VERSION)).splitlines()
    assert lines[0] == f"release {VERSION}"
    assert [line.split() for line in lines if line.startswith("WMB-10Xv2")] == [
        ["WMB-10Xv2", X, "log2", "2", "2.0", "kB"],
        ["WMB-10Xv2", X, "raw", "2", "2.0", "kB"],
    ]
    listed = json.loads(succeeded(run("datasets", "--json")))
    assert listed["release"] == VERSION
    assert {"dataset_label": "imputed", "kind": X, "normalization": "log2", "files": 1,
            "size": 1005} in listed["datasets"]  # fmt: skip
    unknown = run("datasets", "--release", "20250530")
    assert "nearest: 20250531" in str(unknown.exception)


def test_diff_command(run):
    out = succeeded(run("diff", "20240330", VERSION))
    assert f"added   {X}/WMB-10Xv3/{VERSION}/WMB-10Xv3-TH-log2.h5ad  1.0 kB" in out
    assert f"changed metadata/WMB-10X/{VERSION}/gene.csv  5 B -> 35 B" in out
    found = json.loads(succeeded(run("diff", VERSION, "20240330", "--json")))
    assert names_of(found["removed"]) == ["WMB-10Xv3-TH-log2.h5ad"]
    assert found["changed"][0]["new"]["size"] == 5


def names_of(records):
    return [record["relative_path"].rpartition("/")[2] for record in records]


def test_fetch_dry_run_writes_nothing(run, tmp_path):
    base = tmp_path / "base"
    out = succeeded(run("fetch", "WMB-10Xv2", "--download-base", base, "--dry-run"))
    assert "WMB-10Xv2-TH-log2.h5ad  1.0 kB  fetch" in out
    assert f"2 files of release {VERSION}: 2.0 kB, 2.0 kB to fetch, " in out
    assert out.rstrip().endswith("free")
    assert not base.exists()


def test_fetch_for_brings_what_extract_needs(run, tmp_path, server):
    base = tmp_path / "base"
    dry = run("fetch", "--for", "WMB-10X", "--download-base", base, "--dry-run")
    assert "fetch WMB-10X/metadata/cell_metadata first" in dry.stderr
    result = run("fetch", "--for", "WMB-10X", "--download-base", base, "--json")
    there = [p.name for p in base.rglob("*") if p.suffix in {".csv", ".h5ad"}]
    assert sorted(there) == sorted(NEEDED)
    records = json.loads(succeeded(result))
    assert sorted(names_of(records)) == sorted(NEEDED)
    assert all(record["verified"] for record in records)
    again = run("fetch", "--for", "WMB-10X", "--download-base", base)
    assert "0 files fetched (0 B); 6 files there already" in again.stderr
    assert not server.requests
    dry = run("fetch", "--for", "WMB-10X", "--download-base", base, "--dry-run", "--json")
    dry = json.loads(succeeded(dry))
    assert (dry["to_fetch"], dry["matrices_unknown"]) == (0, [])


def test_fetch_for_genes_in(run, tmp_path):
    base = tmp_path / "base"
    succeeded(run("fetch", "--for-genes-in", "WMB-10X", "--download-base", base))
    there = [p.name for p in base.rglob("*") if p.suffix in {".csv", ".h5ad"}]
    assert sorted(there) == sorted(NEEDED[:2] + NEEDED[4:])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "nothing to fetch"),
        (["WMB-10"], "nearest: WMB-10X"),
        (["imputed", "--normalization", "raw"], "there is: log2"),
        (["--for", "WMB-10Xv2"], "no cell_metadata in 'WMB-10Xv2'"),
        (["WMB-10X", "--release", "1"], "has no release '1'"),
    ],
)
def test_fetch_of_what_is_not_there(run, tmp_path, arguments, message):
    result = run("fetch", *arguments, "--download-base", tmp_path)
    assert isinstance(result.exception, AbcDaskError)
    assert message in str(result.exception)


def test_a_large_fetch_asks(run, tmp_path, server, monkeypatch):
    import dask.config

    arguments = ["fetch", "WMB-10Xv2", "--download-base", tmp_path]
    with dask.config.set({"abc-dask.download.ask-above": "2 kB"}):
        refused = run(*arguments)
        assert refused.exception.exit_code == 2
        assert "2.0 kB to fetch" in str(refused.exception)
        assert "more than 2.0 kB need --yes" in str(refused.exception)
        monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True)
        declined = run(*arguments, input="n\n")
        assert "go on?" in declined.stderr
        assert "nothing fetched" in str(declined.exception)
        assert not server.total
        succeeded(run(*arguments, input="y\n"))
        assert server.total == 2002
        monkeypatch.undo()
        succeeded(run(*arguments, "--yes", "--workers", "2"))


def test_check_command(run, tmp_path):
    succeeded(run("fetch", "WMB-10Xv2", "--download-base", tmp_path, "-q"))
    result = run("check", "--download-base", tmp_path)
    assert f"complete   {X}/WMB-10Xv2/{VERSION}/WMB-10Xv2-TH-log2.h5ad\n" in succeeded(result)
    assert "missing    9 files (" in result.stdout
    assert f"release {VERSION}: 2 complete, 9 missing" in result.stderr
    path = tmp_path / f"{X}/WMB-10Xv2/{VERSION}/WMB-10Xv2-TH-log2.h5ad"
    path.write_bytes(b"x" * 1000)
    result = run("check", "--download-base", tmp_path, "--rehash", "--json")
    assert result.exit_code == 1
    states = {f["relative_path"]: f["state"] for f in json.loads(result.stdout)["files"]}
    assert states[path.relative_to(tmp_path).as_posix()] == "damaged"
    succeeded(run("fetch", "WMB-10Xv2", "--download-base", tmp_path, "-q"))
    succeeded(run("check", "--download-base", tmp_path))


def test_everything_but_fetch_works_without_network(run, tmp_path, server):
    succeeded(run("fetch", "--for", "WMB-10X", "--download-base", tmp_path))
    server.faults["*"] = hs.status(500)
    here = ["--download-base", tmp_path]
    for command in (["releases"], ["datasets"], ["check"], ["check", "--rehash"],
                    ["diff", VERSION, VERSION], ["fetch", "--for", "WMB-10X"],
                    ["fetch", "WMB-10Xv2", "--dry-run"]):  # fmt: skip
        succeeded(run(*command, *here))
    failed = run("fetch", "WMB-10Xv2", *here)
    assert "HTTP 500 (2 times)" in str(failed.exception)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_the_command_and_keeps_what_is_there(tmp_path, server, number, code):
    matrix = f"{X}/WMB-10Xv2/{VERSION}/WMB-10Xv2-TH-log2.h5ad"
    files = FILES | {matrix: content_of(2 << 20)}
    server.files |= files | {f"releases/{VERSION}/manifest.json": manifest_json(files)}
    server.faults[matrix] = hs.stall(1 << 20)
    root = str(Path(abc_dask.__file__).parents[1])
    command = [sys.executable, "-c", "from abc_dask.cli import main; main()"]
    arguments = ["fetch", f"WMB-10Xv2/{X}/WMB-10Xv2-TH", "--download-base", str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": root, "DASK_ABC_DASK__BASE_URL": server.url}
    with subprocess.Popen(
        [*command, *arguments, "--release", VERSION], env=environment, stderr=subprocess.PIPE
    ) as process:
        part = tmp_path / (matrix + ".part")
        while not part.exists() or part.stat().st_size < 1 << 20:
            assert process.poll() is None
        process.send_signal(number)
        errors = process.communicate(timeout=30)[1].decode()
    assert process.returncode == code, errors
    assert errors.splitlines()[-1].startswith("abc-dask: error: ")
    assert "Traceback" not in errors
    assert not (tmp_path / matrix).exists()
    assert (tmp_path / (matrix + ".part.json")).exists()


def test_importing_the_commands_is_light():
    heavy = ["dask", "pyarrow", "pandas", "requests", "numpy", "h5py", "tqdm", "numba"]
    code = (
        "import sys; import abc_dask.cli.releases; "
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    root = str(Path(abc_dask.__file__).parents[1])
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True
    )
    assert out.stdout.strip() == "[]"


# -- progress


def test_lines_now_and_then():
    now = [0.0]
    stream = io.StringIO()
    lines = FetchProgress(stream=stream, interval=10, clock=lambda: now[0])
    entry = MANIFEST.files[0]
    lines.begin(2, 1000)
    lines.start(entry, 100)
    lines.advance(entry, 200)
    now[0] = 11
    lines.advance(entry, 300)
    lines.finish(entry, "fetched")
    assert stream.getvalue().splitlines() == [
        f"fetch: 600 B of 1.0 kB; 0 of 2 files: {entry.relative_path}",
        f"fetch: 600 B of 1.0 kB; 1 of 2 files: {entry.relative_path} fetched",
    ]
    lines.begin(1, 100)
    lines.finish(entry, "there already")
    assert "0 B of 100 B; 1 of 1 file: " in stream.getvalue()


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_bars_on_a_terminal(server, tmp_path):
    from abc_dask.acquire.settings import DownloadSettings
    from abc_dask.net.settings import HttpSettings

    stream = Terminal()
    bars = FetchProgress(stream=stream)
    release = release_of(tmp_path, FILES, hashes=False)
    settings = DownloadSettings(HttpSettings(server.url))
    fetch(release, release.manifest.files, settings=settings, progress=bars)
    shown = stream.getvalue()
    assert "11 of 11 files" in shown
    assert "100%" in shown
    assert "gene.csv fetched, unverified: the manifest has no hash" in shown
    assert "gene.csv: " in shown, "each file on its way has a bar"


def test_a_terminal_that_goes_away_does_not_hang_the_fetch(server, tmp_path):
    from abc_dask.acquire.settings import DownloadSettings
    from abc_dask.net.settings import HttpSettings

    stream = io.StringIO()
    lines = FetchProgress(stream=stream)
    stream.close()
    release = release_of(tmp_path, FILES)
    report = fetch(
        release,
        release.manifest.files,
        settings=DownloadSettings(HttpSettings(server.url)),
        progress=lines,
    )
    assert len(report.files) == len(FILES)
