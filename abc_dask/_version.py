"""The version of the package and of the formats that it writes."""

from __future__ import annotations

__version__ = "0.1.0"

# Part of every plan's digest: raise it when parts or receipts change their layout.
FORMAT_VERSION = 2
