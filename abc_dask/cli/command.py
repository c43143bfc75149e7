"""What all commands have in common: options that stand once, and text that does no harm."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from abc_dask.base import messages
from abc_dask.base.messages import quoted
from abc_dask.cli.cluster_options import load_workers
from abc_dask.cli.common import common_options, is_quiet, log_text, wants_json
from abc_dask.cli.complete import add_completion
from abc_dask.cli.parameters import PairOption
from abc_dask.cli.usage import did_you_mean
from abc_dask.disk.files import require_utf8

_LOST = "abc_dask.lost"


class Command(click.Command):
    """A command with the options that all have, which refuses an option that is given twice.

    Click takes the last one, and the first is lost without a word.
    """

    def __init__(self, *arguments: Any, **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        add_common_options(self)
        add_completion(self)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments of the command."""
        if ctx.resilient_parsing:  # a line that is being typed
            return super().parse_args(ctx, self._without_last_option(args))
        for argument in args:
            require_utf8(argument)
        for parameter in self.params:
            if isinstance(parameter, PairOption):
                args = parameter.joined(args)
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        once = [p for p in order if isinstance(p, click.Option) and not (p.multiple or p.count)]
        for number, parameter in enumerate(once):
            if parameter in once[:number]:
                name = " / ".join(parameter.opts)
                raise click.UsageError(f"Option {name} is given twice; give it once.", ctx=ctx)
        return super().parse_args(ctx, args)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; worker processes begin to load meanwhile, where it will start some."""
        load_workers(ctx)
        return super().invoke(ctx)

    def _without_last_option(self, args: list[str]) -> list[str]:
        """Return a line without the option whose value is being typed.

        Click would stop there, and not take the arguments before it.
        """
        for parameter in self.params:
            takes_value = isinstance(parameter, click.Option) and not parameter.is_flag
            if takes_value and args and args[-1] in parameter.opts:
                return args[:-1]
        return args


class Group(click.Group):
    """A group of such commands.

    Parameters
    ----------
    default : str, optional
        The command that is meant where a path stands in its place.
    """

    command_class = Command

    def __init__(self, *arguments: Any, default: str | None = None, **attributes: Any) -> None:
        super().__init__(*arguments, **attributes)
        self._default = default
        add_common_options(self)

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem]:
        """Return commands and options; files where a path may stand in place of a command."""
        found = super().shell_complete(ctx, incomplete)
        if found or self._default is None:
            return found
        return [CompletionItem(incomplete, type="file")]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; a misspelt one is an error that names the likeliest."""
        name = args[0]
        if ctx.resilient_parsing and self._default is None:
            return super().resolve_command(ctx, args)
        if not name.startswith("-") and self.get_command(ctx, name) is None:
            meant = did_you_mean(name, self.list_commands(ctx))
            if self._default is None or (meant and not _is_path(name)):
                raise click.UsageError(f"there is no command {quoted(name)}{meant}", ctx=ctx)
            args = [self._default, *args]
        return super().resolve_command(ctx, args)


def _is_path(name: str) -> bool:
    return "/" in name or bool(Path(name).suffix) or Path(name).exists()


def add_common_options(command: click.Command) -> None:
    """Add the options of every command, unless it has its own of that name."""
    taken = {name for parameter in command.params for name in parameter.opts}
    command.params += [one for one in common_options() if not taken.intersection(one.opts)]


def command(name: str | None = None) -> Callable[[Callable[..., Any]], Command]:
    """Make a function such a command."""
    return click.command(name, cls=Command)


def group(default: str | None = None) -> Callable[[Callable[..., Any]], Group]:
    """Make a function a group of such commands."""
    return click.group(cls=Group, default=default)


def echo(text: object = "", *, err: bool = False, nl: bool = True) -> None:
    """Print a text without its control characters; `lost_output` returns whether it got lost."""
    error = messages.echo(text, err=err, nl=nl)
    log_text(str(text), err=err)
    context = click.get_current_context(silent=True)
    if error is not None and not err and context is not None:
        context.meta[_LOST] = error


def show(text: Callable[[], str], record: Callable[[], Any]) -> None:
    """Print an answer: as text, or as JSON with ``--json``."""
    echo(json.dumps(record(), indent=1, ensure_ascii=False) if wants_json() else text())


def show_made(text: Callable[[], str], record: Callable[[], Any]) -> None:
    """Print what was made, as `show`; nothing with ``--quiet`` alone."""
    if wants_json() or not is_quiet():
        show(text, record)


def show_written(path: object) -> None:
    """Print that a file or folder was written."""
    show_made(lambda: f"{path} written", lambda: {"written": str(path)})


def lost_output(ctx: click.Context) -> Exception | None:
    """Return why a part of the output was lost, and leave nothing of it for Python's own end."""
    error: Exception | None = ctx.meta.get(_LOST)
    if error is not None:
        with contextlib.suppress(Exception):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return error


def open_standard_streams() -> None:
    """Open /dev/null as each standard stream that the process was started without.

    Otherwise the next file that is opened would be taken for it by whoever writes there. And
    libraries ask for `sys.stderr.write` when they are imported, NumPy 2.0 for one.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    sys.stdout = sys.stdout or open(1, "w", closefd=False)  # noqa: SIM115
    sys.stderr = sys.stderr or open(2, "w", closefd=False)  # noqa: SIM115
