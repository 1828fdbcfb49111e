"""The command `mien`: parse, call the rooms of one stage in order, print.

Exit codes: 0 done, 1 findings, 2 bad input or nothing usable, 3 done but some inputs were bad,
70 a fault of mien's own, 130 and 143 stopped by a signal.
"""

import signal
import sys
import traceback
from types import FrameType
from typing import Annotated, NoReturn

import typer

from mien import __version__
from mien.cli import data, model, training
from mien.errors import MienError

FAULT = 70

app = typer.Typer(
    name="mien",
    help="Facial emotion recognition, from an archive of labelled faces to a model you can trust and ship.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def _version(wanted: bool) -> None:
    if wanted:
        sys.stdout.write(f"mien {__version__}\n")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    pass


for command in (
    data.demo,
    data.extract,
    training.train,
    model.evaluate,
    model.plot,
    model.export,
    training.networks,
    training.recipes,
):
    app.command()(command)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run one command and exit with its code."""
    signal.signal(signal.SIGTERM, _terminated)
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run one command; returns its exit code, and prints one sentence where it is not 0."""
    try:
        return app(arguments, standalone_mode=False) or 0
    except MienError as error:
        _say(str(error))
        return error.exit_code
    except KeyboardInterrupt:
        _say("stopped; nothing half-made was left behind")
        return 128 + signal.SIGINT
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except typer.TyperException as error:
        _say(f"{error.format_message().rstrip('.')}; try mien --help")
        return 2
    except Exception:
        traceback.print_exc()
        _say("this is a fault of mien's own; please report it with the lines above")
        return FAULT


def _say(sentence: str) -> None:
    sys.stderr.write(f"mien: {' '.join(sentence.split())}\n")


def _terminated(number: int, frame: FrameType | None) -> NoReturn:
    sys.exit(128 + number)
