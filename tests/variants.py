"""Variants of a test: a few that tell most run always, all of them with ``--run-slow``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest


def few_of(variants: Iterable[Any], *always: Any) -> list[Any]:
    """Mark all variants but some as slow.

    Raises
    ------
    ValueError
        If one that is to run always is none of them.
    """
    listed = list(variants)
    if unknown := [variant for variant in always if variant not in listed]:
        raise ValueError(f"no such variants: {unknown}")
    return [
        variant if variant in always else pytest.param(*_values(variant), marks=pytest.mark.slow)
        for variant in listed
    ]


def _values(variant: Any) -> tuple[Any, ...]:
    return variant if isinstance(variant, tuple) else (variant,)
