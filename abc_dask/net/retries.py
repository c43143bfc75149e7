"""How often a request is made again, and after how long; urllib3's Retry does the counting."""

from __future__ import annotations

from collections import Counter

import urllib3
from urllib3.util import Retry

from abc_dask.base.errors import DownloadError
from abc_dask.net.settings import HttpSettings

# Why a request failed whose host has no address.
UNKNOWN_HOST = "host name unknown"

_LONGEST_BACKOFF = 30.0


class UnreachableError(DownloadError):
    """The server did not answer in so many tries: there is no use in asking for other files."""


class TransientError(Exception):
    """A try failed in a way that may pass.

    Attributes
    ----------
    reason : str
        A few words.
    wait : float or None
        Seconds that the server asked to wait.
    reached : bool
        False where there was no connection at all.
    """

    def __init__(self, reason: str, wait: float | None = None, *, reached: bool = True) -> None:
        super().__init__(reason)
        self.reason = reason
        self.wait = wait
        self.reached = reached


def retry_after(value: str | None, longest: float) -> float | None:
    """Read a Retry-After header.

    Parameters
    ----------
    value : str or None
        Seconds or an HTTP date.
    longest : float
        Longer waits are cut to this.

    Returns
    -------
    float or None
        Seconds from now; None where there is none or it makes no sense.

    Examples
    --------
    >>> retry_after("5", 120), retry_after("1000000", 120), retry_after("soon", 120)
    (5.0, 120.0, None)
    """
    if value is None:
        return None
    try:
        seconds = float(Retry().parse_retry_after(value))
    except (urllib3.exceptions.InvalidHeader, ValueError, TypeError, IndexError, OverflowError):
        return None
    return min(max(seconds, 0.0), float(longest))


class Attempts:
    """How often one thing was tried, and how long to wait before the next try.

    Parameters
    ----------
    settings : HttpSettings
        The number of retries and the backoff.
    """

    def __init__(self, settings: HttpSettings) -> None:
        self._fresh = Retry(
            total=settings.retries,
            backoff_factor=settings.backoff,
            backoff_max=_LONGEST_BACKOFF,
            backoff_jitter=settings.backoff / 4,
        )
        self._retry = self._fresh
        self._reasons: Counter[str] = Counter()
        self._has_progressed = False

    def progressed(self) -> None:
        """Start counting anew: the last try brought something."""
        self._retry = self._fresh
        self._has_progressed = True

    def failed(self, error: TransientError) -> float | None:
        """Count a failure; give the seconds to wait, or None when enough was tried."""
        self._reasons[error.reason] += 1
        if error.reason == UNKNOWN_HOST and not self._has_progressed and self._reasons.total() > 1:
            return None  # one that never answered: a name that is mistyped, or no network at all
        try:
            self._retry = self._retry.increment("GET", "", error=error)
        except urllib3.exceptions.MaxRetryError:
            return None
        return self._retry.get_backoff_time() if error.wait is None else error.wait

    def __str__(self) -> str:
        tries = sum(self._reasons.values())
        reasons = ", ".join(
            reason if count == 1 else f"{reason} ({count} times)"
            for reason, count in self._reasons.most_common()
        )
        return f"{tries} {'try' if tries == 1 else 'tries'}: {reasons}"
