"""The folder of a run: recipe, facts, history, saved states, and a lock that prevents a second training.

    RUN/recipe.toml                 the settings
    RUN/run.json                    what it ran on: data, environment, selected epoch, status
    RUN/history.csv                 one row per epoch
    RUN/checkpoints/state-*.npz     the last two states, from which a stopped training continues
    RUN/weights/ep*.weights.h5      weights of single epochs
    RUN/views/view-*.npz            what teacher models answered to views of the training images
    RUN/model/                      the model file
    RUN/evaluation/*.json           its evaluations, one file per split
    RUN/scored.json                 a log of evaluations on images other than train and val
    RUN/figures/                    plots of history and evaluations

Every file is written to a temporary file, synced and renamed, so it is never incomplete.
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

#: Columns of `history.csv` with times: the only ones that differ between two equal runs.
CLOCKS = ("seconds", "cpu_seconds", "images_per_second")
COLUMNS = ("epoch", "loss", "accuracy", "val_loss", "val_accuracy", "learning_rate", *CLOCKS)

_RESTORE = "restore it from a copy, or train again"
_GENERATIONS = 2
_STATE = re.compile(r"^state-(\d{10})-([0-9a-f]{64})\.npz$")

Row = dict[str, float]


@dataclass(frozen=True, eq=False)
class State:
    """A saved state of a training, from which it continues bit for bit.

    Args:
        step: Steps done since the first epoch began.
        arrays: Weights, optimizer, dropout's counters, running metrics and the best weights, by name.
        facts: Plain values: the history so far, and what the arrays cannot say.
    """

    step: int
    arrays: Mapping[str, NDArray[Any]]
    facts: Mapping[str, Any]

    def group(self, kind: str) -> list[NDArray[Any]]:
        """Return the arrays named `kind/0000`, `kind/0001` and so on; `best` are the selected weights."""
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
    def model_folder(self) -> Path:
        """The folder of the model file."""
        return self.path / "model"

    @property
    def views(self) -> Path:
        """The folder of the teachers' answers to views."""
        return self.path / "views"

    @property
    def weights(self) -> Path:
        """The folder of the epochs' weights."""
        return self.path / "weights"

    @property
    def figures(self) -> Path:
        """The folder of plots."""
        return self.path / "figures"

    @property
    def evaluation(self) -> Path:
        """The folder of evaluations, one JSON file per split."""
        return self.path / "evaluation"

    @property
    def tensorboard(self) -> Path:
        """The folder of TensorBoard's logs."""
        return self.path / "tensorboard"

    def recipe(self) -> Recipe:
        """Read the recipe.

        Raises:
            RunError: The file is missing or is not text.
            RecipeError: It is not a recipe.
        """
        try:
            return parse((self.path / "recipe.toml").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(
                f"{self.path} has no recipe.toml; name the folder of a run of mien train"
            ) from None
        except UnicodeDecodeError:
            raise RunError(f"{self.path / 'recipe.toml'} is damaged; {_RESTORE}") from None

    def facts(self) -> dict[str, Any]:
        """Read `run.json`.

        Raises:
            RunError: The file is missing or damaged.
        """
        try:
            facts: dict[str, Any] = json.loads((self.path / "run.json").read_text(encoding="utf-8"))
        except FileNotFoundError:
            raise RunError(f"{self.path} has no run.json; name the folder of a run of mien train") from None
        except ValueError:
            raise RunError(f"{self.path / 'run.json'} is damaged; {_RESTORE}") from None
        parts = (facts.get("recipe"), facts.get("data", {})) if isinstance(facts, dict) else (None,)
        if not all(isinstance(part, dict) for part in parts):
            raise RunError(
                f"{self.path / 'run.json'} is damaged: the recipe or the data is missing; {_RESTORE}"
            )
        return facts

    def check_votes(self, votes: str | None) -> None:
        """Check that votes are those that the run was trained with.

        Runs that did not record their votes accept any.

        Args:
            votes: The `votes_fingerprint` of a data set.

        Raises:
            DataError: The votes differ, or one has votes and the other has none.
        """
        data = self.facts()["data"]
        if "votes" not in data or data["votes"] == votes:
            return
        if data["votes"] is None:
            raise DataError(
                f"{self.path} was started without FER+ votes, but this data set has votes; omit them"
            )
        came = "this data set has none" if votes is None else f"these have {votes[:12]}"
        raise DataError(
            f"{self.path} was started with FER+ votes of fingerprint {str(data['votes'])[:12]}, and {came}; "
            "use the same with --votes, or start a new training in another folder"
        )

    def update(self, **changes: Any) -> None:
        """Set top-level facts in `run.json`."""
        facts = self.facts() if (self.path / "run.json").exists() else {}
        _files.write(self.path / "run.json", _json(facts | changes))

    def history(self) -> list[Row]:
        """Read `history.csv`: one row per epoch, numbers as floats.

        Raises:
            RunError: No epoch is finished yet, or the file is damaged.
        """
        try:
            with (self.path / "history.csv").open(newline="", encoding="utf-8") as file:
                return [{key: float(value) for key, value in row.items()} for row in csv.DictReader(file)]
        except FileNotFoundError:
            if self.facts().get("status") == "done":
                raise RunError(f"{self.path} has no history.csv; {_RESTORE}") from None
            raise RunError(f"{self.path} has no history.csv, because no epoch is finished yet") from None
        except (ValueError, TypeError):
            raise RunError(f"{self.path / 'history.csv'} is damaged; {_RESTORE}") from None

    def keep_report(self, report: Mapping[str, Any]) -> Path:
        """Write an evaluation to `evaluation/<split>.json`.

        If its data are not the run's own, the file name has the split's fingerprint.

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
        """Replace `history.csv`; floats keep all digits.

        A network with a second output has additional columns at the end.
        """
        text = io.StringIO()
        more = sorted({key for row in rows for key in row} - set(COLUMNS))
        writer = csv.DictWriter(text, (*COLUMNS, *more), lineterminator="\n")
        writer.writeheader()
        writer.writerows({key: repr(float(value)) for key, value in row.items()} for row in rows)
        _files.write(self.path / "history.csv", text.getvalue().encode())

    def save(self, state: State) -> Path:
        """Save a state, and delete all but the newest two.

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
        """Load the newest state that is not damaged.

        Returns:
            The state, or None if none is saved; and a message for each damaged file.

        Raises:
            RunError: All saved states are damaged.
        """
        complaints: list[str] = []
        folder = self.path / "checkpoints"
        found = sorted((path for path in folder.glob("state-*.npz")), reverse=True)
        for path in found:
            match = _STATE.match(path.name)
            data = path.read_bytes()
            if match and hashlib.sha256(data).hexdigest() == match[2]:
                return _unpack(data), complaints
            complaints.append(
                f"{path.name} is damaged: its hash differs from the one in its name; it is skipped"
            )
        if found:
            raise RunError(f"every saved state in {folder} is damaged; start a new training")
        return None, complaints

    def sweep(self) -> None:
        """Delete incomplete files of a killed training; call this only while the run is locked."""
        _files.sweep(self.path)

    @contextlib.contextmanager
    def lock(self) -> Iterator[None]:
        """Lock the run; a lock of a dead process is taken over.

        Raises:
            RunError: Another process holds the lock.
        """
        try:
            lock = _files.hold(self.path / "run.lock")
        except OSError as error:
            raise RunError(f"{self.path} cannot be locked: {_files.reason(error)}") from None
        if lock is None:
            raise RunError(
                f"{self.path} is being trained by another process; wait for it, or use another folder"
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
    """Create the folder of a new run with recipe and facts.

    Args:
        recipe: What will be trained.
        facts: What `run.json` begins with.
        out: The folder; it must not exist, or be empty. None means the next free `runs/<recipe>-<number>`.
        runs: The parent of numbered folders.

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
        RunError: The folder is missing or is not a run.
    """
    path = Path(path)
    if not path.is_dir():
        from mien.models.model_files import SHIPPED  # here, because it loads ONNX Runtime

        what = "a shipped model" if str(path) in SHIPPED else "not a folder"
        raise RunError(f"{path} is {what}; name the folder of a run, such as runs/quick-1")
    if not (path / "recipe.toml").is_file():
        raise RunError(f"{path} has no recipe.toml; name the folder of a run of mien train")
    return Run(path)


def _move_to(made: Path, path: Path) -> Path:
    """Move a new run's folder to `path`, which must not exist or must be empty."""
    try:
        made.rename(path)
    except OSError as error:
        if not path.exists():
            raise
        raise _not_empty(path) from error
    return path


def check_empty(out: str | os.PathLike[str]) -> None:
    """Refuse the folder of a new run that has files, before its data is read.

    Raises:
        RunError: It is not empty.
    """
    path = Path(out)
    if path.is_dir() and os.access(path, os.R_OK) and any(path.iterdir()):
        raise _not_empty(path)


def _not_empty(path: Path) -> RunError:
    advice = f"continue it with --resume {path}, or" if (path / "recipe.toml").exists() else "please"
    return RunError(f"{path} is not empty; {advice} name another folder")


def _move_to_next_number(made: Path, runs: Path, name: str) -> Path:
    """Move a new run's folder to the next free number, also if another process does the same."""
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
        raise RunError(
            f"the saved state is damaged or was written by another version of mien: {error}"
        ) from None
    return State(step=step, arrays=kept, facts=facts)


def _json(facts: Mapping[str, Any]) -> bytes:
    # File names that are not UTF-8 become JSON escapes.
    return (json.dumps(facts, indent=2, ensure_ascii=False) + "\n").encode(errors="backslashreplace")
