"""TLS credentials, beside a scheduler file or by Dask's own configuration."""

from __future__ import annotations

import stat

import click.testing
import dask.config
import pytest

from abc_dask.base.errors import ClusterError
from abc_dask.cli import cli
from abc_dask.run.cluster.credentials import credentials_beside, read_credentials, write_credentials
from abc_dask.run.cluster.queues import leaves


def test_credentials(tmp_path):
    folder = tmp_path / "deep" / "tls"
    made = write_credentials(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert made.require_encryption
    assert made.get_tls_config_for_role("worker") == {
        "ca_file": str(folder / "cert.pem"),
        "cert": str(folder / "cert.pem"),
        "key": str(folder / "key.pem"),
        "ciphers": None,
    }
    # the same by Dask's own configuration
    (config,) = dask.config.collect_yaml([str(folder)])
    with dask.config.set(dict(leaves(config))):
        from distributed.security import Security

        for role in ("scheduler", "worker", "client"):
            there = Security().get_tls_config_for_role(role)
            assert there == read_credentials(folder).get_tls_config_for_role(role)
        assert Security().require_encryption
    assert credentials_beside(folder.parent / "scheduler.json") is not None
    assert credentials_beside(folder / "scheduler.json") is None
    with pytest.raises(ClusterError, match="cannot be written: File exists"):
        write_credentials(folder)
    done = click.testing.CliRunner().invoke(cli, ["credentials", str(tmp_path / "new")])
    assert done.output == f"export DASK_CONFIG={tmp_path / 'new'}\n"
