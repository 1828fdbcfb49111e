"""Run the command line: as `mien`, and as `python -m mien`."""

import sys


def main() -> None:
    """Run one command and exit with its code."""
    try:
        from mien import cli
    except KeyboardInterrupt:  # before there was anything to stop
        sys.stderr.write("mien: stopped by a signal, before anything was done\n")
        sys.exit(130)
    cli.main()


if __name__ == "__main__":
    main()
