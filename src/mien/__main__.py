"""Run the command line: as `mien`, and as `python -m mien`."""

import sys


def main() -> None:
    """Run one command and exit with its code."""
    try:
        from mien import _processes, cli

        _processes.claim_process()
        cli.main()
    except KeyboardInterrupt:  # outside of a command, which says more
        sys.stderr.write("mien: stopped by a signal\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
