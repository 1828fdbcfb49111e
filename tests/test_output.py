"""What commands print, against golden files; see `golden` in conftest.py."""

import re
import shlex
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from mien import cli
from mien.cli import common
from mien.data import synthetic
from mien.models import networks

Golden = Callable[[str, str], None]
Say = Callable[..., str]
COMMANDS = sorted(command.callback.__name__ for command in cli.app.registered_commands if command.callback)


@pytest.fixture
def say(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Say:
    """Run a command in a terminal of 100 columns; returns what it prints on stdout."""
    for name in ("COLUMNS", "TERMINAL_WIDTH"):
        monkeypatch.setenv(name, "100")
    monkeypatch.setattr(common.out, "_width", 100)  # rich reads COLUMNS when the console is made
    monkeypatch.delitem(networks.NETWORKS, "toy")

    def call(*words: str) -> str:
        capsys.readouterr()
        assert cli.run(list(words)) == 0
        return "\n".join(line.rstrip() for line in capsys.readouterr().out.splitlines()) + "\n"

    return call


@pytest.mark.parametrize("command", COMMANDS)
def test_help_ends_with_an_example_of_the_command(command: str, say: Say) -> None:
    shown = say(command, "-h")
    example = shlex.split(" ".join(shown.rpartition("Example: ")[2].split()))
    assert example[:2] == ["mien", command]
    for word in example[2:]:
        assert not word.startswith("-") or f"{word} " in shown.rpartition("Example: ")[0]


@pytest.mark.parametrize("command", [*COMMANDS, ""])
def test_help(command: str, say: Say, golden: Golden) -> None:
    shown = say(*command.split(), "--help")
    # Click names the program as it was started.
    shown = re.sub(r"^Usage: .*? \[OPTIONS\]", f"Usage: {f'mien {command}'.strip()} [OPTIONS]", shown)
    golden(f"help/{command or 'mien'}.txt", shown)


@pytest.mark.parametrize("command", ["networks", "recipes"])
def test_lists(command: str, say: Say, golden: Golden, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(networks.NETWORKS, "toy", raising=False)  # another test may have added it
    golden(f"{command}.txt", say(command))


def test_recipe(say: Say, golden: Golden) -> None:
    golden("recipe-quick.toml", say("recipes", "quick"))


def test_predictions(tiny_run: Path, away: Path, say: Say, golden: Golden) -> None:
    # The run's model is in float32; the int8 kernels of shipped models differ by processor in the last bit.
    for number, image in enumerate(synthetic.sample(3, seed=0, size=48)[0]):
        Image.fromarray(image[..., 0]).save(f"{number}.png")
    golden("predict.txt", say("predict", ".", "--whole-image", "--model", str(tiny_run)))


def test_evaluation(tiny_run: Path, away: Path, say: Say, golden: Golden) -> None:
    (away / "tiny-run").symlink_to(tiny_run)
    golden("evaluate.txt", say("evaluate", "tiny-run", "--split", "test"))
