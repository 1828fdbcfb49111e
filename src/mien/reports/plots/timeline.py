"""What each person of a video showed, from first to last."""

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patches import Patch
from matplotlib.ticker import FixedLocator, FuncFormatter, Locator, MaxNLocator, MultipleLocator

from mien.errors import DataError
from mien.reports.plots import formatting as words
from mien.reports.plots.canvas import INK, headline, page, save

#: People on one drawing, those seen longest.
MOST = 12
#: Stretches of one person that are drawn as they are; of more, each column takes what fills it most.
_STRETCHES, _COLUMNS = 300, 900
# Apart for every kind of colour vision: Okabe & Ito 2008, Color Universal Design. Neutral is grey.
_COLOURS = {
    "angry": "#D55E00",
    "disgust": "#009E73",
    "fear": "#CC79A7",
    "happy": "#E69F00",
    "sad": "#0072B2",
    "surprise": "#56B4E9",
    "neutral": "#B8BEC7",
}
_OTHERS = ("#F0E442", *_COLOURS.values())
_WIDTH, _ROW, _HEIGHT = 9.0, 0.42, 0.72
_UNDER = 0.42  # inches from the axes to the legend
#: Seconds between marks, of which the first is taken that leaves no more than `_MARKS`.
_STEPS = (1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1200, 1800, 3600, 7200, 14400)
_MARKS = 9
_LETTER = 0.085  # inches that a letter takes in a bar, about

#: Begin and end in seconds, the emotion, and whether it is uncertain.
Stretch = tuple[float, float, str, bool]
#: How uncertain stretches are drawn: share of white in the colour, and lines in the colour itself.
_PALE, _HATCH = 0.7, "////"
_DOUBT = "#6E747D"


def course(
    people: Sequence[Mapping[str, Any]],
    to: str | os.PathLike[str],
    *,
    name: str,
    begin: float,
    end: float,
    title: str = "",
) -> list[Path]:
    """Draw a bar for each person, coloured by the emotion shown at that time; gaps are times unseen.

    Stretches in which the emotion is uncertain are pale and hatched.

    Args:
        people: As `mien.inference.video.Person.to_dict` gives them.
        to: The folder to write into.
        name: The files' name without its ending.
        begin: Seconds at which the video begins.
        end: Seconds at which it ends.
        title: What the video is called.

    Returns:
        `<name>.png` and `.svg` in `to`.

    Raises:
        DataError: `name` is no file's name, or the video does not end after it begins.
        TrainingError: A file cannot be written.
    """
    if not (math.isfinite(begin) and math.isfinite(end) and end > begin):
        raise DataError(f"a video from {begin} to {end} s has no length to draw")
    longest = sorted(people, key=lambda person: -person["seconds"])[:MOST]
    shown = sorted(longest, key=lambda person: person["track"])
    rows = max(1, len(shown))
    with page(_WIDTH, _ROW * rows) as figure:
        axes = figure.add_axes((0, 0, 1, 1))
        axes.set(xlim=(begin, end), ylim=(rows - 0.5, -0.5))
        axes.yaxis.set_major_locator(FixedLocator(range(len(shown))))
        axes.set_yticklabels([f"person {person['track']}" for person in shown])
        axes.xaxis.set_major_locator(_marks(end - begin))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda second, _: _clock(second, end - begin)))
        axes.grid(True, axis="x")
        colours, doubted = _colours(shown), False
        for number, person in enumerate(shown):
            spans = [
                (span["begin"], span["end"], span["emotion"], bool(span.get("uncertain", False)))
                for span in person["spans"]
            ]
            doubted = doubted or any(uncertain for *_, uncertain in spans)
            if len(spans) > _STRETCHES:
                spans = _columns(spans, begin, end)
            _bars(axes, number, spans, colours, _WIDTH / (end - begin))
        notes = [_note(len(people), len(shown))]
        headline(axes, words.shorten(words.plain(title), 60) or "Emotions over time", notes)
        if colours:
            handles = [Patch(color=colour, label=words.plain(name)) for name, colour in colours.items()]
            if doubted:
                look = _look(_DOUBT, uncertain=True)
                handles.append(Patch(**look, label="uncertain"))
            axes.legend(
                handles=handles,
                loc="upper left",
                bbox_to_anchor=(0, -_UNDER / (_ROW * rows)),
                borderaxespad=0,
                borderpad=0,
                ncols=8,
                frameon=False,
                handlelength=1,
                labelcolor=INK,
            )
        return save(figure, to, name)


