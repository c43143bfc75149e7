"""Commands that acquire the atlas: releases, datasets, diff, fetch, check.

Words to calls; what the calls need is imported when a command runs.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from abc_dask.cli.options import as_json as as_json_option
from abc_dask.cli.options import normalization as normalization_option
from abc_dask.cli.options import verbose
from abc_dask.errors import AbcDaskError, DownloadError, UsageError
from abc_dask.words import enumerate_names, format_bytes, plural, text_table

if TYPE_CHECKING:
    from abc_dask.acquire.download import FetchReport
    from abc_dask.acquire.download_settings import DownloadSettings
    from abc_dask.acquire.fetch_plan import FetchPlan
    from abc_dask.acquire.progress import Progress
    from abc_dask.manifest import FileEntry, Manifest
    from abc_dask.release import Release

_base = click.option(
    "--download-base",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Folder that mirrors the bucket: releases/<version>/manifest.json and the rest.",
)
_needed_base = click.option(
    "--download-base",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    required=True,
    help="Folder that mirrors the bucket; made where it is not there.",
)
_release = click.option(
    "--release", metavar="VERSION", help="Release, such as 20250531; the newest where not given."
)
_quiet = click.option("-q", "--quiet", is_flag=True, help="Show no progress.")


def _write_json(value: Any) -> None:
    click.echo(json.dumps(value, indent=2, ensure_ascii=False))


def _entry_json(entry: FileEntry) -> dict[str, Any]:
    return {
        "dataset_label": entry.dataset_label,
        "kind": entry.kind,
        "tag": entry.tag,
        "normalization": entry.normalization,
        "relative_path": entry.relative_path,
        "size": entry.size,
        "file_hash": entry.file_hash,
    }


# -- releases


@click.command()
@_base
@as_json_option
@verbose
def releases(download_base: Path | None, *, as_json: bool) -> None:
    """List the releases that the server has and those on disk."""
    from abc_dask.acquire.remote import list_remote_releases
    from abc_dask.release import list_releases

    on_disk = list_releases(download_base.expanduser()) if download_base is not None else []
    problem = None
    try:
        on_server = list_remote_releases()
    except DownloadError as error:
        if not on_disk:
            raise
        on_server, problem = [], str(error)
    versions = sorted({*on_server, *on_disk})
    if problem is not None:
        click.echo(f"only what is on disk: {problem}", err=True)
    if as_json:
        _write_json(
            [
                {
                    "release": version,
                    "on_server": None if problem else version in on_server,
                    "on_disk": version in on_disk,
                }
                for version in versions
            ]
        )
        return
    for version in versions:
        click.echo(f"{version}  on disk" if version in on_disk else version)


# -- datasets


@click.command()
@_release
@_base
@as_json_option
@verbose
def datasets(release: str | None, download_base: Path | None, *, as_json: bool) -> None:
    """List the datasets of a release: kinds, files, sizes."""
    from abc_dask.acquire.remote import load_manifest

    manifest = load_manifest(release, download_base)
    rows = _dataset_rows(manifest)
    if as_json:
        names = ("dataset_label", "kind", "normalization", "files", "size")
        records = [dict(zip(names, row, strict=True)) for row in rows]
        _write_json({"release": manifest.version, "datasets": records})
        return
    shown = [
        (dataset, kind, norm or "", count, format_bytes(size))
        for dataset, kind, norm, count, size in rows
    ]
    click.echo(f"release {manifest.version}")
    click.echo(text_table(("dataset", "kind", "normalization", "files", "size"), shown, "<<<>>"))


def _dataset_rows(manifest: Manifest) -> list[tuple[str, str, str | None, int, int]]:
    groups: dict[tuple[str, str, str | None], list[int]] = {}
    for entry in manifest.files:
        key = (entry.dataset_label, entry.kind, entry.normalization)
        groups.setdefault(key, []).append(entry.size)
    ordered = sorted(groups.items(), key=lambda item: (*item[0][:2], item[0][2] or ""))
    return [(*key, len(sizes), sum(sizes)) for key, sizes in ordered]


# -- diff


@click.command()
@click.argument("old", metavar="V1")
@click.argument("new", metavar="V2")
@_base
@as_json_option
@verbose
def diff(old: str, new: str, download_base: Path | None, *, as_json: bool) -> None:
    """List the files that release V2 added to V1, removed, or changed."""
    from abc_dask.acquire.remote import load_manifest
    from abc_dask.acquire.selection import diff as compare

    found = compare(load_manifest(old, download_base), load_manifest(new, download_base))
    if as_json:
        pairs = {"changed": found.changed, "moved": found.moved}
        _write_json(
            {
                "added": [_entry_json(entry) for entry in found.added],
                "removed": [_entry_json(entry) for entry in found.removed],
                **{
                    name: [{"old": _entry_json(a), "new": _entry_json(b)} for a, b in value]
                    for name, value in pairs.items()
                },
            }
        )
        return
    for word, entries in (("added", found.added), ("removed", found.removed)):
        for entry in entries:
            click.echo(f"{word:8}{entry.relative_path}  {format_bytes(entry.size)}")
    for word, both in (("changed", found.changed), ("moved", found.moved)):
        for was, now in both:
            path = now.relative_path
            if was.relative_path != path:
                path = f"{was.relative_path} -> {path}"
            click.echo(f"{word:8}{path}  {format_bytes(was.size)} -> {format_bytes(now.size)}")
    click.echo(
        f"{len(found.added):,} added ({format_bytes(sum(e.size for e in found.added))}), "
        f"{len(found.removed):,} removed, {len(found.changed):,} changed, "
        f"{len(found.moved):,} moved",
        err=True,
    )


# -- fetch


@click.command()
@click.argument("names", metavar="[DATASET[/KIND[/TAG]]]...", nargs=-1)
@_needed_base
@_release
@normalization_option
@click.option(
    "--for",
    "for_",
    metavar="METADATA",
    multiple=True,
    help="All that `extract` on this metadata directory needs, such as WMB-10X.",
)
@click.option(
    "--for-genes-in",
    metavar="METADATA",
    multiple=True,
    help="As --for, without annotations of cells and regions.",
)
@click.option("--dry-run", is_flag=True, help="Say what would be fetched, and fetch nothing.")
@click.option("--workers", type=click.IntRange(1, 64), help="Connections at once.")
@click.option("--yes", is_flag=True, help="Do not ask before a large download.")
@click.option(
    "--remove-damaged",
    is_flag=True,
    help="Remove bytes that fail their check; otherwise they are kept as NAME.damaged.",
)
@_quiet
@as_json_option
@verbose
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
    quiet: bool,
    as_json: bool,
) -> None:
    """Bring files of a release: resumed, verified, adopted where they are there already."""
    from abc_dask.acquire.download_settings import DownloadSettings
    from abc_dask.acquire.progress import progress_on
    from abc_dask.acquire.selection import select, tables_for

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
        DownloadSettings.from_config(workers=workers),
        progress_on(sys.stderr, quiet=quiet),
        yes=yes,
        remove_damaged=remove_damaged,
    )
    wanted_for = tuple(dict.fromkeys((*for_, *for_genes_in)))
    matrices, unknown = job.matrices(wanted_for, normalization, dry_run=dry_run)
    plan = job.plan([*entries, *matrices])
    if dry_run:
        _write_plan(plan, opened, unknown, as_json=as_json)
        return
    report = job.fetch(plan)
    if as_json:
        _write_report(report)


class _Job:
    """One run of `fetch`: where to, how, and what was agreed to."""

    def __init__(
        self,
        release: Release,
        settings: DownloadSettings,
        progress: Progress,
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
        """Find the matrices of metadata directories; bring their cell_metadata first.

        Those whose cell_metadata is not on disk in a dry run are given as second list.
        """
        from abc_dask.acquire.selection import matrices_for, tables_for

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
        from abc_dask.acquire.download import describe
        from abc_dask.acquire.download import fetch as bring

        plan.require_room(self.release.download_base)
        agree(plan.bytes_to_fetch, plan.bytes_free, yes=self.yes)
        report = bring(
            self.release,
            [file.entry for file in plan.files],
            settings=self.settings,
            progress=self.progress,
            remove_damaged=self.remove_damaged,
        )
        click.echo(describe(report), err=True)
        return report


def agree(size: int, free: int, *, yes: bool) -> None:
    """Ask before a large download.

    Raises
    ------
    UsageError
        If nobody can be asked.
    AbcDaskError
        If the answer is no.
    """
    from abc_dask.config import parse_bytes, setting

    limit = parse_bytes(setting("download.ask-above"), option="ask-above")
    if yes or size <= limit:
        return
    text = f"{format_bytes(size)} to fetch, {format_bytes(free)} free"
    if not sys.stdin.isatty():
        raise UsageError(f"{text}: more than {format_bytes(limit)} need --yes")
    if not click.confirm(f"{text}; go on?", err=True):
        raise AbcDaskError("nothing fetched")


def _open_release(release: str | None, download_base: Path, *, dry_run: bool) -> Release:
    from abc_dask.acquire.remote import fetch_manifest, load_manifest
    from abc_dask.release import Release as Opened

    if dry_run:
        base = download_base.expanduser().resolve()
        return Opened(base, load_manifest(release, download_base))
    return fetch_manifest(release, download_base)


def _write_plan(plan: FetchPlan, release: Release, unknown: list[str], *, as_json: bool) -> None:
    if as_json:
        _write_json(
            {
                "release": release.version,
                "files": [
                    _entry_json(f.entry) | {"action": f.action.value, "there": f.bytes_there}
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
        click.echo(text_table(("file", "size", "action"), rows, "<><"))
        click.echo(
            f"{plural(len(plan.files), 'file')} of release {release.version}: "
            f"{format_bytes(plan.bytes_total)}, {format_bytes(plan.bytes_to_fetch)} to fetch, "
            f"{format_bytes(plan.bytes_free)} free"
        )
    if plan.bytes_to_fetch > plan.bytes_free:
        click.echo("there is not enough space for that", err=True)
    for name in unknown:
        click.echo(
            f"the matrices of {name} are known once its cell_metadata is on disk: "
            f"fetch {name}/metadata/cell_metadata first",
            err=True,
        )


def _write_report(report: FetchReport) -> None:
    _write_json(
        [
            _entry_json(f.entry)
            | {"adopted": f.adopted, "verified": f.verified, "bytes_fetched": f.bytes_fetched}
            for f in report.files
        ]
    )


# -- check


@click.command()
@_needed_base
@_release
@click.option("--rehash", is_flag=True, help="Read every file again.")
@_quiet
@as_json_option
@verbose
def check(
    download_base: Path, *, release: str | None, rehash: bool, quiet: bool, as_json: bool
) -> None:
    """Say what of a release is complete, missing, damaged or unverified on disk.

    Ends with exit code 1 if a file is damaged.
    """
    from abc_dask.acquire.check import State
    from abc_dask.acquire.check import check as look
    from abc_dask.acquire.progress import progress_on
    from abc_dask.release import Release as Opened

    opened = Opened.open(download_base, release)
    report = look(opened, rehash=rehash, progress=progress_on(sys.stderr, quiet=quiet))
    if as_json:
        files = [
            _entry_json(f.entry) | {"state": f.state.value, "reason": f.reason}
            for f in report.files
        ]
        _write_json({"release": opened.version, "files": files})
    else:
        for state in (State.DAMAGED, State.PARTIAL, State.UNVERIFIED, State.COMPLETE):
            for file in report.of(state):
                reason = f" ({file.reason})" if file.reason else ""
                click.echo(f"{state.value:11}{file.entry.relative_path}{reason}")
        missing = report.of(State.MISSING)
        if missing:
            names = sorted({file.entry.dataset_label for file in missing})
            size = format_bytes(sum(file.entry.size for file in missing))
            click.echo(
                f"{'missing':11}{plural(len(missing), 'file')} ({size}) of: "
                f"{enumerate_names(names)}"
            )
        counts = [f"{len(report.of(s)):,} {s.value}" for s in State if report.of(s)]
        click.echo(f"release {opened.version}: {', '.join(counts)}", err=True)
    if report.of(State.DAMAGED):
        click.get_current_context().exit(1)
