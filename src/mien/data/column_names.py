"""Find the columns of a table by their usual names: image, label, split, group and face box."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

#: Usual names of each column, the preferred first; case, spaces, `_`, `-` and `.` do not matter.
IMAGES = (
    *("image", "images", "img", "face", "picture", "photo", "imagebytes", "imagedata", "bytes", "png", "jpg"),
    *("jpeg", "webp"),
)
PATHS = (
    *("path", "file", "filename", "filepath", "imagepath", "imagefile", "imagename", "imgpath", "imgname"),
    *("subdirectoryfilepath", "relativepath", "imageid"),
)
LABELS = (
    *("label", "labels", "emotion", "emotions", "expression", "class", "classname", "labelname", "category"),
    *("target", "emotionlabel", "expressionlabel", "classlabel", "y"),
)
SPLITS = ("split", "usage", "subset", "partition", "set", "fold")
GROUPS = (
    *("group", "person", "subject", "identity", "personid", "subjectid", "groupid", "identityid", "actor"),
    *("actorid", "speaker", "speakerid", "participant", "participantid", "celebid"),
)
#: A column with the four numbers of a face box.
BOXES = ("bbox", "box", "facebox", "facebbox", "boundingbox", "faceboundingbox")

#: Names of the four columns of a face box: left, top, width, height; or left, top, right, bottom.
_SIZED = (("x", "y", "w", "h"), ("left", "top", "width", "height"), ("x", "y", "width", "height"))
_CORNERS = (
    ("left", "top", "right", "bottom"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("x1", "y1", "x2", "y2"),
    ("x0", "y0", "x1", "y1"),
)
_BEFORE = ("", "face", "box", "bbox", "facebox", "facebbox")


@dataclass(frozen=True, kw_only=True)
class BoxColumns:
    """The four columns of a face box.

    Args:
        names: Left and top, then width and height, or right and bottom.
        corners: Whether the last two are right and bottom.
    """

    names: tuple[str, str, str, str]
    corners: bool

    def box(self, values: Sequence[float]) -> tuple[float, float, float, float]:
        """Return left, top, width and height of the values of the four columns."""
        left, top, third, fourth = values
        return (left, top, third - left, fourth - top) if self.corners else (left, top, third, fourth)


def simplified(name: str) -> str:
    """Return a name in lower case without spaces, `_`, `-` and `.`."""
    return re.sub(r"[\s._-]+", "", name.lower())


def find_column(names: Sequence[str], usual: Sequence[str]) -> str | None:
    """Return the column with the most preferred of the `usual` names, or None."""
    there = _simplified(names)
    return next((there[each] for each in usual if each in there), None)


def find_box(names: Sequence[str]) -> BoxColumns | None:
    """Return the four columns of a face box, or None."""
    there = _simplified(names)
    for corners, kinds in ((True, _CORNERS), (False, _SIZED)):
        for kind in kinds:
            for before in _BEFORE:
                if all(before + name in there for name in kind):
                    left, top, third, fourth = (there[before + name] for name in kind)
                    return BoxColumns(names=(left, top, third, fourth), corners=corners)
    return None


def _simplified(names: Sequence[str]) -> Mapping[str, str]:
    """Return each column by its simplified name; of two equal ones the first."""
    return {simplified(name): name for name in reversed(names)}
