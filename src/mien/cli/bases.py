"""What a user calls a model, and the one that a training begins from or a run is averaged with."""

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

from mien.errors import InputError

if TYPE_CHECKING:
    from mien.bundle import Bundle


def called(text: str) -> Path:
    """Return the path that names a model; of `./default` the folder, for a path drops the dot."""
    from mien import bundle

    path = Path(text)
    if text in bundle.SHIPPED or str(path) not in bundle.SHIPPED:
        return path
    try:
        return path.absolute()
    except OSError:
        raise InputError(
            f"the folder that {text!r} would stand in is gone; go to one that exists, or name a whole path"
        ) from None


def leads_nowhere(path: Path) -> bool:
    """Say whether nothing has this path; of one that cannot be looked at, such as a ring of links, False."""
    try:
        path.stat()
    except OSError as error:
        return error.errno in (errno.ENOENT, errno.ENOTDIR)
    return False


def absent(path: Path) -> InputError:
    """Return what to say about a path that is meant for a model and leads nowhere."""
    from mien import bundle

    return InputError(
        f"there is no {str(path)!r}{bundle.suggest(path)}; name a run's folder, a model's .onnx file, or a "
        f"model of the package: {' or '.join(bundle.SHIPPED)}"
    )


def find(path: Path) -> "Bundle":
    """Load the model of a run's folder, or one by its name or file.

    A name of the package's goes before a folder that is called so.
    """
    from mien import bundle, run

    # Path.exists raises over a name that no system holds.
    if str(path) not in bundle.SHIPPED and not os.path.exists(path):  # noqa: PTH110
        raise absent(path)
    if str(path) in bundle.SHIPPED or not path.is_dir() or (path / bundle.MODEL).is_file():
        return bundle.load(path)
    made = run.open_run(path)
    if not (made.bundle / bundle.MODEL).is_file():
        raise made.unfinished()
    return bundle.load(made.bundle)
