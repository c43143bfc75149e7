"""Progress: a widget in notebooks, a bar on a terminal, elsewhere a line now and then."""

from __future__ import annotations

import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Self, TypeVar

from abc_dask.base.messages import Stream, format_bytes, one_line, plural

Item = TypeVar("Item")

# Seconds between two lines where there is no terminal.
INTERVAL = 15.0


class Progress:
    """How far a piece of work has come; all methods may be called from any thread.

    Parameters
    ----------
    total : int or None
        All there is to do.
    what : str
        Name of the work, such as ``extract``.
    unit : str
        ``cell``, ``file``, ... in the singular, or ``B`` for bytes.
    done : int
        How much was done before.
    enabled : bool
        False: show nothing, notes included.
    stream : text file, optional
        Standard error where not given.
    interval : float
        Seconds between two lines where there is no terminal.
    clock : callable
        Returns seconds.
    leave : bool
        Leave the bar on the terminal at the end.
    delay : float
        Show no bar before so many seconds.
    """

    def __init__(
        self,
        total: int | None,
        what: str,
        *,
        unit: str,
        done: int = 0,
        enabled: bool = True,
        stream: Any = None,
        interval: float = INTERVAL,
        clock: Callable[[], float] = time.monotonic,
        leave: bool = False,
        delay: float = 0.0,
    ) -> None:
        self.total, self.done, self.what, self._unit = total, done, one_line(what), unit
        self._stream = stream if isinstance(stream, Stream) else Stream(stream or sys.stderr)
        self._enabled, self._interval, self._clock = enabled, interval, clock
        self._lock = threading.RLock()
        self._written = clock()
        self._state = ""
        self._bar: Any = None
        if enabled and (self._stream.isatty() or in_notebook()):
            self._bar = _bar_class()(
                desc=self.what,
                total=total,
                initial=done,
                unit="B" if unit == "B" else f" {plural(0, unit)[2:]}",
                unit_scale=True,
                file=sys.stderr if in_notebook() else self._stream,
                dynamic_ncols=True,
                leave=leave,
                delay=delay,
            )

    @property
    def has_bar(self) -> bool:
        """Whether a bar is shown, on a terminal or in a notebook."""
        return self._bar is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def add(self, count: int, state: str | None = None) -> None:
        """Count what was done; negative where some of it was lost."""
        with self._lock:
            self.done += count
            if state is not None:
                self._state = one_line(state)
            if self._bar is not None:
                self._bar.update(count)
            else:
                self._line_if_due()

    def move(self, done: int, total: int, what: str) -> None:
        """Show the state of work that counts for itself."""
        with self._lock:
            self.done, self.total, self.what = done, total, one_line(what)
            if self._bar is not None:
                self._bar.total, self._bar.n = total, done
                self._bar.set_description(self.what)
            else:
                self._line_if_due()

    def state(self, text: str, *, now: bool = False) -> None:
        """Set what is shown after the figures; `now` writes a line where there is no bar."""
        with self._lock:
            self._state = one_line(text)
            if self._bar is not None:
                self._bar.set_postfix_str(self._state, refresh=False)
            elif now:
                self.note(self._figures())
            else:
                self._line_if_due()

    def note(self, text: str) -> None:
        """Write a line, above the bars if there are any."""
        if not self._enabled:
            return
        line = f"{self.what}: {one_line(text)}"
        with self._lock:
            self._written = self._clock()
            if self._bar is not None:
                self._bar.write(line, file=self._bar.fp)
            else:
                self._stream.write(f"{line}\n")
                self._stream.flush()

    def over(self, items: Iterable[Item]) -> Iterator[Item]:
        """Count items as they are used, and close at the end."""
        with self:
            for item in items:
                yield item
                self.add(1)

    def close(self) -> None:
        """Remove the bar, or leave it as it is with `leave`."""
        with self._lock:
            if self._bar is not None:
                self._bar.close()

    def _line_if_due(self) -> None:
        if self._enabled and self._clock() >= self._written + self._interval:
            self.note(self._figures())

    def _figures(self) -> str:
        if self._unit == "B":
            done, total = format_bytes(self.done), format_bytes(self.total or 0)
        else:
            done, total = f"{self.done:,}", plural(self.total or 0, self._unit)
        return (f"{done} of {total}" if self.total else done) + (
            f"; {self._state}" if self._state else ""
        )


def shown(progress: bool | None) -> bool:  # noqa: FBT001 - its only one
    """Return whether progress is shown: as the caller says, else in notebooks only."""
    return in_notebook() if progress is None else progress


def in_notebook() -> bool:
    """Return whether a kernel of Jupyter runs this process."""
    shell = sys.modules.get("IPython")
    if shell is None or "ipykernel" not in sys.modules:
        return False
    running = shell.get_ipython()
    return running is not None and "IPKernelApp" in running.config


def _bar_class() -> Any:
    """Return tqdm's widget in notebooks that can show it, its bar of text elsewhere."""
    with warnings.catch_warnings():
        # ipywidgets is not there: a bar of text does
        warnings.filterwarnings("ignore", message="IProgress not found")
        from tqdm.auto import tqdm
    return tqdm
