"""The paths and names by which a user calls a model."""

from pathlib import Path

from mien.errors import InputError


def called(text: str) -> Path:
    """Return the path that names a model; of `./default` the folder, for a path drops the dot."""
    from mien.models import model as bundle

    path = Path(text)
    if text in bundle.SHIPPED or str(path) not in bundle.SHIPPED:
        return path
    try:
        return path.absolute()
    except OSError:
        raise InputError(
            f"the folder that {text!r} would stand in is gone; go to one that exists, or name a whole path"
        ) from None
