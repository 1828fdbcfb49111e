"""Load, check, run and write model files: an ONNX file and its card.

A model is a folder with `model.onnx`, `card.json` and `labels.txt`, or the ONNX file alone, because the card
is inside it. It takes raw pixels and returns probabilities: rescaling, temperature and softmax are in the
file. Loading a model runs no code of its author: the file is read as bytes and checked before ONNX Runtime
gets it.
"""

import difflib
import functools
import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import NoneType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import onnxruntime

from mien import _files
from mien._text import format_command, quote
from mien.data.image_cache import Pages
from mien.errors import ModelError, RunError
from mien.models import checks
from mien.models.card import (
    ONE_HEAD,
    TWO_HEADS,
    Base,
    Began,
    Card,
    Data,
    Fusion,
    Head,
    Measured,
    Parity,
    Part,
    parse,
    to_json,
    without_hash,
)
from mien.models.checks import KEY
from mien.models.priors import Adjustment, as_prior

__all__ = [
    "BATCH_SIZE",
    "CARD",
    "KEY",
    "LABELS",
    "MAX_BYTES",
    "MODEL",
    "MODELS",
    "ONE_HEAD",
    "SHIPPED",
    "TWO_HEADS",
    "Base",
    "Began",
    "Card",
    "Data",
    "Fusion",
    "Head",
    "Measured",
    "Model",
    "Parity",
    "Part",
    "Subject",
    "find",
    "is_run",
    "listed",
    "load",
    "of",
    "parse",
    "resolve",
    "run_of",
    "shipped_name",
    "to_json",
    "unfinished",
    "write",
]

MODEL, CARD, LABELS = "model.onnx", "card.json", "labels.txt"
#: Name of a model's folder in the folder of its run.
IN_RUN = "model"
#: The models of the package, the default first, and their folder.
SHIPPED = ("default", "fast")
MODELS = Path(__file__).parent / "weights"
#: Largest model file in bytes. The largest network mien trains takes 20 MB.
MAX_BYTES = 256 << 20
#: Images run at once. More take memory, 256 through the seed's network more than a GiB, and gain little speed
#: (measured: docs/model-file.md).
BATCH_SIZE = 32
_CHOICES = "name a run's folder, an .onnx file of a model, or a shipped model: " + " or ".join(SHIPPED)


