"""Fetch files of a release."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from abc_dask.base.errors import AbcDaskError, UsageError
from abc_dask.base.messages import format_bytes, plural, text_table
from abc_dask.cli.command import command, echo
from abc_dask.cli.common import is_quiet, wants_json
from abc_dask.cli.options import (
    entry_json,
    names_argument,
    names_option,
    needed_base_option,
    release_option,
    write_json,
)
from abc_dask.cli.options import normalization as normalization_option

if TYPE_CHECKING:
    from abc_dask.acquire.fetch import FetchReport
    from abc_dask.acquire.fetch_plan import FetchPlan
    from abc_dask.acquire.progress import FetchProgress
    from abc_dask.acquire.settings import FetchSettings
    from abc_dask.atlas import Atlas
    from abc_dask.release.manifest import FileEntry
    from abc_dask.release.release import Release


@command()
@names_argument("names", metavar="[DATASET[/KIND[/TAG]]]...")
@needed_base_option
@release_option
@normalization_option
@names_option(
    "--for",
    "for_",
    metavar="METADATA",
    help="All that `extract` on this metadata directory needs, such as WMB-10X.",
)
@names_option(
    "--for-genes-in",
    metavar="METADATA",
    help="As --for, without annotations of cells and regions.",
)
@click.option("--dry-run", is_flag=True, help="List what would be fetched, and fetch nothing.")
@click.option("--workers", type=click.IntRange(1, 64), help="Connections at once.")
@click.option("--yes", is_flag=True, help="Do not ask before a large fetch.")
@click.option(
    "--remove-damaged",
    is_flag=True,
    help="Remove bytes that fail their check; otherwise they are kept as NAME.damaged.",
)
def fetch(
    names: tuple[str, ...],
    download_base: Path,
    *,
    release: str | None,
    normalization: str,
    for_: tuple[str, ...],
    for_genes_in: tuple[str, ...],
    dry_run: bool,
    workers: int | None,
    yes: bool,
    remove_damaged: bool,
) -> None:
    """Fetch files of a release: resumed, verified, adopted where they are there already."""
    from abc_dask.acquire.choose import select, tables_for
    from abc_dask.acquire.progress import FetchProgress
    from abc_dask.acquire.settings import FetchSettings

    if not (names or for_ or for_genes_in):
        raise UsageError("nothing to fetch; name a dataset, or give --for METADATA")
    opened = _open_release(release, download_base, dry_run=dry_run)
    manifest = opened.manifest
    entries = list(select(manifest, names, normalization))
    for metadata in for_:
        entries += tables_for(manifest, metadata)
    for metadata in for_genes_in:
        entries += tables_for(manifest, metadata, annotations=False)
    job = _Job(
        opened,
        FetchSettings.from_config(workers=workers),
        FetchProgress(quiet=is_quiet()),
        yes=yes,
        remove_damaged=remove_damaged,
    )
    wanted_for = tuple(dict.fromkeys((*for_, *for_genes_in)))
    matrices, unknown = job.matrices(wanted_for, normalization, dry_run=dry_run)
    plan = job.plan([*entries, *matrices])
    if dry_run:
        _write_plan(plan, opened, unknown)
        return
    report = job.fetch(plan)
    if wants_json():
        _write_report(report)


class _Job:
    """One run of `fetch`: where to, how, and what was agreed to."""

    def __init__(
        self,
        release: Release,
        settings: FetchSettings,
        progress: FetchProgress,
        *,
        yes: bool,
        remove_damaged: bool,
    ) -> None:
        self.release = release
        self.settings = settings
        self.progress = progress
        self.yes = yes
        self.remove_damaged = remove_damaged

    def matrices(
        self, metadata: tuple[str, ...], normalization: str, *, dry_run: bool
    ) -> tuple[list[FileEntry], list[str]]:
        """Find the matrices of metadata directories; fetch their cell_metadata first.

        The second list names those whose cell_metadata is not on disk in a dry run.
        """
        from abc_dask.acquire.choose import matrices_for, tables_for

        found: list[FileEntry] = []
        unknown = []
        for name in metadata:
            cells = tables_for(self.release.manifest, name)[0]
            if not dry_run:
                self.fetch(self.plan([cells]))
            elif not self.release.is_present(cells):
                unknown.append(name)
                continue
            found += matrices_for(self.release, name, normalization)
        return found, unknown

    def plan(self, entries: list[FileEntry]) -> FetchPlan:
        from abc_dask.acquire.fetch_plan import plan_fetch

        return plan_fetch(self.release, entries, settings=self.settings.http)

    def fetch(self, plan: FetchPlan) -> FetchReport:
        """Ask where that is due, then fetch."""
        from abc_dask.acquire.fetch import describe
        from abc_dask.acquire.fetch import fetch as fetch_files

        plan.require_room(self.release.download_base)
        agree(plan.bytes_to_fetch, plan.bytes_free, yes=self.yes)
        report = fetch_files(
            self.release,
            [file.entry for file in plan.files],
            settings=self.settings,
            progress=self.progress,
            remove_damaged=self.remove_damaged,
        )
        echo(describe(report), err=True)
        return report


def agree(size: int, free: int, *, yes: bool) -> None:
    """Ask before a large fetch.

    Raises
    ------
    UsageError
        If nobody can be asked.
    AbcDaskError
        If the answer is no.
    """
    from abc_dask.base.config import parse_bytes, setting

    limit = parse_bytes(setting("download.ask-above"), option="ask-above")
    if yes or size <= limit:
        return
    text = f"{format_bytes(size)} to fetch, {format_bytes(free)} free"
    if not sys.stdin.isatty():
        raise UsageError(f"{text}: more than {format_bytes(limit)} need --yes")
    if not click.confirm(f"{text}; go on?", err=True):
        raise AbcDaskError("nothing fetched")


def agree_to_fetch(atlas: Atlas, entries: Sequence[FileEntry], *, yes: bool) -> None:
    """Ask before a large fetch of some of an atlas's files; as `agree`."""
    from abc_dask.acquire.fetch_plan import plan_fetch

    plan = plan_fetch(atlas.release, entries)
    agree(plan.bytes_to_fetch, plan.bytes_free, yes=yes)


