"""What a command may write over: nothing that it reads."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

from mien.cli.model import is_run
from mien.errors import InputError

#: What in a run's folder nothing but the run itself writes.
_OF_A_RUN = ("bundle", "checkpoints", "weights", "recipe.toml", "run.json", "history.csv", "scored.json")


def spare(outputs: Mapping[str, Path | None], inputs: Iterable[Path | None]) -> None:
    """Refuse to write over what is read, or into a folder of it, before anything is read.

    Args:
        outputs: The files and folders to write, by what to call them: `--html page.html`.
        inputs: What is read; of a run's folder its own files, so that a report may be kept in it.

    Raises:
        InputError: An output is an input, another name of it, or lies inside; or two outputs are one file.
    """
    named = {what: path for what, path in outputs.items() if path is not None}
    for source in (each for path in inputs if path is not None for each in _protected(path)):
        for what, path in named.items():
            if _touches(path, source):
                raise InputError(f"{what} would write over {source}, which is read; name another place")
    seen: dict[Path, str] = {}
    for what, path in named.items():
        if (place := _resolved(path)) in seen:
            raise InputError(f"{what} and {seen[place]} are one file; name two")
        seen[place] = what


def of_run(path: Path) -> Iterator[Path]:
    """Yield the files and folders that a run was made from, as far as it says."""
    from mien.training import runs as run

    origin = run.open_run(path).facts().get("data", {}).get("origin", {})
    for key in ("source", "votes", "exclude", "teacher"):
        value = origin.get(key) or ()
        yield from map(Path, [value] if isinstance(value, str) else value)


def _protected(path: Path) -> Iterator[Path]:
    if is_run(path):
        yield from (path / name for name in _OF_A_RUN)
    else:
        yield path


def _touches(output: Path, source: Path) -> bool:
    try:
        if not source.exists():
            return False
        # By identity too, for links and for systems to which two spellings are one name.
        place = output.resolve()
        return place == source.resolve() or any(
            each.exists() and each.samefile(source) for each in (place, *place.parents)
        )
    except (OSError, RuntimeError):
        # A name that no system holds, or a ring of links: whoever opens it says so.
        return False


def _resolved(path: Path) -> Path:
    try:
        return path.resolve()
    except (OSError, RuntimeError):
        return path
