"""The command line: words to calls.

Also reachable as ``dask abc``. Modules of commands are imported when a command is asked
for, and import nothing heavy themselves, so that ``--help`` answers at once.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import logging
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

import click

from abc_dask._version import __version__
from abc_dask.base.callers import command_line
from abc_dask.base.errors import AbcDaskError
from abc_dask.base.messages import Stream
from abc_dask.cli.command import Group, echo, lost_output, open_standard_streams
from abc_dask.cli.common import is_verbose, log_failure
from abc_dask.cli.usage import is_help, usage_line

_COMMANDS = {
    "demo": "abc_dask.cli.demo",
    "doctor": "abc_dask.cli.doctor",
    "tutorials": "abc_dask.cli.tutorials",
    "releases": "abc_dask.cli.releases",
    "datasets": "abc_dask.cli.releases",
    "diff": "abc_dask.cli.releases",
    "fetch": "abc_dask.cli.fetch",
    "check": "abc_dask.cli.releases",
    "matrices": "abc_dask.cli.tables",
    "genes": "abc_dask.cli.tables",
    "index": "abc_dask.cli.index",
    "columns": "abc_dask.cli.annotations",
    "table": "abc_dask.cli.annotations",
    "extract": "abc_dask.cli.extract",
    "extract-part": "abc_dask.cli.job_array",
    "finalize": "abc_dask.cli.job_array",
    "credentials": "abc_dask.cli.credentials",
    "cells": "abc_dask.cli.cells",
    "view": "abc_dask.cli.view",
    "store": "abc_dask.cli.store",
    "summarize": "abc_dask.cli.summarize",
    "markers": "abc_dask.cli.markers",
    "pseudobulk": "abc_dask.cli.markers",
    "plot": "abc_dask.cli.plot",
    "report": "abc_dask.cli.report",
    "explore": "abc_dask.cli.explore",
}


class Terminated(BaseException):
    """SIGTERM arrived; unwinds the stack like KeyboardInterrupt does."""


class Commands(Group):
    """Commands that are imported on use, and errors that are one line."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        """List the commands in the order in which a user meets them."""
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import a command."""
        if cmd_name not in _COMMANDS:
            return None
        command: click.Command = getattr(
            importlib.import_module(_COMMANDS[cmd_name]), cmd_name.replace("-", "_")
        )
        return command

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse what stands before the command."""
        try:
            return super().parse_args(ctx, args)
        except click.ClickException as error:
            if is_help(error):
                raise
            _fail(ctx, usage_line(error), error.exit_code)

    def invoke(self, ctx: click.Context) -> None:
        """Run a command; whatever goes wrong is one line and an exit code."""
        with command_line():
            self._invoke(ctx)

    def _invoke(self, ctx: click.Context) -> None:
        signals = _Signals()
        try:
            signals.watch()
            super().invoke(ctx)
            _report_loss(ctx)
        except (KeyboardInterrupt, Terminated) as stop:
            number = signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT
            with signals.saying():
                _fail(ctx, *_STOPPED[number])
        except AbcDaskError as error:
            _fail(ctx, str(error), error.exit_code)
        except click.ClickException as error:
            if is_help(error):
                raise
            _fail(ctx, usage_line(error), error.exit_code)
        except (click.exceptions.Exit, click.Abort):
            raise
        except MemoryError:
            _fail(ctx, "out of memory; try a smaller --block-size or fewer genes at a time", 1)
        except Exception as error:  # noqa: BLE001 - the last resort of a command line
            if signals.came is not None:
                with signals.saying():
                    _fail(ctx, *_STOPPED[signals.came])
            reason = " ".join(str(error).split())
            _fail(ctx, f"unexpected {type(error).__name__}: {reason} (-v shows where)", 1)
        finally:
            signals.leave()


_AGAIN = "run the same command again to complete the work"

_STOPPED = {
    signal.SIGINT: (f"interrupted; {_AGAIN}", 130),
    signal.SIGTERM: (f"terminated; {_AGAIN}", 143),
}

# Seconds after which a signal is raised again: the callback that it fell into is over by then.
_LATER = 0.05


class _Signals:
    """The first SIGINT or SIGTERM unwinds the stack; another one ends the process at once.

    Nothing is lost by that: a view is complete or absent whenever the process ends.

    Python runs a handler wherever it happens to be. Within a callback of a weak reference, or a
    ``__del__``, it drops what the handler raises, and the run would go on as if nobody had asked it
    to stop; so what is dropped there is raised again a little later. Where a lock is taken back the
    exception becomes another one ("release unlocked lock"): an unexpected error after a signal is
    the signal's.
    """

    def __init__(self) -> None:
        self.came: signal.Signals | None = None
        self._is_being_said = False
        self._is_said = False
        self._is_over = False
        self._ends_with: int | None = None
        self._previous: dict[int, Any] = {}
        self._previous_hook = sys.unraisablehook

    def watch(self) -> None:
        """Handle signals from here on; those that are ignored (nohup) stay so."""
        with contextlib.suppress(ValueError):  # not in the main thread
            for number in _STOPPED:
                if signal.getsignal(number) is not signal.SIG_IGN:
                    self._previous[number] = signal.signal(number, self._stop)
            sys.unraisablehook = self._dropped

    def leave(self) -> None:
        """Restore the handlers, unless a signal came: the interpreter's end may take a while."""
        if self.came is None:
            for number, previous in self._previous.items():
                signal.signal(number, previous)
            sys.unraisablehook = self._previous_hook
        self._is_over = True

    @contextlib.contextmanager
    def saying(self) -> Iterator[None]:
        """Let the one line be written, once, whatever signals come meanwhile."""
        self._is_being_said = True
        try:
            yield
        finally:
            self._is_said = True
            self._is_being_said = False
            if self._ends_with is not None:
                os._exit(self._ends_with)

    def _stop(self, number: int, _frame: FrameType | None) -> None:
        message, code = _STOPPED[signal.Signals(number)]
        if self._is_being_said:  # the line first
            self._ends_with = code
            return
        if self.came is not None:
            if not self._is_said:
                with contextlib.suppress(OSError):
                    os.write(2, f"abc-dask: error: {message}\n".encode())
            os._exit(code)
        self.came = signal.Signals(number)
        # what it would say of tasks that are broken off now, zarr's among them, is no news
        logging.getLogger("asyncio").disabled = True
        raise Terminated if number == signal.SIGTERM else KeyboardInterrupt

    def _dropped(self, what: sys.UnraisableHookArgs) -> None:
        if what.exc_type not in {KeyboardInterrupt, Terminated} or self._is_said:
            self._previous_hook(what)
            return
        number = signal.SIGTERM if what.exc_type is Terminated else signal.SIGINT
        again = threading.Timer(_LATER, self._again, [number])
        again.daemon = True
        again.start()

    def _again(self, number: int) -> None:
        if not self._is_over:
            self.came = None
            os.kill(os.getpid(), number)


