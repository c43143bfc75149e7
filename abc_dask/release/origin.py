"""What every result says of the release that it is from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

SYNTHETIC = "synthetic"  # in a manifest and in provenance; real releases have no such field


def origin(release: str | None, *, synthetic: bool) -> dict[str, Any]:
    """Return the fields of provenance that name a release, and say where its data are made up."""
    return {"release": release} | ({SYNTHETIC: True} if synthetic else {})


def origin_of(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """Return the same fields of a result that is at hand."""
    return origin(provenance.get("release"), synthetic=bool(provenance.get(SYNTHETIC)))


def release_text(provenance: Mapping[str, Any]) -> str:
    """Return how texts and captions name the release of a result."""
    said = f"release {provenance['release']}"
    return f"{said} (synthetic data)" if provenance.get(SYNTHETIC) else said
