"""The command `mien`: each command parses its options, calls one function and prints the result.

Exit codes: 0 done, 1 findings, 2 bad input or nothing usable, 3 done but some inputs were bad,
70 an internal error, 130 and 143 stopped by a signal.
"""

import errno
import io
import os
import re
import signal
import sys
import traceback
import warnings
from functools import partial
from types import FrameType
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperCommand

from mien import __version__
from mien._text import escape_terminal
from mien.cli import common, data, evaluation, inference, release, serving, training
from mien.errors import InputError, MienError

FAULT = 70
#: The type that typer prints after the name of an argument.
_TYPE = re.compile(r" <[^ ]+>$")
#: Short names of options that many commands have.
_SHORT = {"--to": "-o", "--model": "-m", "--split": "-s", "--workers": "-w"}


class _Command(TyperCommand):
    """A command with short options, whose help shows what a user writes, not types of Python or braces."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        for parameter in self.params:
            parameter.opts += [short for long, short in _SHORT.items() if long in parameter.opts]

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        return [re.sub("[{}]", "", piece) for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:
        rows: dict[str, list[tuple[str, str]]] = {"argument": [], "option": []}
        for parameter in self.get_params(ctx):
            if (row := parameter.get_help_record(ctx)) is not None:
                name = _TYPE.sub("", row[0]) if parameter.param_type_name == "argument" else row[0]
                rows[parameter.param_type_name].append((name, row[1]))
        for kind, listed in rows.items():
            if listed:
                with formatter.section(f"{kind.capitalize()}s"):
                    formatter.write_dl(listed)


app = typer.Typer(
    name="mien",
    help="Facial emotion recognition, from an archive of labelled faces to a model you can trust and ship.",
    context_settings={"help_option_names": ["-h", "--help"]},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback(invoke_without_command=True)
def _options(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit.")] = False,
    json: Annotated[bool, typer.Option("--json", help="With --version: print the version as JSON.")] = False,
) -> None:
    if version:
        common.emit({"version": __version__}) if json else common.out.print(f"mien {__version__}")
        raise typer.Exit
    if json:
        raise InputError("--json must come after a command, such as mien recipes --json")
    if context.invoked_subcommand is None:
        raise InputError("a command is missing; try mien --help")


#: Each command, and the example at the end of its help.
for command, example in (
    (data.demo, "mien demo --to mien-demo"),
    (data.extract, 'mien extract "archive (4).zip" --to data'),
    (data.audit, 'mien audit "archive (4).zip" --html audit.html --exclusions exclude.csv'),
    (training.train, 'mien train "archive (4).zip" --recipe quick --exclude exclude.csv'),
    (training.tune, 'mien tune "archive (4).zip" --recipe quick --trials 20'),
    (evaluation.evaluate, "mien evaluate runs/quick-1 --split test --report report"),
    (evaluation.compare, "mien compare runs/quick-1 default --data faces.zip --html compare.html"),
    (training.plot, "mien plot runs/quick-1"),
    (release.export, "mien export default --format onnx --to model.onnx"),
    (release.ship, "mien ship runs/quick-1 --to shipped"),
    (release.card, "mien card runs/quick-1 --to card.md"),
    (inference.predict, "mien predict photos/ --to faces.csv --save marked"),
    (inference.merge, "mien merge part-*.parquet --to faces.parquet"),
    (evaluation.explain, "mien explain photo.jpg --to why"),
    (inference.video, "mien video interview.mp4 --to faces.csv --timeline people.png"),
    (inference.webcam, "mien webcam --mirror"),
    (serving.serve, "mien serve --port 8000"),
    (training.networks, "mien networks"),
    (training.recipes, "mien recipes quick"),
):
    # A short help is not cut.
    summary = (command.__doc__ or "").partition("\n")[0]
    app.command(cls=_Command, short_help=summary, epilog=f"Example: {example}")(command)


def main(arguments: list[str] | None = None) -> NoReturn:
    """Run one command and exit with its code."""
    given = sys.argv[1:] if arguments is None else arguments
    signal.signal(signal.SIGTERM, partial(_terminated, given))
    # Pillow warns about damaged tags before it raises errors, which are enough.
    warnings.filterwarnings("ignore", module=r"PIL\.")
    sys.exit(run(arguments))


def _speak(arguments: list[str]) -> None:
    """Escape characters that a stream cannot encode; JSON is always UTF-8."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            machine = stream is sys.stdout and not {"--json", "--jsonl"}.isdisjoint(arguments)
            stream.reconfigure(encoding="utf-8" if machine else None, errors="backslashreplace")


def run(arguments: list[str] | None = None) -> int:
    """Run one command and return its exit code; if it is not 0, print the reason on stderr."""
    if sys.stdout is None:  # the caller has closed it
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 stays open
    given = sys.argv[1:] if arguments is None else arguments
    _speak(given)
    try:
        if "" in given:  # an empty path would be the current folder
            raise InputError("an argument is empty; if it is a shell variable, set it")
        code = app(arguments, standalone_mode=False) or 0
        if code == 128 + signal.SIGINT:  # typer's answer to Ctrl-C
            _say(_stopped(given))
        return code
    except MienError as error:
        _say(str(error))
        return error.exit_code
    except BrokenPipeError:
        sys.stderr.close()
        return 0
    except OSError as error:
        if error.errno in (errno.ENAMETOOLONG, errno.ELOOP):
            from mien._text import quote

            # No file can have such a name.
            _say(f"{quote(str(error.filename))} cannot be opened: {error.strerror}; check the path")
            return 2
        if error.errno != errno.ENOSPC:
            return _fault()
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115, PTH123 so that Python's exit does not write again
        _say("the output cannot be written because the disk is full; free some space")
        return 2
    except typer.TyperException as error:
        # Suggestions end in a question mark.
        said = error.format_message().rstrip(".")
        _say(f"{said} Or try {_help_for(error)}" if said.endswith("?") else f"{said}; try {_help_for(error)}")
        return 2
    except Exception as error:
        if _is_interrupted(error):
            _say(_stopped(given))
            return 128 + signal.SIGINT
        return _fault()


def _is_interrupted(error: BaseException) -> bool:
    """Return whether Ctrl-C caused an error: in an import, it can become a `RuntimeError`."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, KeyboardInterrupt):
            return True
        cause = cause.__cause__
    return False


def _fault() -> int:
    traceback.print_exc()
    _say("internal error; please report it with the lines above")
    return FAULT


def _say(sentence: str) -> None:
    sys.stderr.write(f"mien: {escape_terminal(' '.join(sentence.split()))}\n")


def _help_for(error: typer.TyperException) -> str:
    """Return the command that prints the options of the command with the error."""
    context = getattr(error, "ctx", None)
    if context is None or context.parent is None:
        return "mien --help"
    return f"mien {context.info_name} --help"


def _stopped(given: list[str]) -> str:
    """Return the message about a signal that stopped a command."""
    what = "stopped by a signal; files that were written are complete"
    if given[:1] == ["tune"]:
        return f"{what}; run the same command again to continue"
    if given[:1] == ["predict"] and any(each.partition("=")[0] == "--to" for each in given):
        return f"{what}; run the same command with --resume to continue"
    if given[:1] != ["train"]:
        return what
    if any(each.partition("=")[0] == "--folds" for each in given):
        return f"{what}; run the same command again to continue"
    return f"{what}; if the run has a folder, continue with: mien train --resume RUN"


def _terminated(given: list[str], number: int, frame: FrameType | None) -> NoReturn:
    _say(_stopped(given))
    sys.exit(128 + number)