def _report_loss(ctx: click.Context) -> None:
    """End as other programs do where the output could not be written; the work is done."""
    error = lost_output(ctx)
    if isinstance(error, BrokenPipeError):  # the reader has seen enough
        ctx.exit(141)
    if error is not None:
        reason = getattr(error, "strerror", None) or error
        _fail(ctx, f"the output could not be printed: {reason}; nothing else failed", 1)


def _fail(ctx: click.Context, message: str, code: int) -> NoReturn:
    with ctx.scope(cleanup=False):  # options before the command were read for this context
        if is_verbose():
            echo(traceback.format_exc(), err=True, nl=False)
        log_failure()
        echo(f"abc-dask: error: {message}", err=True)
    ctx.exit(code)


_SETTINGS = {"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "ABC_DASK"}


@click.group(name="abc", cls=Commands, context_settings=_SETTINGS)
@click.version_option(__version__, prog_name="abc-dask")
def cli() -> None:
    """Extract gene expression from the Allen Brain Cell (ABC) Atlas."""


# Imports make some hundred thousand objects that stay to the end; with Python's own
# threshold of 700, looking through them again and again is a tenth of a short command.
_GC_THRESHOLD = 50_000


def _in_one_line(message: Warning | str, category: type[Warning], *place: Any) -> None:
    """Print a warning as errors are printed; those of libraries say where they are from."""
    if category is UserWarning:
        echo(f"abc-dask: warning: {message}", err=True)
    else:
        echo(warnings.formatwarning(message, category, *place[:2]), err=True, nl=False)


def main() -> NoReturn:
    """Run the command ``abc-dask``."""
    gc.set_threshold(_GC_THRESHOLD)
    open_standard_streams()
    warnings.showwarning = _in_one_line  # type: ignore[assignment]
    code = 1
    try:
        cli(prog_name="abc-dask")
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    # As Python ends: threads first (a transfer that was broken off writes its journal), then what
    # asked to be called. But taking modules apart and freeing memory piece by piece would take
    # another quarter of a second.
    try:
        threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001 - there is no other way
        atexit._run_exitfuncs()  # noqa: SLF001
    except KeyboardInterrupt:
        code = code or 130
    out = Stream(sys.stdout)
    out.flush()
    Stream(sys.stderr).flush()
    os._exit(code or int(out.error is not None))
