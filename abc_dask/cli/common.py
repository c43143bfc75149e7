"""Options that every command has, before its name or after it, and what they change."""

from __future__ import annotations

import logging
import shlex
import sys
import traceback

import click

from abc_dask._version import __version__
from abc_dask.base.messages import one_line, without_password

_QUIET, _JSON, _VERBOSE, _LOG_FILE = (f"abc_dask.{name}" for name in ("-q", "json", "-v", "log"))

_log = logging.getLogger("abc_dask.cli")

_FORMAT = "%(asctime)s %(levelname)s %(message)s"


def common_options() -> list[click.Option]:
    """Return the options of every command; what was given anywhere holds for the whole run."""

    def flag(*names: str, key: str, text: str) -> click.Option:
        def remember(ctx: click.Context, _parameter: click.Parameter, value: bool) -> None:  # noqa: FBT001
            if value:
                ctx.meta[key] = True

        return click.Option(names, is_flag=True, expose_value=False, callback=remember, help=text)

    return [
        flag("-q", "--quiet", key=_QUIET, text="Show no progress, and no summary of what is made."),
        flag("--json", "json", key=_JSON, text="Print JSON."),
        flag(
            "-v",
            "--verbose",
            key=_VERBOSE,
            text="Show whole tables, and the traceback of an error.",
        ),
        click.Option(
            ["--log-file"],
            metavar="F",
            expose_value=False,
            callback=_open_log,
            help="Append what is said, with times, and tracebacks to this file.",
        ),
    ]


def is_quiet() -> bool:
    """Return whether progress and summaries are unwanted."""
    return _was_given(_QUIET)


def wants_json() -> bool:
    """Return whether the result is printed as JSON."""
    return _was_given(_JSON)


def is_verbose() -> bool:
    """Return whether tables are wanted whole, and tracebacks."""
    return _was_given(_VERBOSE)


def _was_given(key: str) -> bool:
    context = click.get_current_context(silent=True)
    return context is not None and key in context.meta


def _open_log(ctx: click.Context, parameter: click.Parameter, value: str | None) -> None:
    """Append the package's and Dask's log records to a file until the command ends."""
    if value is None or ctx.resilient_parsing or _LOG_FILE in ctx.meta:
        return
    try:
        handler = logging.FileHandler(value, encoding="utf-8", errors="backslashreplace")
    except OSError as error:
        reason = f"{value} cannot be written: {error.strerror or error}"
        raise click.BadParameter(reason, ctx=ctx, param=parameter) from None
    handler.setFormatter(logging.Formatter(_FORMAT))
    ctx.meta[_LOG_FILE] = handler
    ours, distributed = logging.getLogger("abc_dask"), logging.getLogger("distributed")
    level, propagates = ours.level, ours.propagate
    ours.setLevel(logging.INFO)
    ours.propagate = False
    for logger in (ours, distributed):
        logger.addHandler(handler)

    def close() -> None:
        for logger in (ours, distributed):
            logger.removeHandler(handler)
        ours.setLevel(level)
        ours.propagate = propagates
        handler.close()

    ctx.find_root().call_on_close(close)
    words = shlex.join(without_password(word) for word in sys.argv[1:])
    _log.info("abc-dask %s: %s", __version__, one_line(words))


def log_text(text: str, *, err: bool = False) -> None:
    """Write what is printed to the log file, if there is one."""
    if _was_given(_LOG_FILE):
        for line in text.splitlines():
            _log.log(logging.WARNING if err else logging.INFO, "%s", one_line(line))


def log_failure() -> None:
    """Write the traceback of the current exception to the log file, if there is one."""
    if _was_given(_LOG_FILE) and sys.exc_info()[0] is not None:
        _log.error("%s", traceback.format_exc().rstrip())
