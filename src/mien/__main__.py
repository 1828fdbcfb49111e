"""Run the command line: as `mien`, and as `python -m mien`."""

import os
import signal
import sys
from types import FrameType
from typing import NoReturn

_STOPPED = "mien: stopped by a signal\n"


def main() -> None:
    """Run one command and exit with its code."""
    listens = signal.getsignal(signal.SIGINT) is signal.default_int_handler
    if listens:
        signal.signal(signal.SIGINT, _stop)
    try:
        from mien import _processes, cli

        _processes.claim_process()
        if listens:
            signal.signal(signal.SIGINT, signal.default_int_handler)
        cli.main()
    except KeyboardInterrupt:  # outside of a command, which says more
        sys.stderr.write(_STOPPED)
        sys.exit(128 + signal.SIGINT)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    """Exit at once. An exception can become another error in an import, and nothing has begun."""
    sys.stderr.write(_STOPPED)
    sys.stderr.flush()
    os._exit(128 + number)


if __name__ == "__main__":
    main()
