"""Usual names of the columns of a table: path, image, label, split, group and face box.

The names are without case, spaces and punctuation, as `simplified` returns them; the preferred come first.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mien._text import shorten
from mien.errors import DataError


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


PATHS = _words(
    "path paths file files filename filenames filepath filepaths relpath relativepath pth "
    "subdirectoryfilepath image images imagename imagefile imagefilename imagepath img "
    "imgname imgfile imgpath imgfilename photo photoname picture picturename"
)
#: Columns that can have paths if no other column does.
WEAK_PATHS = _words("name imageid imgid id")
#: Columns of tables whose rows have the images themselves.
IMAGES = _words("image images img face picture photo imagebytes imagedata bytes png jpg jpeg webp pixels")
LABELS = _words(
    "label labels labelname labelid emotion emotions emotionname emotionlabel emotionid emotionclass "
    "expression expressions expressionname expressionlabel expressionid facialexpression exp expr "
    "class classname classlabel classid category target"
)
SPLITS = _words("split usage set subset partition datasplit phase")
#: Columns of persons, the most certain first.
GROUPS = _words(
    "person personid subject subjectid identity identityid participant participantid actor actorid "
    "individual individualid speaker speakerid userid group groupid "
    "persons personname personnumber subjects subjectname subjectnumber identities identityname "
    "identitynumber participants participantname participantnumber actors actorname actornumber "
    "individuals individualname individualnumber speakers speakername speakernumber groups groupname "
    "groupnumber"
)
#: A column with the four numbers of a face box.
BOXES = _words("box bbox facebox boundingbox roi rect")

_BOX_START = re.compile(r"^(facebox|boundingbox|bbox|face|box|bb|roi|rect)")
#: Names of the four columns of a box, and whether they are corners.
_FOUR = (
    (("left", "top", "right", "bottom"), True),
    (("xmin", "ymin", "xmax", "ymax"), True),
    (("minx", "miny", "maxx", "maxy"), True),
    (("x1", "y1", "x2", "y2"), True),
    (("x0", "y0", "x1", "y1"), True),
    (("x", "y", "w", "h"), False),
    (("x", "y", "width", "height"), False),
    (("left", "top", "width", "height"), False),
    (("left", "top", "w", "h"), False),
)


@dataclass(frozen=True, kw_only=True)
class BoxColumns:
    """The four columns of a face box.

    Args:
        names: Left and top, then width and height, or right and bottom.
        corners: Whether the last two are right and bottom.
    """

    names: tuple[str, ...]
    corners: bool

    def box(self, values: Sequence[float]) -> tuple[float, float, float, float]:
        """Return left, top, width and height of the values of the four columns."""
        left, top, third, fourth = values
        return (left, top, third - left, fourth - top) if self.corners else (left, top, third, fourth)


def simplified(name: str) -> str:
    """Return a name in lower case without spaces, `_`, `-` and `.`."""
    return re.sub(r"[\s_.\-]+", "", name.lower())


def find_column(names: Sequence[str], usual: Sequence[str]) -> str | None:
    """Return the column with the most preferred of the `usual` names, or None."""
    there = _by_simplified(names)
    return next((there[each] for each in usual if each in there), None)


def find_label(names: Sequence[str], table: str) -> str | None:
    """Return the column of labels, or None.

    Args:
        names: The columns.
        table: What has them, for the message.

    Raises:
        DataError: There are several.
    """
    found = [name for name in names if simplified(name) in LABELS]
    if len(found) > 1:
        raise DataError(
            f"{table} has several columns for the label: {shorten(found)}; remove or rename all but one"
        )
    return found[0] if found else None


def find_box(names: Sequence[str]) -> BoxColumns | None:
    """Return the four columns of a face box, or None; of several boxes the first."""
    keys = [simplified(name) for name in names]
    places, corners = next(find_boxes(keys), ((), False))
    return BoxColumns(names=tuple(names[place] for place in places), corners=corners) if places else None


def find_boxes(keys: Sequence[str]) -> Iterator[tuple[tuple[int, ...], bool]]:
    """Yield the four columns of each face box, by index, and whether they are corners.

    Args:
        keys: The simplified names of columns; those of one box begin alike.
    """
    groups: dict[str, dict[str, int]] = {}
    for index, key in enumerate(keys):
        for start in {"", *(_BOX_START.findall(key))}:
            groups.setdefault(start, {})[key.removeprefix(start)] = index
    for places in groups.values():
        for wanted, corners in _FOUR:
            if all(name in places for name in wanted):
                yield tuple(places[name] for name in wanted), corners
                break


def _by_simplified(names: Sequence[str]) -> Mapping[str, str]:
    """Return each column by its simplified name; of two equal ones the first."""
    return {simplified(name): name for name in reversed(names)}
