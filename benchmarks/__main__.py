"""List the benchmarks: ``python -m benchmarks``."""

from __future__ import annotations

import ast
from pathlib import Path

HELPERS = {"measure", "contestants", "store_ways", "timeline"}

for path in sorted(Path(__file__).parent.glob("*.py")):
    if not path.name.startswith("_") and path.stem not in HELPERS:
        title = (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").partition("\n")[0]
        print(f"python -m benchmarks.{path.stem:12} {title}")
