"""Loggers of distributed kept still for a while, and left as they were found."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Iterator


@contextlib.contextmanager
def quiet(name: str) -> Iterator[None]:
    """Keep a logger of Dask's silent: what happens is reported once, by the caller.

    It and the loggers beneath it are left as they were found. Dask changes the levels of their
    handlers, and leaves handlers of closed nodes behind.
    """
    from distributed.utils import DequeHandler

    logger = logging.getLogger(name)
    before = logger.level
    levels = {handler: handler.level for one in _beneath(name) for handler in one.handlers}
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
        for one in _beneath(name):
            for handler in list(one.handlers):
                if handler in levels:
                    handler.setLevel(levels[handler])
                elif isinstance(handler, DequeHandler):
                    one.removeHandler(handler)


def _beneath(name: str) -> list[logging.Logger]:
    """Return a logger with those beneath it."""
    known = list(logging.Logger.manager.loggerDict)
    names = [name, *(other for other in known if other.startswith(f"{name}."))]
    return [logging.getLogger(one) for one in names]