@dataclass(frozen=True, repr=False)
class Model:
    """A loaded model. Threads may share one.

    Args:
        path: The folder or file it came from.
        card: What it is; `card.sha256` is the hash of the file that runs.
    """

    path: Path
    card: Card
    _session: Any = field(compare=False)
    _content: bytes = field(default=b"", compare=False)
    _threads: int | None = field(default=None, compare=False)
    _optimization: Literal["all", "basic"] = field(default="all", compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the model's bytes, from which another process makes a session of its own."""
        again = functools.partial(of, path=self.path, threads=self._threads, optimization=self._optimization)
        return again, (self._content, self.card)

    def __repr__(self) -> str:
        card = self.card
        return (
            f"Model({str(self.path)!r}, name={card.name!r}, size={card.size}, labels={len(card.labels)}, "
            f"heads={list(card.heads)}, precision={card.precision!r})"
        )

    @property
    def content(self) -> bytes:
        """The bytes of the ONNX file."""
        return self._content

    def run(
        self,
        images: npt.NDArray[np.uint8],
        *,
        head: str | None = None,
        batch_size: int = BATCH_SIZE,
        progress: Callable[[int, int], None] | None = None,
        balance: float = 0.0,
        prior: Mapping[str, float] | str | None = None,
    ) -> npt.NDArray[np.float32]:
        """Return how likely each label is for each image.

        Args:
            images: `(n, size, size, 1)` uint8 in [0, 255], grey.
            head: Which of `card.heads` answers, such as `fer2013` or `ferplus`; None for the first.
            batch_size: Images run at once; changes memory and speed, never the result.
            progress: Called with (images done, images in all) after every batch.
            balance: 0 if emotions are as frequent in the images as in training, 1 if all are equally
                frequent, or a number between (docs/priors.md).
            prior: How frequent each emotion is in the images, if known; an emotion with 0, or without a
                number, is left out. Numbers by emotion, or text such as `angry=0.3,neutral=0.7`.

        Returns:
            Probabilities `(n, labels)` float32, each row summing to 1, in the order of `card.labels`.

        Raises:
            InputError: The balance or the prior is not valid, or the card has no frequencies for it.
            ModelError: The images are not an array of this shape and type; the model has no such head; or
                its output is not probabilities.
        """
        name = head if head is not None else next(iter(self.card.heads))
        return self.run_heads(
            images, heads=[name], batch_size=batch_size, progress=progress, balance=balance, prior=prior
        )[name]

    def run_heads(
        self,
        images: npt.NDArray[np.uint8],
        *,
        heads: Sequence[str] | None = None,
        batch_size: int = BATCH_SIZE,
        progress: Callable[[int, int], None] | None = None,
        balance: float = 0.0,
        prior: Mapping[str, float] | str | None = None,
    ) -> dict[str, npt.NDArray[np.float32]]:
        """Return how likely each label is for each image by several heads, and run the network only once.

        Args:
            images: As in `run`.
            heads: Which of `card.heads` answer; None for all.
            batch_size: As in `run`.
            progress: As in `run`.
            balance: As in `run`.
            prior: As in `run`.

        Returns:
            By head, probabilities as `run` returns them.

        Raises:
            InputError: As in `run`.
            ModelError: As in `run`; or no head was named.
        """
        self._check(images, batch_size)
        if heads is not None and not heads:
            raise ModelError(f"no head was named; name at least one of {', '.join(self.card.heads)}")
        stated = {name: self.card.head(name) for name in (self.card.heads if heads is None else heads)}
        adjustment = Adjustment(balance=balance, prior=as_prior(prior))
        for head in stated.values():
            adjustment.check(self.card.labels, head.frequencies)
        answers = np.empty((len(stated), len(images), len(self.card.labels)), np.float32)
        done = 0
        for batch in self._batches(images, batch_size):
            rows = slice(done, done + len(batch))
            for into, answer in zip(
                answers[:, rows], self._ask([head.output for head in stated.values()], batch), strict=True
            ):
                if answer.shape != into.shape or not np.isfinite(answer).all():
                    raise ModelError(f"the model {self.path.name!r} does not answer with probabilities")
                into[:] = answer
            done += len(batch)
            if progress is not None:
                progress(done, len(images))
        return {
            name: adjustment.apply(answer, self.card.labels, head.frequencies)
            for (name, head), answer in zip(stated.items(), answers, strict=True)
        }

    def features(
        self, images: npt.NDArray[np.uint8], *, batch_size: int = BATCH_SIZE
    ) -> npt.NDArray[np.float32]:
        """Return the last feature map of each image, which explains a prediction.

        Args:
            images: `(n, size, size, 1)` uint8 in [0, 255], grey.
            batch_size: Images run at once; changes memory and speed, never the result.

        Returns:
            Features `(n, height, width, channels)` float32.

        Raises:
            ModelError: The images are not an array of this shape and type.
        """
        self._check(images, batch_size)
        batches = list(self._batches(images, batch_size)) or [images]
        return np.concatenate([self._ask(["features"], batch)[0] for batch in batches])

    def read(self) -> bytes:
        """Return the bytes of the ONNX file as they were loaded.

        Raises:
            ModelError: The file is gone or has changed.
        """
        content = _read(_file(self.path), MAX_BYTES)
        if hashlib.sha256(content).hexdigest() != self.card.sha256:
            raise ModelError(f"{str(self.path)!r} has changed since it was loaded; load it again")
        return content

    def _check(self, images: object, batch_size: int) -> None:
        """Check that the model can be run on `images`, which may be of any type."""
        shape = (self.card.size, self.card.size, 1)
        wanted = f"the model takes a NumPy array of uint8 images of shape {('n', *shape)}"
        if not isinstance(images, np.ndarray):
            raise ModelError(f"{wanted}, not {type(images).__name__}; make them with mien.vision.images")
        if images.dtype != np.uint8 or images.shape[1:] != shape:
            raise ModelError(
                f"{wanted}, not {images.dtype} of shape {images.shape}; make them with mien.vision.images"
            )
        if batch_size < 1:
            raise ModelError(f"batch_size is {batch_size}; it must be at least 1")

    def _batches(self, images: npt.NDArray[np.uint8], batch_size: int) -> Iterator[npt.NDArray[np.uint8]]:
        pages = Pages(images)
        for start in range(0, len(images), batch_size):
            yield images[start : start + batch_size]
            pages.read(batch_size)

    def _ask(self, outputs: list[str], batch: npt.NDArray[np.uint8]) -> list[npt.NDArray[np.float32]]:
        try:
            answers: list[npt.NDArray[np.float32]] = self._session.run(outputs, {"images": batch})
        except Exception as error:  # ONNX Runtime's own classes share no base but Exception
            raise ModelError(f"the model {self.path.name!r} cannot be run: {_first_line(error)}") from None
        return answers


@dataclass(frozen=True)
class Subject:
    """A model, and what the user named it by.

    Args:
        model: The loaded model.
        run: The run's folder if the user named a run; None for a model file or a shipped model.
        name: The name of the run's folder if the user named a run, else the model's name.
        home: The run's folder that the model file belongs to, also if the user named `run/model` or the file
            in it; None for other models.
    """

    model: Model
    run: Path | None
    name: str
    home: Path | None


def resolve(target: Model | str | os.PathLike[str] | None = None, *, threads: int | None = None) -> Subject:
    """Load the model that a user names: a run's folder, a model file or folder, or a shipped model's name.

    Example:
        >>> import mien
        >>> mien.resolve("fast").name
        'fast'

    Args:
        target: As `load` takes it, or a loaded model.
        threads: As in `load`.

    Raises:
        RunError: The run has no model yet.
        ModelError: As in `load`.
    """
    if isinstance(target, Model):
        return Subject(target, None, target.card.name, None)
    _files.check_path("target", target, Model, NoneType)
    model = load(target, threads=threads)
    if target is None or _shipped(target) is not None:
        return Subject(model, None, model.card.name, None)
    place = Path(target)
    if is_run(target):
        return Subject(model, place, place.resolve().name, place)
    return Subject(model, None, model.card.name, run_of(place))


def run_of(place: str | os.PathLike[str]) -> Path | None:
    """Return the run's folder that a model file, or the folder of one, belongs to; None if to no run."""
    folder = Path(place).resolve()
    folder = folder.parent if folder.is_file() and folder.name == MODEL else folder
    return folder.parent if folder.name == IN_RUN and is_run(folder.parent) else None


def is_run(path: str | os.PathLike[str]) -> bool:
    """Return whether a path means a run's folder, which holds a `recipe.toml`.

    A name in `SHIPPED` means the package's model, even if a folder has that name.
    """
    # os.path, because Path.is_file raises an error for a name that is too long for the file system.
    return os.fspath(path) not in SHIPPED and os.path.isfile(Path(path) / "recipe.toml")  # noqa: PTH113


def find(path: str | os.PathLike[str] | None = None) -> Path:
    """Return the path of the model that a path or a name means, without reading the model.

    The path is one that `load` takes; the result is a model's folder or an ONNX file.

    Raises:
        RunError: No training has finished in this run.
        ModelError: The path does not exist, or the folder is neither a run nor a model.
    """
    if (name := _shipped(path)) is not None:
        return MODELS / f"{name}.onnx"
    assert path is not None
    place = Path(path)
    if is_run(path):
        if not (place / IN_RUN / MODEL).is_file():
            raise unfinished(place)
        return place / IN_RUN
    try:
        place.stat()
    except FileNotFoundError:
        if place.name == IN_RUN and is_run(place.parent):
            raise unfinished(place.parent) from None
        raise ModelError(f"there is no {os.fspath(path)!r}{_suggest(place)}; {_CHOICES}") from None
    except (OSError, ValueError) as error:  # a name that is too long, or that holds a null character
        reason = getattr(error, "strerror", None) or str(error)
        raise ModelError(f"{quote(str(place))} cannot be read: {reason}; {_CHOICES}") from None
    if place.is_dir() and not (place / MODEL).is_file():
        raise ModelError(
            f"the folder {str(place)!r} is neither a run (it has no recipe.toml) nor a model (it has no "
            f"{MODEL}); {_CHOICES}"
        )
    return place


def unfinished(folder: str | os.PathLike[str]) -> RunError:
    """Return the error for a run without a model: the reason, and what to do."""
    place = Path(folder)
    if (place / "bundle" / MODEL).is_file():
        return RunError(
            f"{place} is of an earlier version of mien, which called the model's folder 'bundle'; rename "
            f"{place / 'bundle'} to {place / IN_RUN}"
        )
    try:
        facts = json.loads((place / "run.json").read_bytes())
    except (OSError, ValueError):
        facts = {}
    if facts.get("status") == "failed":
        return RunError(f"{place} has no model, because its training failed: {facts.get('reason')}")
    if _is_held(place / "run.lock"):
        return RunError(f"{place} has no model yet, because it is being trained; wait for the end")
    if facts.get("status") == "done":
        return RunError(
            f"{place} has finished training, but its model is missing or incomplete; restore "
            f"{place / IN_RUN} from a copy, or train again"
        )
    how = "pruned" if facts.get("status") == "pruned" else "stopped"
    return RunError(
        f"{place} has no model yet, because its training was {how} before the end; finish it with: "
        f"{format_command(['mien', 'train', '--resume', str(place)])}"
    )


def _is_held(file: Path) -> bool:
    """Return whether another process holds a lock file."""
    if not file.exists():
        return False
    try:
        lock = _files.hold(file)
    except OSError:  # without the right to write here, the lock cannot be tried
        return False
    if lock is None:
        return True
    lock.release()
    return False


def load(
    path: str | os.PathLike[str] | None = None,
    *,
    threads: int | None = None,
    optimization: Literal["all", "basic"] = "all",
) -> Model:
    """Load a model, check it, and make it ready to run.

    Example:
        >>> import mien
        >>> model = mien.load_model("fast")
        >>> list(model.card.heads)
        ['fer2013', 'ferplus']

    Args:
        path: One of these; None means the first of `SHIPPED`:

            - the folder of a run: the model that its training selected, in the folder's `model`
            - the folder of a model
            - an ONNX file, which has the card inside
            - the name of a model in the package, one of `SHIPPED`; `./default` means a folder or file of
              your own that has such a name
        threads: Threads that compute one batch; None uses every core.
        optimization: As in `of`.

    Raises:
        RunError: The run has no model yet.
        ModelError: The model does not exist; a file is damaged, was changed, or does not belong to the card
            or evaluation beside it; it contains what a model file may not (data in other files, custom
            operations, sizes beyond the limits); or the model and its card do not match.
    """
    _files.check_path("path", path, NoneType)
    place, shipped = find(path), _shipped(path)
    file = _file(place)
    model = _read(file, MAX_BYTES)
    digest = hashlib.sha256(model).hexdigest()
    if shipped is not None:
        _check_shipped(shipped, digest)
    card = parse(checks.read_card(model, file.name))
    if (place / CARD).exists():
        _check_beside(place, card, digest)
    elif file.suffix == ".onnx" and shipped is None:
        _check_evaluation(file, digest)
    return of(model, card, path=place, threads=threads, optimization=optimization)


def of(
    model: bytes,
    card: Card,
    *,
    path: str | os.PathLike[str] = MODEL,
    threads: int | None = None,
    optimization: Literal["all", "basic"] = "all",
) -> Model:
    """Check a model in memory and make it ready to run.

    Args:
        model: The bytes of an ONNX file; other files that they name are not read.
        card: The card; that of the returned model gets the hash of these bytes.
        path: The name in messages.
        threads: As in `load`.
        optimization: How far ONNX Runtime optimises the graph: `all`, or `basic`, which does not fuse int8
            operations. A fused and an unfused int8 model round differently.

    Raises:
        ModelError: As in `load`.
    """
    checks.check(model)
    place = Path(path)
    card = replace(card, sha256=hashlib.sha256(model).hexdigest())
    session = _session(model, threads, place.name, optimization)
    loaded = Model(place, card, session, bytes(model), threads, optimization)
    _check_fit(loaded)
    return loaded


def write(model: bytes, card: Card, to: str | os.PathLike[str]) -> Model:
    """Check a model and write its folder or file, completely or not at all.

    The card goes into the ONNX file without a hash, and beside it with the hash of the final file. Inside are
    also hashes of model and card, so that `load` can check a single file. If writing stops at any moment, the
    folder has no model, the older one or the new one. The evaluation and weights that `mien ship` wrote
    beside a file name the hash of the older file; ship the model again instead.

    Args:
        model: An ONNX file's bytes.
        card: What the model is; its `sha256` is set here.
        to: A folder; or a name that ends in `.onnx`, for that file alone.

    Raises:
        ModelError: Model and card do not match.
        OutputError: A file cannot be written.
    """
    place = Path(to)
    file = checks.write_card(model, to_json(without_hash(card)).encode())
    loaded = of(file, card, path=place)
    with _files.writing(place):
        if place.suffix == ".onnx" and not place.is_dir():
            _files.write(place, file)
            return loaded
        # Without card.json the ONNX file counts alone, so that no moment pairs a file with another's card.
        (place / CARD).unlink(missing_ok=True)
        _files.write(place / MODEL, file)
        _files.write(place / LABELS, listed(card.labels))
        _files.write(place / CARD, to_json(loaded.card).encode())
    return loaded


def listed(labels: Sequence[str]) -> bytes:
    """Return the content of `labels.txt`: one label per line, in the order of the outputs."""
    return "".join(f"{label}\n" for label in labels).encode()


def _suggest(path: Path) -> str:
    """Return ` (did you mean 'fast'?)` if a path leads nowhere and is nearly the name of a shipped model."""
    # At 0.6 difflib takes "absent" for "default".
    near = difflib.get_close_matches(str(path).lower(), SHIPPED, n=1, cutoff=0.7)
    return f" (did you mean {near[0]!r}?)" if near else ""


def shipped_name(model: Model) -> str | None:
    """Return the name of a shipped model; None for another one."""
    return model.card.name if model.path.resolve().is_relative_to(MODELS.resolve()) else None


def _shipped(path: str | os.PathLike[str] | None) -> str | None:
    """Return the name of the package's model that a path means, if it means one."""
    name = SHIPPED[0] if path is None else os.fspath(path)
    return name if name in SHIPPED else None


def _file(place: Path) -> Path:
    return place / MODEL if place.is_dir() else place


def _read(file: Path, limit: int) -> bytes:
    try:
        with file.open("rb") as stream:
            content = stream.read(limit + 1)
    except OSError as error:
        reason = error.strerror or "it cannot be read"
        raise ModelError(f"{str(file)!r} cannot be read: {reason}; {_CHOICES}") from None
    if len(content) > limit:
        raise ModelError(f"{file.name!r} is larger than {limit} bytes, the limit for a model file")
    return content


def _check_shipped(name: str, digest: str) -> None:
    """Check that a model of the package is the one of the evaluation beside it."""
    try:
        expected = json.loads(_read(MODELS / f"{name}.json", MAX_BYTES))["sha256"]
    except (ValueError, TypeError, KeyError, RecursionError):
        raise ModelError(
            f"the evaluation of the shipped model {name!r} is damaged; install mien again"
        ) from None
    if expected != digest:
        raise ModelError(
            f"the shipped model {name!r} is damaged: its sha256 is {digest}, not {expected}; install mien "
            "again"
        )


def _check_evaluation(file: Path, digest: str) -> None:
    """Check that the evaluation which `mien ship` wrote beside a file belongs to this file."""
    beside = file.with_suffix(".json")
    try:
        found = json.loads(_read(beside, MAX_BYTES))
    except (ModelError, ValueError, RecursionError):
        return  # it does not exist, or another program wrote it
    if not isinstance(found, dict) or not {"schema", "name", "sha256", "evaluation", "bytes"} <= found.keys():
        return
    if found["sha256"] != digest:
        raise ModelError(
            f"the evaluation {beside.name!r} beside {file.name!r} belongs to another file: it has the "
            f"sha256 {str(found['sha256'])[:12]!r}, but the file has {digest[:12]!r}; ship the model again "
            f"with mien ship, or move {beside.name!r}"
        )


def _check_beside(folder: Path, inside: Card, digest: str) -> None:
    """Check that `card.json` was written for this file."""
    beside = parse(_read(folder / CARD, MAX_BYTES))
    if beside.sha256 != digest:
        raise ModelError(
            f"{MODEL} in {folder.name!r} does not belong to its card: its sha256 is {digest}, and the card "
            f"has {beside.sha256}"
        )
    if without_hash(beside) != without_hash(inside):
        raise ModelError(f"{CARD} in {folder.name!r} differs from the card inside {MODEL}")


def _session(
    model: bytes, threads: int | None, name: str, optimization: Literal["all", "basic"] = "all"
) -> Any:
    if threads is not None and threads < 1:
        raise ModelError(f"threads is {threads}; it must be at least 1")
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # errors are raised, not printed
    # Stated, because int8 operations are fused from the level "extended" on, which changes how they round.
    level = onnxruntime.GraphOptimizationLevel
    levels = {"all": level.ORT_ENABLE_ALL, "basic": level.ORT_ENABLE_BASIC}
    if optimization not in levels:
        raise ModelError(f"optimization is {optimization!r}; it must be one of {', '.join(levels)}")
    options.graph_optimization_level = levels[optimization]
    options.intra_op_num_threads = threads or 0
    options.inter_op_num_threads = 1
    # Waiting threads that spin take whole cores from other programs.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ONNX Runtime's own classes share no base but Exception
        raise ModelError(f"the model {name!r} cannot be loaded: {_first_line(error)}") from None


def _check_fit(model: Model) -> None:
    """Check that inputs and outputs are those of the card, and run the model once."""
    card, session = model.card, model._session
    takes = [(each.name, each.type, list(each.shape[1:])) for each in session.get_inputs()]
    wanted = [("images", "tensor(uint8)", [card.size, card.size, 1])]
    if takes != wanted or isinstance(session.get_inputs()[0].shape[0], int):
        raise ModelError(
            f"the inputs of the model are {takes}; this card needs {wanted} with any number of images"
        )
    outputs = [head.output for head in card.heads.values()]
    gives = {each.name: (each.type, len(each.shape)) for each in session.get_outputs()}
    if gives != {"features": ("tensor(float)", 4)} | dict.fromkeys(outputs, ("tensor(float)", 2)):
        raise ModelError(
            f"the outputs of the model are {gives}; this card needs {', '.join(outputs)} and features"
        )
    for each in session.get_outputs():
        if each.name in outputs and each.shape[1] != len(card.labels):
            raise ModelError(
                f"the model has {each.shape[1]} outputs, but its card has {len(card.labels)} labels"
            )
    probe = np.zeros((2, card.size, card.size, 1), np.uint8)
    probe[1] = 255
    for name in card.heads:
        chances = model.run(probe, head=name)
        if chances.min() < 0 or np.abs(chances.sum(axis=1) - 1).max() > 1e-3:
            raise ModelError(f"the model {model.path.name!r} does not answer with probabilities")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300]
