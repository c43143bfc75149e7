"""Configurations of batch systems."""

from __future__ import annotations

from pathlib import Path


def write_config(path: Path, kind: str, settings: str) -> Path:
    path.write_text(f"jobqueue:\n  {kind}: {{{settings}}}\n")
    return path
