"""Commands on releases and what is on disk of them: releases, datasets, diff, check."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from abc_dask.base.errors import DownloadError
from abc_dask.base.messages import enumerate_names, format_bytes, plural, text_table
from abc_dask.cli.command import command, echo
from abc_dask.cli.common import is_quiet, wants_json
from abc_dask.cli.options import (
    base_option,
    entry_json,
    needed_base_option,
    release_option,
    write_json,
)

if TYPE_CHECKING:
    from abc_dask.release.manifest import Manifest


@command()
@base_option
def releases(download_base: Path | None) -> None:
    """List the releases that the server has and those on disk."""
    from abc_dask.acquire.remote import list_remote_releases
    from abc_dask.release.release import list_releases

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
        echo(f"only what is on disk: {problem}", err=True)
    if wants_json():
        write_json(
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
        echo(f"{version}  on disk" if version in on_disk else version)


@command()
@release_option
@base_option
def datasets(release: str | None, download_base: Path | None) -> None:
    """List the datasets of a release: kinds, files, sizes."""
    from abc_dask.acquire.remote import load_manifest
    from abc_dask.release.release import origin, release_text

    manifest = load_manifest(release, download_base)
    rows = _dataset_rows(manifest)
    if wants_json():
        names = ("dataset_label", "kind", "normalization", "files", "size")
        records = [dict(zip(names, row, strict=True)) for row in rows]
        said = origin(manifest.version, synthetic=manifest.synthetic)
        write_json(said | {"datasets": records})
        return
    shown = [
        (dataset, kind, norm or "", count, format_bytes(size))
        for dataset, kind, norm, count, size in rows
    ]
    echo(release_text(origin(manifest.version, synthetic=manifest.synthetic)))
    echo(text_table(("dataset", "kind", "normalization", "files", "size"), shown, "<<<>>"))


def _dataset_rows(manifest: Manifest) -> list[tuple[str, str, str | None, int, int]]:
    groups: dict[tuple[str, str, str | None], list[int]] = {}
    for entry in manifest.files:
        key = (entry.dataset_label, entry.kind, entry.normalization)
        groups.setdefault(key, []).append(entry.size)
    ordered = sorted(groups.items(), key=lambda item: (*item[0][:2], item[0][2] or ""))
    return [(*key, len(sizes), sum(sizes)) for key, sizes in ordered]


@command()
@click.argument("old", metavar="V1")
@click.argument("new", metavar="V2")
@base_option
def diff(old: str, new: str, download_base: Path | None) -> None:
    """List the files that release V2 added to V1, removed, or changed."""
    from abc_dask.acquire.choose import diff as compare
    from abc_dask.acquire.remote import load_manifest

    found = compare(load_manifest(old, download_base), load_manifest(new, download_base))
    if wants_json():
        pairs = {"changed": found.changed, "moved": found.moved}
        write_json(
            {
                "added": [entry_json(entry) for entry in found.added],
                "removed": [entry_json(entry) for entry in found.removed],
                **{
                    name: [{"old": entry_json(a), "new": entry_json(b)} for a, b in value]
                    for name, value in pairs.items()
                },
            }
        )
        return
    for word, entries in (("added", found.added), ("removed", found.removed)):
        for entry in entries:
            echo(f"{word:8}{entry.relative_path}  {format_bytes(entry.size)}")
    for word, both in (("changed", found.changed), ("moved", found.moved)):
        for was, now in both:
            path = now.relative_path
            if was.relative_path != path:
                path = f"{was.relative_path} -> {path}"
            echo(f"{word:8}{path}  {format_bytes(was.size)} -> {format_bytes(now.size)}")
    echo(
        f"{len(found.added):,} added ({format_bytes(sum(e.size for e in found.added))}), "
        f"{len(found.removed):,} removed, {len(found.changed):,} changed, "
        f"{len(found.moved):,} moved",
        err=True,
    )


@command()
@needed_base_option
@release_option
@click.option("--rehash", is_flag=True, help="Read every file again.")
def check(download_base: Path, *, release: str | None, rehash: bool) -> None:
    """List what of a release is complete, missing, damaged or unverified on disk.

    Ends with exit code 1 if a file is damaged.
    """
    from abc_dask.acquire.check import State
    from abc_dask.acquire.check import check as look
    from abc_dask.acquire.progress import FetchProgress
    from abc_dask.release.release import Release as Opened

    opened = Opened.open(download_base, release)
    report = look(opened, rehash=rehash, progress=FetchProgress("check", quiet=is_quiet()))
    if wants_json():
        files = [
            entry_json(f.entry) | {"state": f.state.value, "reason": f.reason} for f in report.files
        ]
        write_json({"release": opened.version, "files": files})
    else:
        for state in (State.DAMAGED, State.PARTIAL, State.UNVERIFIED, State.COMPLETE):
            for file in report.of(state):
                reason = f" ({file.reason})" if file.reason else ""
                echo(f"{state.value:11}{file.entry.relative_path}{reason}")
        missing = report.of(State.MISSING)
        if missing:
            names = sorted({file.entry.dataset_label for file in missing})
            size = format_bytes(sum(file.entry.size for file in missing))
            echo(
                f"{'missing':11}{plural(len(missing), 'file')} ({size}) of: "
                f"{enumerate_names(names)}"
            )
        counts = [f"{len(report.of(s)):,} {s.value}" for s in State if report.of(s)]
        echo(f"release {opened.version}: {', '.join(counts)}", err=True)
    if report.of(State.DAMAGED):
        click.get_current_context().exit(1)
