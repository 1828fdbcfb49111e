"""One function for each command that joins several stages; `mien` offers them all.

Functions for one stage are in its package, such as `mien.inference.batches.predict_files`.
"""

import importlib.util
import os
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mien import _files
from mien.errors import InputError, MissingExtra

if TYPE_CHECKING:
    from mien.inference.video import VideoSummary

Progress = Callable[[int, int], None]
Note = Callable[[str], None]


def analyze_video(
    path: str | os.PathLike[str],
    *,
    timeline: str | os.PathLike[str] | None = None,
    to: str | os.PathLike[str] | Sequence[str | os.PathLike[str]] = (),
    **options: Any,
) -> "VideoSummary":
    """Follow the people in a video, and return what each of them showed.

    Example:
        >>> import mien
        >>> summary = mien.analyze_video("interview.mp4", to="faces.csv", every=5)
        >>> [person.track for person in summary.people]
        [1]

    Args:
        path: A video file.
        timeline: A .png file to plot, with each person's emotions over time; an .svg file goes beside it.
        to: A table to write, or several: .jsonl, .csv or .parquet.
        options: Other arguments of `mien.inference.video.analyze`: predictor, save, blur, every, rate,
            smoothing, max_gap, resume, on_frame, progress and on_note.

    Raises:
        VideoError: The file does not exist or is not a video, or no frame can be decoded.
        InputError: An option is out of range or conflicts with another, or an output is the input.
        MissingExtra: A package is not installed: PyAV, or Matplotlib for `timeline`.
        OutputError: A file cannot be written.
    """
    from mien.inference import video

    check_timeline(timeline)
    tables = [to] if isinstance(to, str | os.PathLike) else list(to)
    if timeline is not None:
        plot = Path(timeline)
        outputs: dict[str, Path | None] = {f"--to {each}": Path(each) for each in tables}
        outputs |= {"--timeline": plot, "the .svg file of --timeline": plot.with_suffix(".svg")}
        outputs["--save"] = None if options.get("save") is None else Path(options["save"])
        _files.check_outputs(outputs, [Path(path)])
    summary = video.analyze(path, to=tables, **options)
    if timeline is None:
        return summary
    from mien.reports import plots

    drawn = plots.draw_timeline(
        [person.to_dict() for person in summary.people],
        plot.parent,
        name=plot.stem,
        begin=summary.begin,
        end=summary.end,
        title=Path(path).name,
    )
    return replace(summary, files=(*summary.files, *map(str, drawn)))


def check_timeline(path: str | os.PathLike[str] | None) -> None:
    """Check the file of a timeline before the video is analyzed.

    Raises:
        InputError: It does not end in .png.
        MissingExtra: Matplotlib is not installed.
    """
    if path is None:
        return
    if Path(path).suffix.lower() != ".png":
        raise InputError(f"--timeline is '{path}'; it must end in .png")
    if importlib.util.find_spec("matplotlib") is None:
        raise MissingExtra("--timeline", "plot")
