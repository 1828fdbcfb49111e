"""The command itself: exit codes, JSON, words and clocks."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from PIL import Image
from rich.cells import cell_len

from builders import faces_csv
from mien import __version__, cli
from mien.cli import common
from mien.data import synthetic
from mien.errors import MissingExtra, Stopped


def fail_with(monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    def app(arguments: list[str] | None, **options: Any) -> None:
        raise error

    monkeypatch.setattr(cli, "app", app)


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (MissingExtra("plotting", "plot"), 2, "mien[plot]"),
        (Stopped("stopped, and saved", signal.SIGTERM), 143, "saved"),
        (ZeroDivisionError("division by zero"), 70, "internal error"),
    ],
)
def test_each_ending_has_its_code(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    code: int,
    says: str,
) -> None:
    fail_with(monkeypatch, error)
    assert cli.run([]) == code
    captured = capsys.readouterr()
    assert captured.out == ""
    assert says in captured.err
    assert ("Traceback" in captured.err) == (code == 70)


def test_a_reader_that_left_is_no_fault() -> None:
    command = f"{sys.executable} -m mien recipes seed | head -n 1; echo ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ['name = "seed"', "0"]
    assert done.stderr == ""


def test_version_and_help_as_a_program() -> None:
    def say(*arguments: str) -> str:
        command = [sys.executable, "-m", "mien", *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert say("--version") == f"mien {__version__}\n"
    assert json.loads(say("--version", "--json")) == {"version": __version__}
    assert "evaluate" in say("--help")


def test_without_a_command_it_says_where_help_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run([]) == 2
    assert cli.run(["--json"]) == 2
    assert "mien --help" in capsys.readouterr().err


def test_an_empty_path_is_not_the_current_folder(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["audit", ""]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_a_name_that_no_file_can_have_is_no_fault(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for command in (["card"], ["predict"], ["evaluate", "--data", "x"]):
        assert cli.run([*command, "long" * 1000]) == 2
        told = capsys.readouterr().err
        assert "'longlong" in told
        assert len(told) < 250
    ring = tmp_path / "ring.onnx"
    ring.symlink_to(ring)
    assert cli.run(["card", str(ring)]) == 2
    assert "ring.onnx" in capsys.readouterr().err


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_outside_of_training_says_what_to_do(number: signal.Signals) -> None:
    code = (
        "import os, signal, time\nfrom mien import cli\nfrom mien.training import recipes\n"
        f"recipes.get = lambda name: (os.kill(os.getpid(), {int(number)}), time.sleep(30))\n"
        "cli.main(['recipes', 'seed'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 128 + number
    assert "Traceback" not in done.stderr
    assert "--folds" not in done.stderr
    assert "--resume" not in done.stderr
    assert done.stderr.count("mien: ") == 1


@pytest.mark.parametrize("module", ["typer", "keras"])
def test_a_signal_during_an_import_is_no_internal_error(module: str, tmp_path: Path) -> None:
    # CPython raises a RuntimeError from an interrupt in `__set_name__`, such as that of `cached_property`.
    (tmp_path / f"{module}.py").write_text(
        "import os, signal, time\n"
        "class Slow:\n"
        "    def __set_name__(self, owner, name):\n"
        "        os.kill(os.getpid(), signal.SIGINT)\n"
        "        time.sleep(30)\n"
        "class Owner:\n"
        "    slow = Slow()\n"
    )
    code = f"import sys; sys.path.insert(0, {str(tmp_path)!r}); from mien.__main__ import main; main()"
    data = faces_csv(tmp_path)[0]
    done = subprocess.run(
        [sys.executable, "-c", code, "train", str(data), "--recipe", "quick"],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 128 + signal.SIGINT
    assert "Traceback" not in done.stderr
    assert "mien: stopped by a signal" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [(["--folds", "3"], ""), ([], "mien train --resume RUN")],
)
def test_a_signal_before_the_training_says_how_to_go_on(arguments: list[str], said: str) -> None:
    code = (
        "import os, signal, time\nfrom mien import cli\nfrom mien.training import recipes\n"
        "recipes.get = lambda name: (os.kill(os.getpid(), signal.SIGINT), time.sleep(30))\n"
        f"cli.main(['train', 'data', *{arguments!r}])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 128 + signal.SIGINT
    assert said in done.stderr
    assert ("--resume" in done.stderr) == ("--resume" in said)


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["train", "--recpie", "quick"], "mien train --help"),
        (["predict"], "mien predict --help"),
        (["recipes", "a", "b"], "mien recipes --help"),
        (["trian"], "mien --help"),
        (["--josn"], "mien --help"),
    ],
)
def test_a_mistyped_option_names_the_help_of_its_command(
    arguments: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert cli.run(arguments) == 2
    assert capsys.readouterr().err.rstrip().endswith(hint)


def test_a_signal_before_the_first_command_is_no_fault(tmp_path: Path) -> None:
    (tmp_path / "typer.py").write_text("raise KeyboardInterrupt\n")
    done = subprocess.run(
        [sys.executable, "-m", "mien", "recipes"],
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
        env=os.environ | {"PYTHONPATH": str(tmp_path)},
    )
    assert (done.returncode, done.stdout) == (130, "")
    assert re.fullmatch("mien: .+\n", done.stderr)


def test_json_holds_no_nan_and_keeps_unicode(capsys: pytest.CaptureFixture[str]) -> None:
    common.emit({"a": float("nan"), "b": [float("inf"), 1.5], "c": ("é",), 3: {"d": -float("inf")}})
    output = capsys.readouterr().out
    assert "é" in output
    assert json.loads(output) == {"a": None, "b": [None, 1.5], "c": ["é"], "3": {"d": None}}


def test_tables_show_names_that_look_like_markup(capsys: pytest.CaptureFixture[str]) -> None:
    common.table("[red]a [v2].zip", ("class", "n"), [("[red]x[/red]", 3), ("[", "–")])
    output = capsys.readouterr().out
    assert "[red]x[/red]" in output
    assert "[red]a [v2].zip" in output


def test_a_tables_headings_are_not_markup(capsys: pytest.CaptureFixture[str]) -> None:
    common.table("answers", ("class", "[red]sad", "\x1b[31mhappy"), [("a", 1, 2)])
    head = capsys.readouterr().out.splitlines()
    assert any("[red]sad" in line and "\\x1b[31mhappy" in line for line in head)


def test_a_place_in_a_table_stays_in_one_piece_where_words_can_be_folded(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(common.out, "_width", 60)
    place = "mien-demo/run/evaluation/test.json"
    common.table("made", ("what", "where"), [("one word after another " * 4, place)], whole="where")
    output = capsys.readouterr().out
    assert place in output
    assert max(map(len, output.splitlines())) <= 60


@pytest.mark.parametrize("width", [120, 80, 70, 60, 50, 40, 20])
def test_a_narrow_terminal_breaks_no_word(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], width: int
) -> None:
    monkeypatch.setattr(common.out, "_width", width)
    header = ("image", "face", "box", "emotion", "confidence", "score")
    row = ("docs/pictures/[faces].png", 1, "266, 45, 185×220", "surprise", "100%", "60.1 ± 0.6 %, PublicTest")
    common.table("faces", header, [row, ("写真/顔.png", *row[1:])])
    output = capsys.readouterr().out
    for word in ("[faces].png", "写真/", "surprise", "emotion", "confidence", "185×220", "60.1 ± 0.6 %,"):
        assert word in output
    if width >= 60:
        assert max(cell_len(line) for line in output.splitlines()) <= width


def test_a_confusion_matrix_fits_into_60_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(common.out, "_width", 60)
    names = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
    common.table("confusion", ("class", *names), [(name, *range(7)) for name in names])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split() for line in lines if line.startswith(" neutral")] == [["neutral", *"0123456"]]


def test_nothing_that_is_printed_moves_the_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    name = "\x1b[2J\x9b1A\r\x07.png"
    common.out.print(f"{name}: one\n\ttwo", markup=False)
    common.table(name, ("name",), [(name,)])
    common.note(f"{name}\nis bad")
    told = capsys.readouterr()
    assert not set("\x1b\x9b\r\x07") & set(told.out + told.err)
    assert told.out.splitlines()[:2] == ["\\x1b[2J\\x9b1A\\r\\x07.png: one", "        two"]
    assert told.err.count("\n") == 1


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no disk that is always full")
def test_a_full_or_closed_stdout_is_no_fault_of_ours() -> None:
    command = [sys.executable, "-m", "mien", "recipes", "--json"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == "mien: the output cannot be written because the disk is full; free some space\n"
    closed = subprocess.run(["sh", "-c", '"$@" >&-', "sh", *command], capture_output=True, check=False)
    assert (closed.returncode, closed.stderr) == (0, b"")


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (1, ["audit", "faces.zip", "--no-recrops"]),
        (1, ["card", "fast"]),
        (1, ["compare", "fast", "fast", "--data", "faces.zip"]),
        (2, ["evaluate", "fast", "--data", "faces.zip"]),
        (1, ["explain", "face.png", "--whole-image", "--model", "fast"]),
        (1, ["export", "fast", "--to", "export"]),
        (1, ["extract", "faces.zip", "--to", "data"]),
        (1, ["predict", "face.png", "--whole-image", "--model", "fast"]),
    ],
)
def test_json_has_the_version_of_its_schema(
    schema: int, words: list[str], away: Path, faces: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if words[0] == "export":
        pytest.importorskip("keras", reason="export needs mien[train]")
    shutil.copy(faces / "faces.zip", "faces.zip")
    Image.fromarray(synthetic.sample(1, seed=0, size=48)[0][0, ..., 0]).save("face.png")
    assert cli.run([*words, "--json"]) in (0, 1)
    document = json.loads(capsys.readouterr().out)
    assert (document[0] if words[0] == "predict" else document)["schema"] == schema


def test_short_options(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.run(["evaluate", "fast", "-s", "nowhere", "-j"]) == 2
    assert "-j" in capsys.readouterr().err
    assert cli.run(["evaluate", "fast", "-s", "val"]) == 2
    assert "--data" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "suggested"),
    [
        (["exp"], ["export", "explain"]),
        (["train", "--recipe", "q"], ["quick"]),
        (["predict", "-m", ""], ["default", "fast"]),
        (["predict", "-m", "runs/"], []),  # the shell completes files
        (["evaluate", "d"], ["default"]),
        (["evaluate", "default", "--split", "t"], ["train", "test"]),
        (["predict", "--det"], ["--detector"]),
    ],
)
def test_a_shell_completes_commands_options_and_values(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    suggested: list[str],
) -> None:
    for name, value in {
        "_MIEN_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(["mien", *words]),
        "COMP_CWORD": str(len(words)),
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(SystemExit):
        cli.app(prog_name="mien")
    assert capsys.readouterr().out.split() == suggested


def test_values_that_help_lists_are_completed() -> None:
    root = typer.main.get_command(cli.app)
    listed = 0
    for command in root.commands.values():
        for option in command.params:
            metavar = getattr(option, "metavar", None) or ""
            if re.fullmatch(r"\w+(\|\w+)+", metavar):
                context = typer.Context(command)
                found = [item.value for item in option.shell_complete(context, "")]
                assert found == metavar.split("|"), (command.name, option.name)
                listed += 1
    assert listed > 10
