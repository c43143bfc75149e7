"""The command line: contracts, exit codes, one-line errors, and a quiet network."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys

import dask.cli
import pandas as pd
import psutil
import pytest
from click.testing import CliRunner

from abc_dask import Atlas, open_view
from abc_dask.cli import cli
from abc_dask.testing import REFERENCE_GENES, Quirks, write_atlas
from tests.oracle import assert_same, expected_table
from tests.waiting import PATIENCE


@pytest.fixture
def run():
    def run(*arguments, input=None):
        return CliRunner().invoke(cli, [str(a) for a in arguments], input=input)

    return run


@pytest.fixture
def base(plain_atlas):
    return plain_atlas.download_base


def fails(result, code, message):
    """One line on stderr, no traceback, the right exit code."""
    assert result.exit_code == code, result.output
    lines = result.stderr.strip().splitlines()
    assert len(lines) == 1, result.stderr
    assert re.search(message, lines[0]), lines[0]
    assert lines[0].startswith("abc-dask: error: ")


def test_matrices(run, base, plain_atlas):
    shown = run("matrices", "--download-base", base)
    assert shown.exit_code == 0
    assert "WMB-10Xv2-TH" in shown.output
    assert f"4 feature matrices, {plain_atlas.n_cells:,} cells" in shown.output
    listed = json.loads(run("matrices", "--download-base", base, "--json").output)
    assert {m["feature_matrix_label"]: m["cell_count"] for m in listed} == dict(plain_atlas.cells)
    assert all(m["present"] for m in listed)
    raw = run("matrices", "--download-base", base, "--normalization", "raw")
    assert "WMB-10Xv2-TH-raw.h5ad" in raw.output


def test_genes(run, base):
    found = run("genes", "--download-base", base, "Tac2", "Slc6a")
    assert found.exit_code == 0
    assert re.search(r"Tac2 +Tac2 +ENSMUSG00000025400", found.output)
    assert found.output.count("Slc6a") == 8
    unknown = run("genes", "--download-base", base, "Tac2", "Tca2")
    assert unknown.exit_code == 2
    assert "ENSMUSG00000025400" in unknown.output
    assert "contains 'Tca2'; nearest: Tac2" in unknown.stderr
    as_json = json.loads(run("genes", "--download-base", base, "Tac2", "--json").output)
    assert as_json["Tac2"][0]["gene_identifier"] == "ENSMUSG00000025400"


def test_genes_says_which_are_ambiguous(run, base):
    symbols = Atlas(base).genes["gene_symbol"]
    twice = symbols[symbols.duplicated()].iloc[0]
    found = run("genes", "--download-base", base, twice)
    assert found.output.count("ambiguous: ask by identifier") >= 2
    limited = run("genes", "--download-base", base, "ENSMUSG", "--most", "3")
    assert "197 more" in limited.output


@pytest.mark.parametrize("format", ["parquet", "zarr", "csv"])
def test_extract_format_by_suffix_and_option(run, base, plain_atlas, tmp_path, format):
    by_suffix = tmp_path / f"out.{format}"
    done = run("extract", *REFERENCE_GENES, "--download-base", base, "--output", by_suffix, "-v")
    assert done.exit_code == 0, done.output
    assert f"{plain_atlas.n_cells:,} asked, {plain_atlas.n_cells:,} found, 0 missing" in done.output
    assert "rows without metadata left out" in done.output
    assert re.search(r"WMB-10Xv2-TH +261 +261 +0", done.output)
    assert_same(open_view(by_suffix).to_pandas(), expected_table(plain_atlas, REFERENCE_GENES))
    named = tmp_path / "plain"
    done = run(
        *["extract", "Tac2", "--download-base", base, "--output", named, "--format", format],
        "--quiet",
    )
    assert done.exit_code == 0
    assert done.output == ""
    assert open_view(named).format == format


def test_extract_raw_by_identifier_and_file(run, base, plain_atlas, tmp_path):
    genes = tmp_path / "genes.csv"
    genes.write_text("gene_symbol,why\nTac2,peptide\n# nobody\nSlc6a3,transporter\n\n")
    options = ["--normalization", "raw", "--columns", "gene_identifier", "--genes-file", genes]
    out = tmp_path / "raw.csv"
    done = run("extract", "Slc17a7", "--download-base", base, "--output", out, *options)
    assert done.exit_code == 0, done.output
    got = open_view(out).to_pandas()
    expected = expected_table(plain_atlas, ["Slc17a7", "Tac2", "Slc6a3"], "raw")
    assert list(got.columns) == ["ENSMUSG00000070570", "ENSMUSG00000025400", "ENSMUSG00000021609"]
    assert_same(got.set_axis(expected.columns, axis=1), expected)


def test_extract_with_processes(run, base, plain_atlas, tmp_path):
    out = tmp_path / "out.parquet"
    options = ["--workers", 2, "--threads-per-worker", 1, "--memory-limit", "2 GB"]
    done = run("extract", "Tac2", "--download-base", base, "--output", out, *options)
    assert done.exit_code == 0, done.output
    assert_same(open_view(out).to_pandas(), expected_table(plain_atlas, ["Tac2"]))


def test_view_commands(run, base, tmp_path):
    out = tmp_path / "out.parquet"
    run("extract", "Tac2", "Slc6a3", "--download-base", base, "--output", out)
    info = run("view", "info", out)
    assert "genes    2: Tac2, Slc6a3" in info.output
    provenance = json.loads(run("view", "info", out, "--json").output)
    assert [gene["gene_symbol"] for gene in provenance["genes"]] == ["Tac2", "Slc6a3"]
    assert provenance["matrices"][0]["md5"]
    verified = run("view", "verify", out)
    assert verified.exit_code == 0
    assert "is as it was written" in verified.output
    exported = run("view", "export", out, tmp_path / "out.csv")
    assert exported.exit_code == 0
    fails(run("view", "export", out, tmp_path / "out.csv"), 2, "exists; pass --overwrite")
    fails(run("view", "export", out, tmp_path / "out.xls"), 2, "unknown format 'xls'")
    part = next(out.glob("00000*.parquet"))
    content = bytearray(part.read_bytes())
    content[100] ^= 1
    part.write_bytes(content)
    fails(run("view", "verify", out), 1, f"damaged: {part.name} was changed")
    fails(run("view", "info", tmp_path), 2, "is not a finished view")


def test_errors_of_place_and_release(run, base, tmp_path):
    out = tmp_path / "out.parquet"

    def extract(*options, gene="Tac2", place=base, output=out):
        return run("extract", gene, "--download-base", place, "--output", output, *options)

    fails(extract(place=tmp_path / "nowhere"), 2, "download_base .* is not a folder")
    fails(extract(place=tmp_path), 2, "holds no release")
    fails(extract("--release", "20250513"), 2, "release '20250513' .*nearest: 20250531")
    fails(extract("--metadata", "WMB-10"), 2, "no cell_metadata in 'WMB-10'; nearest: WMB-10X")
    fails(extract("--dataset", "WMB-10Xv9"), 2, "no dataset 'WMB-10Xv9'; nearest: WMB-10Xv")
    fails(extract("--gene-directory", "WMB"), 2, "no dataset 'WMB'")
    fails(extract("--format", "xlsx"), 2, "unknown format 'xlsx'.*parquet, zarr, csv")
    fails(extract("--block-size", "much"), 2, "--block-size 'much' is not a number of bytes")
    fails(extract("--workers", "0"), 2, "--workers 0 is not a positive number")
    fails(extract("--genes-file", tmp_path / "no"), 2, "--genes-file .* is missing")
    fails(run("extract", "--download-base", base, "--output", out), 2, "no gene is given")
    fails(extract(gene="Tac"), 2, "gene 'Tac' is unknown; nearest: Tac2")
    fails(extract(output="/proc/x.parquet"), 1, "cannot be written")
    assert extract().exit_code == 0
    fails(extract("--columns", "gene_identifier"), 2, "out.parquet exists; pass --overwrite")
    usage = run("extract", "Tac2", "--output", out)
    assert usage.exit_code == 2
    assert "--download-base" in usage.stderr


def test_unreachable_scheduler(run, base, tmp_path, monkeypatch):
    monkeypatch.setenv("DASK_ABC_DASK__CONNECT_TIMEOUT", "0.5")
    import dask.config

    from abc_dask.base.config import setting

    setting("connect-timeout")
    with dask.config.set({"abc-dask.connect-timeout": 0.5}):
        for address, message in {
            "tcp://127.0.0.1:1": "no scheduler answers at 'tcp://127.0.0.1:1'",
            "nonsense://x": "no host 'x' is known, of the scheduler 'nonsense://x'",
        }.items():
            result = run(
                *["extract", "Tac2", "--download-base", base, "--output", tmp_path / "out"],
                *["--scheduler", address],
            )
            fails(result, 1, message)
    assert not (tmp_path / "out").exists()


def test_missing_and_damaged_files(run, plain_atlas, tmp_path):
    base = shutil.copytree(plain_atlas.download_base, tmp_path / "base")
    files = Atlas(base).feature_matrices["file"]
    options = ["extract", "Tac2", "--download-base", base, "--output", tmp_path / "out"]
    whole = (base / files.iloc[0]).read_bytes()
    (base / files.iloc[0]).write_bytes(whole[:-1])
    fails(run(*options), 1, rf"has {len(whole) - 1:,} bytes, the manifest .* says {len(whole):,}")
    (base / files.iloc[0]).write_bytes(bytes(len(whole)))
    fails(run(*options), 1, r"cannot be read as h5ad \(.*file signature not found")
    for file in files.iloc[:2]:
        (base / file).unlink()
    fails(
        run(*options), 1, f"2 files of release 20250531 missing .*{files.iloc[0]}, {files.iloc[1]}"
    )
    shown = run("matrices", "--download-base", base)
    assert shown.exit_code == 0
    assert "2 missing" in shown.output
    (base / files.iloc[0]).mkdir()
    fails(run(*options), 1, "is not a regular file")


def test_tables_that_do_not_fit(run, tmp_path):
    made = write_atlas(
        tmp_path / "base",
        scale=0.0001,
        n_genes=50,
        matrices=2,
        normalizations=("log2",),
        quirks=Quirks(duplicate_metadata_label=True),
    )
    options = ["extract", "Tac2", "--download-base", made.download_base]
    options += ["--output", tmp_path / "out"]
    fails(run(*options), 1, "cell_metadata.csv repeats 1 cell label, such as")
    table = pd.read_csv(made.cell_metadata).drop(columns="feature_matrix_label")
    table.to_csv(made.cell_metadata, index=False)
    manifest = json.loads(made.manifest.read_text())
    entry = manifest["file_listing"]["WMB-10X"]["metadata"]["cell_metadata"]["files"]["csv"]
    entry["size"] = made.cell_metadata.stat().st_size
    made.manifest.write_text(json.dumps(manifest))
    fails(run(*options), 1, "cell_metadata.csv has no column feature_matrix_label; it has: cell_")


def test_unexpected_errors_are_one_line_too(run, base, monkeypatch):
    def breaks(*_arguments, **_options):
        raise RuntimeError("a bug\nof two lines")

    monkeypatch.setattr("abc_dask.atlas.Atlas.list_matrices", breaks)
    result = run("matrices", "--download-base", base)
    fails(result, 1, r"unexpected RuntimeError: a bug of two lines \(-v shows where\)")
    verbose = run("matrices", "--download-base", base, "-v")
    assert verbose.exit_code == 1
    assert "Traceback" in verbose.stderr


def test_dask_abc(base):
    dask.cli._register_command_ep(dask.cli.cli, next(e for e in _entry_points() if e.name == "abc"))
    result = CliRunner().invoke(dask.cli.cli, ["abc", "matrices", "--download-base", str(base)])
    assert result.exit_code == 0
    assert "4 feature matrices" in result.output


def _entry_points():
    from importlib.metadata import entry_points

    return entry_points(group="dask_cli")


LISTENERS = """
import os, psutil, sys, threading, time
from abc_dask.cli import main
out = sys.argv[1]
def watch():
    seen = set()
    while True:
        for process in [psutil.Process(), *psutil.Process().children(recursive=True)]:
            try:
                for c in process.net_connections(kind="inet"):
                    if c.status == "LISTEN":
                        seen.add(c.laddr.ip)
            except psutil.Error:
                pass
        with open(out + ".new", "w") as file:
            file.write(" ".join(sorted(seen)))
        os.replace(out + ".new", out)
        time.sleep(0.05)
