"""What a notebook shows: progress, results, errors, the end of an interrupt; in a real kernel."""

from __future__ import annotations

import pytest

from tests.http_server import Server
from tests.kernels import started
from tests.small_release import contents_under

pytest.importorskip("ipykernel", reason="no Jupyter kernel is installed")
pytestmark = pytest.mark.xdist_group("kernel")

SLOW = """
import threading, time
from abc_dask.run import part

read, begun = part.read_block, threading.Event()

def slowly(*arguments, **options):
    begun.set()
    time.sleep(0.5)
    return read(*arguments, **options)

part.read_block = slowly
"""


@pytest.fixture(scope="module")
def kernel(plain_atlas, tmp_path_factory):
    folder = tmp_path_factory.mktemp("kernel")
    with started(folder) as kernel:
        kernel.run(f"from abc_dask import Atlas\natlas = Atlas({str(plain_atlas.download_base)!r})")
        yield kernel


def test_results_are_shown_as_tables(kernel):
    assert "<td" in kernel.run("atlas").result["text/html"]
    assert "<td" in kernel.run("atlas.release").result["text/html"]


def test_progress_is_a_widget_without_being_asked_for(kernel):
    shown = kernel.run(
        "view = atlas.extract(['Tac2', 'Slc17a7'], 'two.parquet', annotate=['class'])"
    )
    assert shown.widgets >= 1
    assert shown.text == ""
    assert "Tac2, Slc17a7" in kernel.run("view").result["text/html"]
    shown = kernel.run("atlas.extract(['Tac2'], 'quiet.parquet', progress=False);")
    assert shown.widgets == 0
    assert shown.text == ""
    assert "<table" in kernel.run("view.summarize('class')").result["text/html"]


def test_a_fetch_is_shown_as_well(kernel, plain_atlas):
    with Server(files=contents_under(plain_atlas.download_base)) as server:
        shown = kernel.run(
            "import dask\n"
            "from abc_dask import Release, fetch, fetch_manifest\n"
            f"with dask.config.set({{'abc-dask.base-url': {server.url!r}}}):\n"
            "    fetch_manifest('20250531', 'mirror')\n"
            "    mirror = Release.open('mirror')\n"
            "    fetch(mirror, list(mirror.manifest.tables('WMB-10X').values()))\n"
            "mirror"
        )
    assert shown.widgets >= 1
    assert shown.text == ""
    assert "on disk" in shown.result["text/html"]


def test_progress_is_text_where_there_are_no_widgets(kernel):
    kernel.run(
        "import sys\n"
        "kept = {n: m for n, m in sys.modules.items() if n.partition('.')[0] == 'tqdm'}\n"
        "for name in kept: del sys.modules[name]\n"
        "hidden = sys.modules.get('ipywidgets')\n"
        "sys.modules['ipywidgets'] = None"
    )
    shown = kernel.run("atlas.extract(['Tac2'], 'text.parquet');")
    kernel.run("sys.modules['ipywidgets'] = hidden\nsys.modules.update(kept)")
    assert shown.widgets == 0
    assert "extract" in shown.text
    assert "Warning" not in shown.text


def test_an_error_of_a_request_ends_at_the_call(kernel):
    error = kernel.fails("genes = ['Tac22']\natlas.extract(genes, 'none.parquet')")
    assert error["ename"] == "GeneError"
    text = "\n".join(error["traceback"])
    assert "atlas.extract(genes, 'none.parquet')" in text
    assert "abc_dask/" not in text
    assert text.count("\n") <= 3
    assert error["traceback"][-1] == f"GeneError: {error['evalue']}"


def test_a_real_bug_has_its_whole_traceback(kernel):
    error = kernel.fails("from abc_dask.base.messages import nearest\nnearest(3, ['a'])")
    assert error["ename"] == "AttributeError"
    assert "messages.py" in "\n".join(error["traceback"])


def test_an_interrupt_ends_and_the_same_cell_completes(kernel):
    kernel.run(SLOW)
    cell = "slow = atlas.extract(['Tac2'], 'slow.parquet', block_size='20 kB'); slow"
    asked = kernel.send(cell)
    shown = kernel.wait(asked, "display_data")  # the bar of the extraction
    kernel.manager.interrupt_kernel()
    kernel.wait(asked, shown=shown)
    assert shown.error["ename"] == "KeyboardInterrupt"
    kernel.run(
        "import os\n"
        "assert not os.path.exists('slow.parquet')\n"
        "assert os.path.isdir('slow.parquet.partial')\n"
        "part.read_block = read"
    )
    kernel.run(cell)
    kernel.run("slow.verify(); assert slow.n_cells == len(atlas.cells)")
    kernel.run("assert not os.path.exists('slow.parquet.partial')")


def test_columns_are_completed(kernel):
    assert "Tac2" in kernel.complete("view['Ta")
    assert "neurotransmitter" in kernel.complete("view['neu")
    assert "class" in kernel.complete("atlas['cla")


def test_the_explorer_is_a_frame(kernel):
    shown = kernel.run("page = view.explore(annotate=['class']); page").result["text/html"]
    assert shown.startswith("<iframe")
    kernel.run("page.close()")


def test_a_cell_that_is_run_again_returns_the_view(kernel):
    cell = "again = atlas.extract(['Tac2'], 'again.parquet'); again"
    first = kernel.run(cell)
    kernel.run("at = again.path.stat().st_mtime_ns")
    assert kernel.run(cell).result == first.result
    kernel.run("assert again.path.stat().st_mtime_ns == at")
    error = kernel.fails("atlas.extract(['Slc17a7'], 'again.parquet')")
    assert "overwrite=True" in error["evalue"]
    assert "--overwrite" not in "".join(error["traceback"])
