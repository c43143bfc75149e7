"""What a newcomer gets wrong: each is one line that names the mistake and what was meant."""

from __future__ import annotations

import shlex

import pytest
from click.testing import CliRunner

from abc_dask import Atlas
from abc_dask.cli import cli
from abc_dask.testing import write_atlas

# BASE: an atlas; VIEW: a view of Tac2 and Slc17a7; STORE: a store; in a folder of their own.
BASE = "--download-base base"

# Command line, and what the one line on stderr has; all exit with 2, and leave nothing behind.
MISTAKES = {
    "extrct Tac2 -o v": "there is no command 'extrct'; did you mean extract or extract-part?",
    "--jsn": "there is no option --jsn; did you mean --json?",
    "view inf view.parquet": "there is no command 'inf'; did you mean info?",
    "view here.parquet": "here.parquet is not a finished view",
    f"extract Tac2 {BASE} -o v --anotate class": "did you mean --annotate or --adapt?",
    f"extract Tac2 {BASE}": "missing option '-o' / '--output'; see",
    f"extract Tac2 {BASE} -o": "option '-o' requires an argument",
    "extract Tac2 -o v": (
        "no atlas is named: pass --download-base DIR, or --h5ad FOLDER, or set "
        "ABC_DASK_DOWNLOAD_BASE in the environment, or abc-dask.download-base in dask's config"
    ),
    "fetch WMB-10X": "no atlas is named: pass --download-base DIR, or set ABC_DASK_DOWNLOAD",
    "extract Tac2 --download-base nowhere -o v": "'nowhere' is not a folder; give the folder",
    "extract Tac2 --download-base base/releases -o v": "holds no release: there is no releases/",
    "extract Tac2 --download-base list.txt -o v": "'list.txt' is not a folder",
    "check --download-base list.txt": "Directory 'list.txt' is a file",
    f"extract {BASE} -o v": "no gene is given; name symbols or identifiers",
    f"extract Tca2 {BASE} -o v": "gene 'Tca2' is unknown; nearest: Tac2",
    f"extract Tac2 Tca2 Slc17a9 {BASE} -o v": "2 of 3 names are unknown: Tca2 (nearest: Tac2",
    f"extract Tac2 Tac2 {BASE} -o v": "gene 'Tac2' is asked for twice",
    f"extract Tac2,tac2 {BASE} -o v": "asked for twice, as 'Tac2' and as 'tac2'",
    f"extract list.txt {BASE} -o v": "'list.txt' is a file; a list of genes is named by --gen",
    f"extract {BASE} --genes-file none.txt -o v": "--genes-file none.txt is missing",
    f"extract Tac2 {BASE} -o view.parquet --annotate class": "view.parquet exists; pass",
    f"extract Tac2 {BASE} -o v.xlsx --format xlsx": "there are: parquet, zarr, csv",
    f"extract Tac2 {BASE} -o v --release 20250513": "'20250513' is not under 'base'; nearest",
    f"extract Tac2 {BASE} -o v --metadata WMB10X": "no cell_metadata in 'WMB10X'; nearest: WMB",
    f"extract Tac2 {BASE} -o v --dataset WMB-10Xv": "no dataset 'WMB-10Xv'; nearest: WMB-10Xv",
    f"extract Tac2 {BASE} -o v --normalization log": "'log' is not one of 'log2', 'raw'",
    f"extract Tac2 {BASE} -o v --annotate clas": "no column 'clas' in the tables of cells; nea",
    f"extract Tac2 {BASE} -o v --where 'clas == 3'": "no column 'clas' in the tables of cells",
    f"""extract Tac2 {BASE} -o v --where 'class == "Glut"'""": "no cell has class 'Glut'",
    f"extract Tac2 {BASE} -o v --where class == OB": "'==' is no gene; put the whole",
    f"extract Tac2 {BASE} -o v --where x=3": "--where 'x=3' is no condition: invalid syntax",
    f"extract Tac2 {BASE} -o v --workers -2": "--workers -2 is not a positive number",
    f"extract Tac2 {BASE} -o v --block-size lots": "--block-size 'lots' is not a number of by",
    f"extract Tac2 {BASE} -o v --discard": "--discard removes what --fetch fetched; give both",
    f"extract Tac2 {BASE} -o v -o w": "option -o / --output is given twice; give it once",
    f"extract Tac2 {BASE} -o v --store view.parquet": "view.parquet is a view of a few genes",
    f"extract Tac2 {BASE} --h5ad base -o v": "--h5ad stands in place of --download-base",
    "extract Tac2 --h5ad none.h5ad -o v": "none.h5ad is missing",
    "markers view.parquet --by class": "view.parquet is a view of a few genes; this needs a st",
    "view info store.zarr": "store.zarr is a store, not a view; see abc-dask store info",
    "store info base": "base is not a store",
    "summarize view.parquet": "missing option '--by'",
    "summarize view.parquet --by clas": "no column 'clas' in the tables of cells; nearest: clas",
    "summarize view.parquet --by class --genes Tca2": "no gene 'Tca2'; nearest: Tac2",
    "summarize view.parquet --by class --statistics meen": "unknown statistic 'meen'; nearest",
    "summarize store.zarr --by class": "name --genes, or pass --all-genes",
    "plot umap view.parquet --color Tac2 -o p.gif": "unknown kind of picture '.gif' of 'p.gif'; th",
    "plot umap view.parquet --color Tac2 --limits 6 -o p.png": "option --limits takes two numbers",
    "plot umap view.parquet --color Tac2 --limits 6,0 -o p.png": "limits 6 0: expected a lower and",
    "plot umap view.parquet --color Tca2 -o p.png": "no column 'Tca2' in the tables of cells; of t",
    "report view.parquet -o report": "unknown kind of report 'report'; its suffix may be: .html",
    "genes Qqqq --download-base base": "no gene's symbol or identifier contains 'Qqqq'",
}


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mistakes")
    write_atlas(folder / "base", scale=0.0002, n_genes=100, matrices=2, normalizations=("log2",))
    (folder / "list.txt").write_text("Tac2\n")
    atlas = Atlas(folder / "base")
    atlas.extract(["Tac2", "Slc17a7"], folder / "view.parquet")
    atlas.build_store(folder / "store.zarr", annotate=["class", "x", "y"])
    return folder


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_is_one_line_that_helps(line, place, monkeypatch):
    monkeypatch.chdir(place)
    before = sorted(place.iterdir())
    result = CliRunner().invoke(cli, shlex.split(line))
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    (error,) = result.stderr.splitlines()
    assert error.startswith("abc-dask: error: ")
    assert MISTAKES[line] in error
    assert sorted(place.iterdir()) == before