def _open_release(release: str | None, download_base: Path, *, dry_run: bool) -> Release:
    from abc_dask.acquire.remote import fetch_manifest, load_manifest
    from abc_dask.release.release import Release as Opened

    if dry_run:
        base = download_base.expanduser().resolve()
        return Opened(base, load_manifest(release, download_base))
    return fetch_manifest(release, download_base)


def _write_plan(plan: FetchPlan, release: Release, unknown: list[str]) -> None:
    if wants_json():
        write_json(
            {
                "release": release.version,
                "files": [
                    entry_json(f.entry) | {"action": f.action.value, "there": f.bytes_there}
                    for f in plan.files
                ],
                "total": plan.bytes_total,
                "to_fetch": plan.bytes_to_fetch,
                "free": plan.bytes_free,
                "matrices_unknown": unknown,
            }
        )
    else:
        rows = [
            (f.entry.relative_path, format_bytes(f.entry.size), f.action.value) for f in plan.files
        ]
        echo(text_table(("file", "size", "action"), rows, "<><"))
        echo(
            f"{plural(len(plan.files), 'file')} of release {release.version}: "
            f"{format_bytes(plan.bytes_total)}, {format_bytes(plan.bytes_to_fetch)} to fetch, "
            f"{format_bytes(plan.bytes_free)} free"
        )
    if plan.bytes_to_fetch > plan.bytes_free:
        echo("there is not enough space for that", err=True)
    for name in unknown:
        echo(
            f"the matrices of {name} are known once its cell_metadata is on disk: "
            f"fetch {name}/metadata/cell_metadata first",
            err=True,
        )


def _write_report(report: FetchReport) -> None:
    write_json(
        [
            entry_json(f.entry)
            | {"adopted": f.adopted, "verified": f.verified, "bytes_fetched": f.bytes_fetched}
            for f in report.files
        ]
    )
