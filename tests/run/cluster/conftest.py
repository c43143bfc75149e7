"""The private Slurm of all tests that need one."""

from __future__ import annotations

import os

import pytest

from tests import slurm


@pytest.fixture(scope="session")
def private_slurm():
    with slurm.private_slurm() as conf:
        os.environ["SLURM_CONF"] = conf
        yield conf
