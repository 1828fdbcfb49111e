"""Every error mien raises on purpose.

    MienError
    ├── InputError            what came in cannot be used (exit code 2)
    │   ├── ImageError        one image
    │   ├── VideoError        one video
    │   ├── ArchiveError      a zip or tar file
    │   ├── DataError         a data set: folders, csv files, votes, exclusions
    │   ├── RecipeError       a recipe, a network's name or one of their settings
    │   ├── RunError          a run's folder
    │   └── ModelError        a bundle or its card
    ├── OutputError           a file or folder cannot be written (exit code 2)
    ├── TrainingError         training cannot continue: the loss is not a number (exit code 2)
    ├── MissingExtra          an optional dependency is needed and not installed (exit code 2)
    │   └── MissingBackend    what Keras was told to run on is not installed
    └── Stopped               a signal asked us to stop, and everything is saved (exit code 130 or 143)

A message says what came, what was expected and what to do, in one sentence.
"""


class MienError(Exception):
    """Catch this to catch everything mien raises on purpose."""

    exit_code = 2


class InputError(MienError):
    """What came in cannot be used."""


class ImageError(InputError):
    """An image cannot be read, or is not one."""


class VideoError(InputError):
    """A video cannot be read, or is none."""


class ArchiveError(InputError):
    """An archive is unreadable, unsafe, or beyond the limits."""


class DataError(InputError):
    """A data set cannot be used as it stands."""


class RecipeError(InputError):
    """A recipe, a network's name or a setting is unknown or out of range."""


class RunError(InputError):
    """A run's folder is missing, in use, or damaged."""


class ModelError(InputError):
    """A bundle is damaged, unsafe, or not made for what it was given."""


class OutputError(MienError):
    """A file or folder cannot be written; what was there before is unchanged."""


class TrainingError(MienError):
    """Training cannot go on; what was learnt so far is saved."""


class MissingExtra(MienError):
    """An optional dependency is needed and not installed.

    Args:
        what: What needs it, as the subject of a sentence: `"training"`.
        extra: The extra of the package that brings it: `"train"`.
    """

    def __init__(self, what: str, extra: str) -> None:
        # "." for a clone, where mien is not on the index that pip asks.
        super().__init__(
            f"{what} needs packages that are not installed; run: pip install 'mien[{extra}]', or in a clone "
            f"of mien pip install '.[{extra}]'"
        )
        self.extra = extra


class MissingBackend(MissingExtra):
    """Keras was told to run on a backend that is not installed.

    Args:
        backend: Its name: `"torch"`.
        asked: What asks for it: `"KERAS_BACKEND"`.
        remedy: What to do.
    """

    def __init__(self, backend: str, asked: str, remedy: str) -> None:
        MienError.__init__(self, f"{asked} asks Keras to run on {backend}, which is not installed; {remedy}")
        self.extra = backend


class Stopped(MienError):
    """A signal asked the work to stop; it stopped with everything saved.

    Args:
        message: What is saved where, and how to go on.
        signal_number: The signal's number; the exit code is 128 more.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number