if __name__ == "__main__":
    threading.Thread(target=watch, daemon=True).start()
    sys.argv[1:] = sys.argv[2:]
    main()
"""


@pytest.mark.parametrize(("options", "expected"), [([], ""), (["--workers", "2"], "127.0.0.1")])
def test_nothing_listens_off_loopback(base, tmp_path, options, expected):
    """One process listens on nothing at all; several on loopback only."""
    script, seen = tmp_path / "watch.py", tmp_path / "seen"
    script.write_text(LISTENERS)
    command = [sys.executable, script, seen, "extract", *REFERENCE_GENES, "--download-base", base]
    command += ["--output", tmp_path / "out.parquet", "--block-size", "30 kB", *options]
    subprocess.run([str(c) for c in command], check=True, capture_output=True)
    assert seen.read_text() == expected


def test_module_and_broken_pipe(base):
    command = [sys.executable, "-m", "abc_dask", "genes", "ENSMUSG", "--download-base", str(base)]
    process = subprocess.Popen(
        [*command, "--most", "400"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    process.stdout.close()
    errors = process.stderr.read()
    process.stderr.close()
    assert process.wait() != 0
    assert b"Traceback" not in errors


def test_demo(run, tmp_path):
    folder = tmp_path / "demo"
    done = run("demo", "--output", folder, "--scale", "0.0002")
    assert done.exit_code == 0, done.output
    assert "24 feature matrices" in done.output
    assert "values equal to anndata's own reading, bit for bit" in done.output
    assert "where to look next" in done.output
    view = open_view(folder / "ten_genes.parquet")
    assert view.columns == REFERENCE_GENES
    again = run("demo", "--output", folder)
    assert again.exit_code == 0
    assert "is there already" in again.output
    (tmp_path / "other" / "atlas").mkdir(parents=True)
    (tmp_path / "other" / "atlas" / "mine").write_text("")
    fails(run("demo", "--output", tmp_path / "other"), 2, "is there and not an atlas")


def test_no_process_is_left_over(base, tmp_path):
    before = {p.pid for p in psutil.process_iter()}
    command = [sys.executable, "-m", "abc_dask", "extract", "Tac2", "--download-base", str(base)]
    command += ["--output", str(tmp_path / "out"), "--workers", "2", "--quiet"]
    with subprocess.Popen(command, env=os.environ) as process:
        assert process.wait(PATIENCE) == 0
    own = [
        p
        for p in psutil.process_iter()
        if p.pid not in before and str(tmp_path) in " ".join(_command_line(p))
    ]
    assert not own


def _command_line(process):
    try:
        return process.cmdline()
    except psutil.Error:
        return []


FALLEN = """
import os, sys, time, weakref
import click
from abc_dask.cli import Commands

number, where = int(sys.argv[1]), sys.argv[2]

def fall():
    os.kill(os.getpid(), number)
    time.sleep(0.01)  # the handler runs here
    print("the callback went on")

class Own(Commands):
    def get_command(self, ctx, name):
        return go

class Thing:
    def __del__(self):
        if where == "del":
            fall()

@click.command()
def go():
    thing = Thing()
    callback = weakref.ref(thing, lambda _: fall() if where == "weakref" else None)
    del thing
    time.sleep(20)
    print("the command went on")

Own("own")(["go"])
"""


@pytest.mark.parametrize("where", ["del", "weakref"])
@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_that_falls_into_a_callback_is_not_lost(name, code, where):
    """Python drops what is raised there; the run would go on as if nobody had stopped it."""
    done = subprocess.run(
        [sys.executable, "-c", FALLEN, str(int(signal.Signals[name])), where],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (code, "")
    word = {"SIGINT": "interrupted", "SIGTERM": "terminated"}[name]
    again = "run the same command again to complete the work"
    assert done.stderr == f"abc-dask: error: {word}; {again}\n"
