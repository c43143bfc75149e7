"""Where the seconds of one ``abc-dask extract`` go: ``python -m benchmarks.timeline ARGUMENT...``.

Runs the command in this process and prints, as JSON, seconds from the start of the
interpreter to the end of each phase.
"""

from __future__ import annotations

import time

_BEGAN = time.perf_counter()

import functools  # noqa: E402
import json  # noqa: E402
import sys  # noqa: E402
from types import ModuleType  # noqa: E402

import psutil  # noqa: E402


def main() -> None:
    # the interpreter was up for a while before it came to the first line here
    before = time.time() - psutil.Process().create_time() - (time.perf_counter() - _BEGAN)
    marks: dict[str, float] = {}

    def mark(name: str) -> None:
        marks.setdefault(name, round(before + time.perf_counter() - _BEGAN, 3))

    def marked(module: ModuleType, name: str, phase: str, *, at_start: bool = False) -> None:
        function = getattr(module, name)

        @functools.wraps(function)
        def wrapper(*arguments: object, **options: object) -> object:
            if at_start:
                mark(phase)
            result = function(*arguments, **options)
            if not at_start:
                mark(phase)
            return result

        setattr(module, name, wrapper)

    import abc_dask.atlas
    import abc_dask.extraction
    import abc_dask.parts
    from abc_dask.cli import cli

    mark("libraries")
    marked(abc_dask.atlas, "prepare", "plan")
    # the task itself is handed on by its name
    marked(abc_dask.parts, "read_block", "first task begins", at_start=True)
    marked(abc_dask.extraction, "_finish", "all tasks", at_start=True)
    marked(abc_dask.extraction, "_finish", "commit")
    cli(sys.argv[1:], standalone_mode=False)
    mark("summary")
    print(json.dumps(marks))


if __name__ == "__main__":
    main()
