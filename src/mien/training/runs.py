"""A run's folder: recipe, facts, history, saved states, and the lock that keeps two trainings apart.

    RUN/recipe.toml                 what was asked for
    RUN/run.json                    what it ran on: data, environment, what ships, how it ended
    RUN/history.csv                 a row an epoch
    RUN/checkpoints/state-*.npz     everything a killed training needs to go on, two generations
    RUN/weights/ep*.weights.h5      weights of epochs, for people
    RUN/bundle/                     the model that ships
    RUN/evaluation/*.json           its scores, a file a split
    RUN/scored.json                 how often images that it neither learnt from nor chose by were scored
    RUN/figures/                    what both look like

Every file appears whole or not at all: it is written beside, synced and renamed.
"""

import contextlib
import csv
import hashlib
import io
import json
import os
import re
import shutil
import tempfile
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mien import _files
from mien.errors import DataError, RunError
from mien.training.recipes import Recipe, parse, to_dict, to_toml

#: Columns of `history.csv` that clocks fill: the only ones that differ between two equal runs.
CLOCKS = ("seconds", "cpu_seconds", "images_per_second")
COLUMNS = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", *CLOCKS)

_GENERATIONS = 2
_STATE = re.compile(r"^state-(\d{10})-([0-9a-f]{64})\.npz$")

Row = dict[str, float]


@dataclass(frozen=True, eq=False)
class State:
    """A moment of training, from which it can go on to the bit.

    Args:
        step: Steps done since the first epoch began.
        arrays: Weights, optimizer, dropout's counters, running metrics and the best weights, by name.
        facts: Plain values: the history so far, and what the arrays cannot say.
    """

    step: int
    arrays: Mapping[str, NDArray[Any]]
    facts: Mapping[str, Any]

    def group(self, kind: str) -> list[NDArray[Any]]:
        """Return the arrays named `kind/0000`, `kind/0001` and so on; `best` are the weights that ship."""
        return [self.arrays[name] for name in sorted(self.arrays) if name.startswith(f"{kind}/")]


