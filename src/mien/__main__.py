"""Run the command line as `python -m mien`."""

from mien.cli import main

main()
