"""What all commands have in common: options that stand once, and text that does no harm."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any

import click

from abc_dask import terminal
from abc_dask.disk.files import require_utf8

_LOST = "abc_dask.lost"


class Command(click.Command):
    """A command that refuses an option that is given twice where one is meant.

    Click takes the last one, and the first is lost without a word.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the arguments of the command."""
        for argument in args:
            require_utf8(argument)
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        once = [p for p in order if isinstance(p, click.Option) and not (p.multiple or p.count)]
        for number, parameter in enumerate(once):
            if parameter in once[:number]:
                name = " / ".join(parameter.opts)
                raise click.UsageError(f"Option {name} is given twice; give it once.", ctx=ctx)
        return super().parse_args(ctx, args)


class Group(click.Group):
    """A group of such commands."""

    command_class = Command


def command(name: str | None = None) -> Callable[[Callable[..., Any]], Command]:
    """Make a function such a command."""
    return click.command(name, cls=Command)


def group() -> Callable[[Callable[..., Any]], Group]:
    """Make a function a group of such commands."""
    return click.group(cls=Group)


def echo(text: object = "", *, err: bool = False, nl: bool = True) -> None:
    """Print a text without its control characters; `lost_output` returns whether it got lost."""
    error = terminal.echo(text, err=err, nl=nl)
    context = click.get_current_context(silent=True)
    if error is not None and not err and context is not None:
        context.meta[_LOST] = error


def lost_output(ctx: click.Context) -> Exception | None:
    """Return why a part of the output was lost, and leave nothing of it for Python's own end."""
    error: Exception | None = ctx.meta.get(_LOST)
    if error is not None:
        with contextlib.suppress(Exception):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return error


def open_standard_streams() -> None:
    """Open /dev/null as each standard stream that the process was started without.

    Otherwise the next file that is opened would be taken for it by whoever writes there.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