@dataclass(frozen=True)
class Run:
    """A training's folder.

    Args:
        path: The folder.
    """

    path: Path

    @property
    def name(self) -> str:
        """The folder's name: `quick-1`."""
        return self.path.resolve().name

    @property
    def bundle(self) -> Path:
        """Where the model that ships lies."""
        return self.path / "bundle"

    @property
    def weights(self) -> Path:
        """Where the epochs' weights lie."""
        return self.path / "weights"

    @property
    def figures(self) -> Path:
        """Where figures lie."""
        return self.path / "figures"

    @property
    def evaluation(self) -> Path:
        """Where reports lie, a JSON file for each split that was scored."""
        return self.path / "evaluation"

    @property
    def tensorboard(self) -> Path:
        """Where TensorBoard's logs lie."""
        return self.path / "tensorboard"

    def recipe(self) -> Recipe:
        """Read the recipe.

        Raises:
            RunError: The file is missing, or no text.
            RecipeError: It is not a recipe.
        """
        try:
            return parse((self.path / "recipe.toml").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(f"{self.path} has no recipe.toml, so it is no run of mien train") from None
        except UnicodeDecodeError as error:
            raise RunError(f"{self.path / 'recipe.toml'} is damaged: {error}") from None

    def facts(self) -> dict[str, Any]:
        """Read `run.json`.

        Raises:
            RunError: The file is missing or damaged.
        """
        try:
            facts: dict[str, Any] = json.loads((self.path / "run.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(f"{self.path} has no run.json, so it is no run of mien train") from None
        except ValueError as error:
            raise RunError(f"{self.path / 'run.json'} is damaged: {error}") from None
        parts = (facts.get("recipe"), facts.get("data", {})) if isinstance(facts, dict) else (None,)
        if not all(isinstance(part, dict) for part in parts):
            raise RunError(f"{self.path / 'run.json'} is damaged: it holds no recipe or no data")
        return facts

    def check_votes(self, votes: str | None) -> None:
        """Make sure that votes are those that the run was trained with.

        A run from before they were noted goes with any.

        Args:
            votes: The `votes_fingerprint` of a data set.

        Raises:
            DataError: They are others, or there are some where it had none, or none where it had some.
        """
        data = self.facts()["data"]
        if "votes" not in data or data["votes"] == votes:
            return
        if data["votes"] is None:
            raise DataError(f"{self.path} was begun without FER+ votes, and some came; leave them out")
        came = "none came" if votes is None else f"these have {votes[:12]}"
        raise DataError(
            f"{self.path} was begun with FER+ votes of fingerprint {str(data['votes'])[:12]}, and {came}; "
            "name the same with --votes, or train anew into another folder"
        )

    def update(self, **changes: Any) -> None:
        """Set top-level facts in `run.json`."""
        facts = self.facts() if (self.path / "run.json").exists() else {}
        _files.write(self.path / "run.json", _json(facts | changes))

    def history(self) -> list[Row]:
        """Read `history.csv`: a row an epoch, numbers as floats.

        Raises:
            RunError: No epoch was finished yet, or the file is damaged.
        """
        try:
            with (self.path / "history.csv").open(newline="", encoding="utf-8") as file:
                return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
        except FileNotFoundError:
            raise RunError(f"{self.path} has no history.csv: no epoch of it was finished yet") from None
        except (ValueError, TypeError) as error:
            raise RunError(f"{self.path / 'history.csv'} is damaged: {error}") from None

    def keep_report(self, report: Mapping[str, Any]) -> Path:
        """Keep an evaluation's report as `evaluation/<split>.json`.

        A report on other data than the run's own has the split's fingerprint in its name.

        Args:
            report: What `Evaluation.to_dict` returns.

        Returns:
            The file.

        Raises:
            OutputError: It cannot be written.
        """
        split, fingerprint = report["split"], report["split_fingerprint"]
        own = self.facts()["data"]["splits"].get(split, {}).get("fingerprint")
        name = split if fingerprint == own else f"{split}-{fingerprint[:12]}"
        path = self.evaluation / f"{name}.json"
        _files.write(path, _json(report))
        return path

    def write_history(self, rows: Sequence[Row]) -> None:
        """Replace `history.csv`; every float is written so that it reads back equal.

        A network with a second answer has columns for it after the usual ones.
        """
        text = io.StringIO()
        more = sorted({key for row in rows for key in row} - set(COLUMNS))
        writer = csv.DictWriter(text, (*COLUMNS, *more), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: repr(float(value)) for key, value in row.items()} for row in rows)
        _files.write(self.path / "history.csv", text.getvalue().encode())

    def save(self, state: State) -> Path:
        """Save a state, and drop all but the two newest.

        Raises:
            OutputError: The disk is full or the folder cannot be written; older states are unchanged.
        """
        buffer = io.BytesIO()
        facts = np.frombuffer(json.dumps(dict(state.facts)).encode(), np.uint8)
        own: dict[str, Any] = {"__facts__": facts, "__step__": np.int64(state.step)}
        np.savez(buffer, **(own | dict(state.arrays)))
        data = buffer.getvalue()
        folder = self.path / "checkpoints"
        path = folder / f"state-{state.step:010d}-{hashlib.sha256(data).hexdigest()}.npz"
        _files.write(path, data)
        for old in sorted(folder.glob("state-*.npz"))[:-_GENERATIONS]:
            old.unlink(missing_ok=True)
        return path

    def load(self) -> tuple[State | None, list[str]]:
        """Load the newest state that is whole.

        Returns:
            The state, or None when none was saved yet; and a sentence for each damaged file passed over.

        Raises:
            RunError: States were saved, and all are damaged.
        """
        complaints: list[str] = []
        folder = self.path / "checkpoints"
        found = sorted((path for path in folder.glob("state-*.npz")), reverse=True)
        for path in found:
            match = _STATE.match(path.name)
            data = path.read_bytes()
            if match and hashlib.sha256(data).hexdigest() == match[2]:
                return _unpack(data), complaints
            complaints.append(f"{path.name} is damaged (its hash is not the one in its name); passed over")
        if found:
            raise RunError(f"every saved state in {folder} is damaged; start the training anew")
        return None, complaints

    def sweep(self) -> None:
        """Delete what a killed training left half written; only its lock's holder may."""
        _files.sweep(self.path)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Hold the run; a lock whose holder died is taken over.

        Raises:
            RunError: Another process holds it.
        """
        try:
            lock = _files.hold(self.path / "run.lock")
        except OSError as error:
            raise RunError(f"{self.path} cannot be locked: {_files.reason(error)}") from None
        if lock is None:
            raise RunError(
                f"{self.path} is being trained by another process; wait for it, or train into another folder"
            )
        try:
            yield
        finally:
            lock.release()


def create(
    recipe: Recipe,
    facts: Mapping[str, Any],
    *,
    out: str | os.PathLike[str] | None = None,
    runs: str | os.PathLike[str] = Path("runs"),
) -> Run:
    """Make a new run's folder, which appears with recipe and facts in it or not at all.

    Args:
        recipe: What will be trained.
        facts: What `run.json` begins with.
        out: The folder to make; it must not exist, or be empty. Without it, the next free
            `runs/<recipe>-<number>`.
        runs: Where numbered folders stand.

    Raises:
        RunError: `out` holds something already.
        OutputError: It cannot be made.
    """
    wanted, runs = None if out is None else Path(out), Path(runs)
    parent = runs if wanted is None else wanted.resolve().parent
    with _files.writing(wanted or runs):
        parent.mkdir(parents=True, exist_ok=True)
        made = Path(tempfile.mkdtemp(prefix=".partial-", dir=parent))
        try:
            made.chmod(0o755)
            _files.write(made / "recipe.toml", to_toml(recipe).encode())
            _files.write(made / "run.json", _json(dict(facts) | {"recipe": to_dict(recipe)}))
            return Run(
                _move_to(made, wanted)
                if wanted is not None
                else _move_to_next_number(made, runs, recipe.name)
            )
        finally:
            shutil.rmtree(made, ignore_errors=True)


def open_run(path: str | os.PathLike[str]) -> Run:
    """Return the run in `path`.

    Raises:
        RunError: There is none.
    """
    path = Path(path)
    if not path.is_dir():
        raise RunError(f"{path} is no folder; name a run's folder, such as runs/quick-1")
    if not (path / "recipe.toml").is_file():
        raise RunError(f"{path} has no recipe.toml, so it is no run of mien train")
    return Run(path)


def _move_to(made: Path, path: Path) -> Path:
    """Move a new run's folder to `path`, where nothing or an empty folder stands."""
    try:
        made.rename(path)
    except OSError as error:
        if not path.exists():
            raise
        advice = f"go on with --resume {path}, or" if (path / "recipe.toml").exists() else "please"
        raise RunError(f"{path} holds something already; {advice} name another folder") from error
    return path


def _move_to_next_number(made: Path, runs: Path, name: str) -> Path:
    """Move a new run's folder to the next free number; of two at once, the second takes the one after."""
    numbers = [path.name.removeprefix(f"{name}-") for path in runs.glob(f"{name}-*")]
    number = max((int(number) for number in numbers if number.isdecimal()), default=0)
    while True:
        number += 1
        try:
            return made.rename(runs / f"{name}-{number}")
        except OSError:
            if not (runs / f"{name}-{number}").exists():
                raise


def _unpack(data: bytes) -> State:
    try:
        with np.load(io.BytesIO(data), allow_pickle=False) as arrays:
            facts = json.loads(arrays["__facts__"].tobytes())
            step = int(arrays["__step__"])
            kept = {name: arrays[name] for name in arrays.files if not name.startswith("__")}
    except (ValueError, KeyError, zipfile.BadZipFile) as error:
        raise RunError(f"a saved state was written by another version of mien: {error}") from None
    return State(step=step, arrays=kept, facts=facts)


def _json(facts: Mapping[str, Any]) -> bytes:
    # A file name that is no UTF-8 goes in as the escapes that JSON has for it.
    return (json.dumps(facts, indent=2, ensure_ascii=False) + "\n").encode(errors="backslashreplace")