def _bars(
    axes: Axes, number: int, spans: Sequence[Stretch], colours: Mapping[str, str], scale: float
) -> None:
    bars: dict[tuple[str, bool], list[tuple[float, float]]] = {}
    for first, last, emotion, uncertain in spans:
        bars.setdefault((emotion, uncertain), []).append((first, last - first))
    for (emotion, uncertain), pieces in bars.items():
        look = _look(colours[emotion], uncertain=uncertain)
        axes.broken_barh(pieces, (number - _HEIGHT / 2, _HEIGHT), **look)
    for first, last, emotion, uncertain in spans:
        text = words.plain(emotion) + ("?" if uncertain else "")
        if (last - first) * scale > _LETTER * (len(text) + 1):
            dark = emotion == "sad" and not uncertain
            axes.text(
                (first + last) / 2,
                number,
                text,
                ha="center",
                va="center",
                size=8,
                color="white" if dark else INK,
                # The lines of an uncertain bar would run through the letters.
                bbox={"facecolor": _pale(colours[emotion]), "linewidth": 0, "pad": 1} if uncertain else None,
            )


def _look(colour: str, *, uncertain: bool) -> dict[str, Any]:
    """Return how a bar is filled."""
    if not uncertain:
        return {"facecolor": colour, "linewidth": 0}
    return {"facecolor": _pale(colour), "edgecolor": colour, "hatch": _HATCH, "linewidth": 0}


def _pale(colour: str) -> tuple[float, ...]:
    return tuple(part + _PALE * (1 - part) for part in to_rgb(colour))


def _colours(people: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Give each emotion that somebody showed its colour, in mien's order; other names take what is left."""
    found = {name for person in people for name in person["emotions"]}
    named = {name: colour for name, colour in _COLOURS.items() if name in found}
    others = sorted(found - set(_COLOURS))
    free = [colour for colour in _OTHERS if colour not in named.values()] or list(_OTHERS)
    return named | {name: free[number % len(free)] for number, name in enumerate(others)}


def _columns(spans: Sequence[Stretch], begin: float, end: float) -> list[Stretch]:
    """Take for each column of the drawing what fills most of it, and join neighbours that agree."""
    width = (end - begin) / _COLUMNS
    filled: list[dict[tuple[str, bool], float]] = [{} for _ in range(_COLUMNS)]
    for first, last, emotion, uncertain in spans:
        shown = emotion, uncertain
        low = max(0, min(_COLUMNS - 1, int((first - begin) / width)))
        high = max(0, min(_COLUMNS - 1, int((last - begin) / width)))
        for column in range(low, high + 1):
            left = begin + column * width
            inside = min(last, left + width) - max(first, left)
            if inside > 0:
                filled[column][shown] = filled[column].get(shown, 0.0) + inside
    joined: list[Stretch] = []
    for column, times in enumerate(filled):
        if not times:
            continue
        left, (emotion, uncertain) = begin + column * width, max(times, key=times.__getitem__)
        if joined and joined[-1][2:] == (emotion, uncertain) and abs(joined[-1][1] - left) < width / 2:
            joined[-1] = (joined[-1][0], left + width, emotion, uncertain)
        else:
            joined.append((left, left + width, emotion, uncertain))
    return joined


def _note(people: int, shown: int) -> str:
    if people < 2:
        return "one person" if people else "no face was found"
    return f"{shown} of {people} people, those seen longest" if shown < people else f"{people} people"


def _marks(length: float) -> Locator:
    if length < 2:
        return MaxNLocator(_MARKS)
    return MultipleLocator(next((step for step in _STEPS if length / step <= _MARKS), length / _MARKS))


def _clock(second: float, length: float) -> str:
    if length < 10:
        return f"{second:.1f} s"
    whole = round(abs(second))
    minutes = f"{whole // 60}" if length < 3600 else f"{whole // 3600}:{whole % 3600 // 60:02d}"
    return f"{'-' if second < 0 else ''}{minutes}:{whole % 60:02d}"
