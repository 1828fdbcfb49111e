"""The errors that mien raises, and their exit codes.

    MienError
    ├── InputError            an input cannot be used (exit code 2)
    │   ├── ImageError        one image
    │   ├── VideoError        one video
    │   ├── ArchiveError      a zip or tar file
    │   ├── DataError         a data set: folders, csv files, annotator votes, exclusions
    │   ├── RecipeError       a recipe, a network's name or one of their settings
    │   ├── RunError          a run folder
    │   └── ModelError        a model file or its card
    ├── OutputError           a file or folder cannot be written (exit code 2)
    ├── TrainingError         training cannot continue: the loss is not a number (exit code 2)
    ├── MissingExtra          an optional dependency is needed and not installed (exit code 2)
    │   └── MissingBackend    the backend chosen for Keras is not installed
    └── Stopped               a signal stopped the work; everything is saved (exit code 130 or 143)

A message is one sentence: what is wrong, then what to do.
"""


class MienError(Exception):
    """Base class of all errors that mien raises.

    Example:
        >>> import mien
        >>> try:
        ...     mien.predict("nowhere.jpg")
        ... except mien.MienError as error:
        ...     print(error.exit_code)
        2
    """

    exit_code = 2


class InputError(MienError):
    """An input cannot be used."""


class ImageError(InputError):
    """An image cannot be read."""


class VideoError(InputError):
    """A video cannot be read."""


class ArchiveError(InputError):
    """An archive is damaged, unsafe, or exceeds the limits."""


class DataError(InputError):
    """A data set cannot be used."""


class RecipeError(InputError):
    """A recipe, a network's name or a setting is unknown or out of range."""


class RunError(InputError):
    """A run folder is missing, in use, or damaged."""


class ModelError(InputError):
    """A model file is damaged or unsafe, or does not fit its input."""


class OutputError(MienError):
    """A file or folder cannot be written; what was there before is unchanged."""


class TrainingError(MienError):
    """Training cannot continue; the last checkpoint is saved."""


class MissingExtra(MienError):
    """An optional dependency is not installed.

    Args:
        what: The feature that needs it, as the subject of a sentence: `"training"`.
        extra: The extra of the package that installs it, `"train"`, or several, `"cpu,plot"`.
    """

    def __init__(self, what: str, extra: str) -> None:
        super().__init__(
            # Double quotes, because the command prompt of Windows knows no single ones. If mien was
            # installed from a clone, pip keeps it, and installs only what the extra adds.
            f'{what} needs packages that are not installed; run: pip install "mien[{extra}]"'
        )
        self.extra = extra


class MissingBackend(MissingExtra):
    """The backend chosen for Keras is not installed.

    Args:
        backend: Its name: `"torch"`.
        asked: The setting that chose it: `"KERAS_BACKEND"`.
        remedy: What to do.
    """

    def __init__(self, backend: str, asked: str, remedy: str) -> None:
        MienError.__init__(
            self, f"{asked} selects the Keras backend {backend}, which is not installed; {remedy}"
        )
        self.extra = backend


class Stopped(MienError):
    """A signal stopped the work, and everything is saved.

    Args:
        message: Where the work is saved, and how to continue.
        signal_number: The signal's number; the exit code is 128 more.
    """

    def __init__(self, message: str, signal_number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + signal_number
