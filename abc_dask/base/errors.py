"""One family of errors: each is one line that says what was wrong and what mends it."""

from __future__ import annotations

from abc_dask.base.callers import in_words_of_caller
from abc_dask.base.messages import one_line


class AbcDaskError(Exception):
    """Base of every error that this package raises on purpose.

    The command line prints its message in one line, without a traceback, and
    exits with `exit_code`. Control characters of names and values that it quotes are
    written as escapes, wherever it is shown; options have the names by which the caller
    knows them (`abc_dask.base.callers`).
    """

    exit_code = 1

    def __init__(self, *arguments: object) -> None:
        super().__init__(*(one_line(a) if isinstance(a, str) else a for a in arguments))

    def __str__(self) -> str:
        """Return the message in the words of the caller."""
        return in_words_of_caller(super().__str__())

    def _render_traceback_(self) -> list[str]:
        """Return what IPython prints: the lines that lead to the call, and the message.

        What happened within this package is of no use to who asked; ``%debug`` and
        `traceback.print_exception` still have it. Plain Python prints all.
        """
        import traceback

        frames = []
        for frame, line in traceback.walk_tb(self.__traceback__):
            package = str(frame.f_globals.get("__name__")).partition(".")[0]
            if package == __package__.partition(".")[0]:
                break
            if package != "IPython":
                frames.append((frame, line))
        called = traceback.StackSummary.extract(iter(frames)).format()
        text = "".join(called).splitlines()
        return [*text, f"{type(self).__name__}: {self}"]


class UsageError(AbcDaskError):
    """The request itself is off: an option, an empty gene list, an unknown format."""

    exit_code = 2


class ManifestError(AbcDaskError):
    """A manifest is not what a release's manifest must be."""


class ReleaseError(AbcDaskError):
    """A download_base, a release, a dataset or a table is not there."""


class MissingFileError(ReleaseError):
    """Files that the manifest lists are not on disk."""


class UnknownNameError(UsageError, MissingFileError):
    """A folder, release, dataset, table or file that was named is not there."""


class DamagedFileError(AbcDaskError):
    """A file's bytes or structure contradict what it claims to be."""


class UnavailableFileError(AbcDaskError):
    """A file is there, but its disk does not answer or another program holds it; it may pass.

    Attributes
    ----------
    was_retried : bool
        It was tried as often as the settings ``abc-dask.read`` say.
    """

    was_retried = False


class ResourceError(AbcDaskError):
    """The system refused memory or threads: nothing is wrong with the files."""


class CacheError(AbcDaskError):
    """A table that was kept between runs is damaged or gone; it can be made anew."""


class DownloadError(AbcDaskError):
    """A file or a list of files could not be fetched, or is not what the manifest says."""


class TableError(AbcDaskError):
    """A metadata or gene table lacks columns, repeats labels, or does not fit."""


class GeneError(UsageError):
    """A gene is unknown, ambiguous or asked for twice."""


class ViewError(AbcDaskError):
    """A view exists already, is not finished, is damaged, or cannot be written."""


class PathError(UsageError, ViewError):
    """A path that was named is no view, or an output that is there already or must stay."""


class StoreError(AbcDaskError):
    """A gene-major store is not one, is damaged or unfinished, or cannot be written."""


class NoStoreError(UsageError, StoreError):
    """A path that was named is no gene-major store."""


class ClusterError(AbcDaskError):
    """No cluster could be reached, or it lost its workers."""
