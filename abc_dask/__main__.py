"""The command ``abc-dask``, and ``python -m abc_dask``."""

import os
import signal
from types import FrameType
from typing import NoReturn

# Exit codes of a run that was asked to stop while there was nothing to unwind yet, or any more.
_STOPPED = {signal.SIGINT: ("interrupted", 130), signal.SIGTERM: ("terminated", 143)}


def _stop(number: int, _frame: FrameType | None) -> None:
    said, code = _STOPPED[signal.Signals(number)]
    try:
        os.write(2, f"abc-dask: error: {said}; run the same command again\n".encode())
    finally:
        os._exit(code)


def main() -> NoReturn:
    """Run the command; an interrupt is one line from here on, also while modules are imported."""
    for number in _STOPPED:
        if signal.getsignal(number) in {signal.SIG_DFL, signal.default_int_handler}:
            signal.signal(number, _stop)
    from abc_dask.cli import main as run

    run()


if __name__ == "__main__":
    main()
