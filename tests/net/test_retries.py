"""How often and after which wait something is tried again."""

from __future__ import annotations

from email.utils import formatdate

import pytest

from abc_dask.net.retries import UNKNOWN_HOST, Attempts, TransientError, retry_after
from abc_dask.net.settings import HttpSettings


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None),
        ("0", 0),
        ("5", 5),
        ("1000000", 120),
        ("9" * 5000, None),
        ("-3", None),
        ("junk", None),
        ("", None),
        (formatdate(0, usegmt=True), 0),
        (formatdate(32503680000, usegmt=True), 120),
        ("Mon, 99 Foo 99999999999 99:99:99 GMT", None),
    ],
)
def test_retry_after(value, expected):
    assert retry_after(value, 120) == expected


def test_attempts_say_what_was_tried():
    attempts = Attempts(HttpSettings("https://h", retries=2, backoff=0))
    assert attempts.failed(TransientError("HTTP 503", wait=5.0)) == 5.0
    assert attempts.failed(TransientError("HTTP 503")) == 0
    assert attempts.failed(TransientError("connection dropped")) is None
    assert str(attempts) == "3 tries: HTTP 503 (2 times), connection dropped"


def test_a_host_that_never_answered_is_tried_once_more():
    attempts = Attempts(HttpSettings("https://h", retries=6, backoff=0.5))
    assert attempts.failed(TransientError(UNKNOWN_HOST, reached=False)) is not None
    assert attempts.failed(TransientError(UNKNOWN_HOST, reached=False)) is None
    known = Attempts(HttpSettings("https://h", retries=6, backoff=0.5))
    known.progressed()
    for _ in range(6):
        assert known.failed(TransientError(UNKNOWN_HOST, reached=False)) is not None
    assert known.failed(TransientError(UNKNOWN_HOST, reached=False)) is None
