"""Errors of the command line itself as one line each, with what was probably meant."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

import click
from click.exceptions import NoArgsIsHelpError

from abc_dask.base.messages import one_line


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """Return the tail of a message that names the likeliest of some names; else "".

    Examples
    --------
    >>> did_you_mean("extrct", ["extract", "explore"])
    '; did you mean extract?'
    """
    near = difflib.get_close_matches(name.casefold(), sorted(names), n=3, cutoff=0.6)
    return f"; did you mean {' or '.join(near)}?" if near else ""


def usage_line(error: click.ClickException) -> str:
    """Return an error of click as one line."""
    context = getattr(error, "ctx", None)
    if isinstance(error, click.NoSuchOption) and context is not None:
        known = [o for p in context.command.get_params(context) for o in p.opts if o[:2] == "--"]
        text = f"there is no option {error.option_name}"
        text += did_you_mean(error.option_name, known)
    else:
        text = " ".join(error.format_message().split()).removesuffix(".")
        text = text[:1].lower() + text[1:]
    if context is not None and not text.endswith("?"):
        text += f"; see {context.command_path} --help"
    return one_line(text)


def is_help(error: click.ClickException) -> bool:
    """Return whether it is no error but the help of a group that was called without a command."""
    return isinstance(error, NoArgsIsHelpError)
