"""Options and arguments as all commands read them: lists, pairs, and where defaults are from."""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

Command = TypeVar("Command", bound=Callable[..., Any])


def options_of(*options: Callable[[Any], Any]) -> Callable[[Command], Command]:
    """Make one decorator of several options, which help lists in this order."""

    def add(command: Command) -> Command:
        for option in reversed(options):
            command = option(command)
        return command

    return add


def split_names(values: Iterable[str]) -> list[str]:
    """Return the names in values that may join several by commas.

    A name that has a comma itself stands in double quotes.

    Examples
    --------
    >>> split_names(["Tac2, Slc17a7", "Calb1"])
    ['Tac2', 'Slc17a7', 'Calb1']
    >>> split_names(['"Somatosensory area, trunk",TH'])
    ['Somatosensory area, trunk', 'TH']
    """
    names = []
    for value in values:
        lines = value.splitlines()
        rows = csv.reader(lines, skipinitialspace=True) if '"' in value else _plain(lines)
        names += [name.strip() for row in rows for name in row]
    return [name for name in names if name]


def _plain(lines: list[str]) -> list[list[str]]:
    return [line.split(",") for line in lines]


def _split_paths(values: Iterable[str]) -> list[str]:
    """Return the paths in values; a comma in the name of a path that is there is its own."""
    return [
        path
        for value in values
        for path in ([value] if Path(value).expanduser().exists() else split_names([value]))
    ]


class Option(click.Option):
    """An option of which several values are given by commas, or by giving it again.

    Parameters
    ----------
    shared : bool
        Where neither the command line nor the environment of the command (such as
        ``ABC_DASK_EXTRACT_RELEASE``) says anything, ask that of all commands
        (``ABC_DASK_RELEASE``), then the setting ``abc-dask.release`` of dask.config.
    paths : bool
        Its values are paths.
    """

    def __init__(
        self, *arguments: Any, shared: bool = False, paths: bool = False, **attributes: Any
    ) -> None:
        super().__init__(*arguments, **attributes)
        self._is_shared = shared
        self._split = _split_paths if paths else split_names

    def resolve_envvar_value(self, ctx: click.Context) -> str | None:
        """Return the text of the environment, the command's own before that of all."""
        value = super().resolve_envvar_value(ctx)
        if value is None and self._is_shared and self.name:
            value = os.environ.get(f"ABC_DASK_{self.name.upper()}") or None
        return value

    def value_from_envvar(self, ctx: click.Context) -> Any:
        """Return the value of the environment; a list is split by its commas alone."""
        if not self.multiple:
            return super().value_from_envvar(ctx)
        value = self.resolve_envvar_value(ctx)
        return None if value is None else [value]

    def get_default(self, ctx: click.Context, call: bool = True) -> Any:  # noqa: FBT001, FBT002
        """Return the setting of dask.config if there is one, else the option's own default."""
        # neither help nor completion waits for Dask
        if call and self._is_shared and self.name and not ctx.resilient_parsing:
            from abc_dask.base.config import setting

            value = setting(self.name.replace("_", "-"))
            if value is not None:
                return [value] if self.multiple else value
        return super().get_default(ctx, call=call)

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        """Return the value; a list as a tuple of all names."""
        value = super().type_cast_value(ctx, value)
        return tuple(self._split(value)) if self.multiple else value


class ListArgument(click.Argument):
    """An argument of several values, by commas or blanks between them.

    Parameters
    ----------
    paths : bool
        Its values are paths.
    """

    def __init__(self, *arguments: Any, paths: bool = False, **attributes: Any) -> None:
        super().__init__(*arguments, **attributes | {"nargs": -1})
        self._split = _split_paths if paths else split_names

    def type_cast_value(self, ctx: click.Context, value: Any) -> Any:
        """Return all values."""
        return tuple(self._split(super().type_cast_value(ctx, value)))


class PairOption(click.Option):
    """Two numbers: ``0 6``, ``0,6``, or the option given twice."""

    def __init__(self, *arguments: Any, **attributes: Any) -> None:
        super().__init__(*arguments, **attributes | {"nargs": 2, "type": float})

    def joined(self, args: list[str]) -> list[str]:
        """Return a command line with the pair as click reads it.

        Examples
        --------
        >>> PairOption(["--limits"]).joined(["a", "--limits=0,6", "b"])
        ['--limits', '0', '6', 'a', 'b']
        """
        kept: list[str] = []
        values: list[str] = []
        rest = list(args)
        while rest:
            word = rest.pop(0)
            name, equals, text = word.partition("=")
            if word == "--":
                kept += [word, *rest]
                break
            if name not in self.opts or not (equals or rest):
                kept.append(word)
                continue
            own = split_names([text if equals else rest.pop(0)])
            if len(own) == 1 and not len(values) % 2 and rest and _is_number(rest[0]):
                own.append(rest.pop(0))
            values += own
        if len(values) % 2:
            text = f"option {self.opts[0]} takes two numbers, such as {self.opts[0]} 0,6"
            raise click.BadOptionUsage(self.opts[0], text)
        pairs = [values[k : k + 2] for k in range(0, len(values), 2)]
        return [word for pair in pairs for word in (self.opts[0], *pair)] + kept

    def value_from_envvar(self, ctx: click.Context) -> Any:
        """Return the pair in the environment."""
        value = self.resolve_envvar_value(ctx)
        return None if value is None else split_names(value.split())


def _is_number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True
