"""Where the seconds of one ``abc-dask extract`` go: ``python -m benchmarks.timeline ARGUMENT...``.

Runs the command in this process and prints, as JSON, seconds from the start of the
interpreter to each event. Python's audit events tell of imports and of files that are opened, so
nothing is imported or called that the command itself would not.
"""

from __future__ import annotations

import time

_BEGAN = time.perf_counter()

import atexit  # noqa: E402
import json  # noqa: E402
import os  # noqa: E402
import sys  # noqa: E402
import threading  # noqa: E402


def started_before() -> float:
    """Give the seconds for which the process was there before the first line here (Linux)."""
    with open("/proc/self/stat", encoding="ascii") as file:  # noqa: PTH123 - nothing imported
        ticks = int(file.read().rpartition(")")[2].split()[19])
    age = time.clock_gettime(time.CLOCK_BOOTTIME) - ticks / os.sysconf("SC_CLK_TCK")
    return age - (time.perf_counter() - _BEGAN)


def main() -> None:
    before = started_before()
    marks: dict[str, float] = {}

    def now() -> float:
        return round(before + time.perf_counter() - _BEGAN, 3)

    def look(event: str, arguments: tuple[object, ...]) -> None:
        if event == "import" and arguments[0] == "distributed":
            marks.setdefault("plan", now())
        elif event == "open":
            path = str(arguments[0])
            is_main = threading.current_thread() is threading.main_thread()
            if path.endswith(".h5ad") and not is_main:
                marks.setdefault("first task begins", now())
            elif "receipts" in path:
                marks["last receipt"] = now()

    def tell() -> None:
        marks["end"] = now()
        print(json.dumps(marks))

    sys.addaudithook(look)
    atexit.register(tell)
    from abc_dask.cli import main as abc_dask

    abc_dask()


if __name__ == "__main__":
    main()
