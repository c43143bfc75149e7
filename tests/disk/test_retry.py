"""Tries again where a disk did not answer, and only there."""

from __future__ import annotations

import dask
import pytest
from hypothesis import given
from hypothesis import strategies as st

from abc_dask.base.errors import DamagedFileError, UnavailableFileError
from abc_dask.disk.failures import patiently


class Act:
    """Fails some times, then answers."""

    def __init__(self, failures: int, error: type[Exception] = UnavailableFileError) -> None:
        self.failures, self.error, self.calls = failures, error, 0

    def __call__(self) -> int:
        self.calls += 1
        if self.calls <= self.failures:
            raise self.error(f"failed {self.calls}")
        return self.calls


@given(failures=st.integers(0, 6), retries=st.integers(0, 4))
def test_so_often_and_no_more(failures, retries):
    act = Act(failures)
    with dask.config.set({"abc-dask.read.retries": retries, "abc-dask.read.backoff": 0}):
        if failures <= retries:
            assert patiently(act) == failures + 1
        else:
            with pytest.raises(UnavailableFileError, match=f"failed {retries + 1}"):
                patiently(act)
            assert act.calls == retries + 1


@given(failures=st.integers(0, 12), retries=st.integers(0, 4))
def test_within_each_other_no_more_often(failures, retries):
    act = Act(failures)
    with dask.config.set({"abc-dask.read.retries": retries, "abc-dask.read.backoff": 0}):
        try:
            assert patiently(lambda: patiently(act)) == failures + 1
        except UnavailableFileError:
            assert failures > retries
    assert act.calls == min(failures, retries) + 1


def test_waits_grow(monkeypatch):
    waited: list[float] = []
    monkeypatch.setattr("time.sleep", waited.append)
    with dask.config.set({"abc-dask.read.retries": 3, "abc-dask.read.backoff": 0.5}):
        patiently(Act(3))
    assert waited == [0.5, 1.0, 2.0]


def test_what_does_not_pass_is_raised_at_once():
    act = Act(1, DamagedFileError)
    with pytest.raises(DamagedFileError):
        patiently(act)
    assert act.calls == 1
