"""Paint the pixels of a synthetic face: large, then reduced, with light, blur and noise."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from mien.data.synthetic.faces import Face, Light, Point, landmarks
from mien.errors import DataError

#: Painted pixels a side for each pixel of the image.
FINER = 4

_STEPS = np.linspace(0.0, 1.0, 5)
#: Lagrange's weights of an arc's start, middle and end at each step along it.
_WEIGHTS = np.stack(
    [2 * (_STEPS - 0.5) * (_STEPS - 1), 4 * _STEPS * (1 - _STEPS), 2 * _STEPS * (_STEPS - 0.5)], axis=1
)
#: Half height and depth of the ellipsoid of the face; its half width is the head's.
_TALL, _DEEP = 1.2, 0.75
#: Grey level of the factor 1 in the image that folds are painted into.
_EVEN = 128


def paint(face: Face, *, size: int = 48) -> NDArray[np.uint8]:
    """Paint `face`.

    Args:
        face: Its numbers.
        size: Side of the square image in pixels.

    Returns:
        `(size, size)` grey levels in [0, 255].

    Raises:
        DataError: The size is not positive.
    """
    check_size(size)
    side = FINER * size
    tones, shades = _background(face.light, side), Image.new("L", (side, side), _EVEN)
    _draw(face, ImageDraw.Draw(tones), ImageDraw.Draw(shades), side)
    _cover(face, ImageDraw.Draw(tones), ImageDraw.Draw(shades), side)
    small = tones.reduce(FINER)
    shade = shades.reduce(FINER).filter(ImageFilter.GaussianBlur(size / 64))
    lit = np.asarray(small, np.float32) * np.asarray(shade, np.float32) * _lit(face, size)
    exposed = _expose(lit, face.light)
    blurred = Image.fromarray(exposed).filter(ImageFilter.GaussianBlur(face.light.blur * size))
    noise = np.random.default_rng(face.light.grain).standard_normal((size, size), np.float32)
    grained = np.asarray(blurred, np.float32) + face.light.noise * noise
    return np.clip(np.rint(grained), 0, 255).astype(np.uint8)


def check_size(size: int) -> None:
    """Refuse a side no image can have.

    Raises:
        DataError: It is below 1.
    """
    if size < 1:
        raise DataError(f"the size is {size}; give at least 1 pixel, such as 48")


def _expose(lit: NDArray[np.float32], light: Light) -> NDArray[np.uint8]:
    """Set brightness and contrast as a camera does, for any light and skin."""
    contrast = light.contrast / max(float(lit.std()), 1e-3)
    levels = light.brightness + contrast * (lit - float(lit.mean()))
    exposed: NDArray[np.uint8] = np.clip(levels, 0, 255).astype(np.uint8)
    return exposed


def _background(light: Light, side: int) -> Image.Image:
    row = np.linspace(*light.background, side).astype(np.uint8)
    return Image.fromarray(row[np.newaxis]).resize((side, side), Image.Resampling.NEAREST)


def _draw(face: Face, tones: ImageDraw.ImageDraw, shades: ImageDraw.ImageDraw, side: int) -> None:
    # A fold within 2 % of even light is invisible; an exactly even fold covers others.
    todo = [mark for mark in marks(face) if not mark.fold or abs(mark.tone - 1) >= 0.02 or mark.tone == 1]
    unit = face.view.scale * side / 2
    numbers = [number for mark in todo for arc in mark.arcs for point in arc for number in point]
    points = np.array(numbers, np.float64).reshape(-1, 3, 2)
    lifts = np.array([np.nan if mark.lift is None else mark.lift for mark in todo for _ in mark.arcs])
    path = _project(_WEIGHTS @ points, lifts[:, np.newaxis], face, side).ravel().tolist()
    begin = 0
    for mark in todo:
        end = begin + 2 * len(_STEPS) * len(mark.arcs)
        draw, unit_tone = (shades, _EVEN) if mark.fold else (tones, 1)
        tone = max(0, min(255, round(mark.tone * unit_tone)))
        if mark.width:
            draw.line(path[begin:end], fill=tone, width=max(1, round(mark.width * unit)))
        else:
            draw.polygon(path[begin:end], fill=tone)
        begin = end


def _project(
    points: NDArray[np.float64], lifts: NDArray[np.float64], face: Face, side: int
) -> NDArray[np.float64]:
    """Turn points `(arcs, steps, 2)` of the head with it, and place them on the painted square."""
    view = face.view
    x, y = points[..., 0], points[..., 1]
    surface = np.sqrt(np.maximum(0.0, 1 - (x / face.head.width) ** 2 - (y / _TALL) ** 2))
    z = np.nan_to_num(_DEEP * surface + lifts)
    x, z = x * np.cos(view.yaw) + z * np.sin(view.yaw), z * np.cos(view.yaw) - x * np.sin(view.yaw)
    y = y * np.cos(view.pitch) + z * np.sin(view.pitch)
    cos, sin = np.cos(view.roll), np.sin(view.roll)
    unit = view.scale * side / 2
    return np.stack(
        [
            side * (0.5 + view.right) + unit * (x * cos - y * sin),
            side * (0.5 + view.down) + unit * (x * sin + y * cos),
        ],
        axis=-1,
    )


def _cover(face: Face, tones: ImageDraw.ImageDraw, shades: ImageDraw.ImageDraw, side: int) -> None:
    """Paint the bar that hides one side of the image."""
    if face.view.cover is None:
        return
    angle, free = face.view.cover
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    near = side * (0.5 + free * along)
    corners = [near + 2 * side * across, near - 2 * side * across]
    corners += [corners[1] + 2 * side * along, corners[0] + 2 * side * along]
    path = np.concatenate(corners).tolist()
    tones.polygon(path, fill=round(face.light.shirt))
    shades.polygon(path, fill=_EVEN)


def _lit(face: Face, size: int) -> NDArray[np.float32]:
    """Return how much light falls on each pixel: Lambert's law on the head's ellipsoid."""
    view, light = face.view, face.light
    steps = np.arange(size, dtype=np.float32) + 0.5
    x = (steps - size * (0.5 + view.right)) / (view.scale * size / 2)
    y = ((steps - size * (0.5 + view.down)) / (view.scale * size / 2))[:, np.newaxis]
    cos, sin = float(np.cos(view.roll)), float(np.sin(view.roll))
    across = (x * cos + y * sin) / (1.05 * face.head.width)
    along = (y * cos - x * sin) / _TALL
    beyond = np.maximum(1.0, np.sqrt(across**2 + along**2))
    across, along = across / beyond, along / beyond
    toward = np.sqrt(np.maximum(0.0, 1 - across**2 - along**2))
    # The light keeps its direction in the image while the head rolls.
    right, down = light.toward[0] * cos + light.toward[1] * sin, light.toward[1] * cos - light.toward[0] * sin
    direct = np.maximum(0.0, across * right + along * down + toward * light.toward[2])
    return np.asarray(light.ambient + (1 - light.ambient) * direct, np.float32)


#: A parabola given by its start, its middle and its end.
Arc = tuple[Point, Point, Point]


class Mark(NamedTuple):
    """One thing to paint.

    Attributes:
        arcs: A chain of arcs, each beginning where the one before ends.
        tone: A reflectance in [0, 255]; for a fold the factor that it puts on the light.
        width: Width of a line; 0 fills what the chain encloses.
        lift: Height over the head's surface; None for flat marks in the plane through its middle.
        fold: Whether it is a soft fold, which is painted as shade.
    """

    arcs: tuple[Arc, ...]
    tone: float
    width: float = 0.0
    lift: float | None = 0.0
    fold: bool = False


def marks(face: Face) -> Iterator[Mark]:
    """Yield everything to paint, from back to front."""
    at = landmarks(face)
    yield from _behind(face, at)
    yield from _creases(face, at)
    yield from _nose(face, at)
    yield from _mouth(face, at)
    for name, side in (("left", -1), ("right", 1)):
        yield from _eye(face, at, name)
        yield from _brow(face, at, name)
        yield from _side_creases(face, at, name, side)
    yield from _hair(face)
    yield from _glasses(face, at)


def _chain(*points: Point) -> tuple[Arc, ...]:
    """Join start, middle, end, middle, end... into arcs."""
    return tuple((points[i], points[i + 1], points[i + 2]) for i in range(0, len(points) - 2, 2))


def _line(start: Point, end: Point) -> tuple[Arc, ...]:
    return ((start, ((start[0] + end[0]) / 2, (start[1] + end[1]) / 2), end),)


def _oval(x: float, y: float, across: float, tall: float) -> tuple[Arc, ...]:
    """Four arcs about a centre; a parabola through 45° is within 2 % of the circle."""
    a, b = 0.7071 * across, 0.7071 * tall
    return _chain(
        (x + across, y), (x + a, y + b), (x, y + tall), (x - a, y + b), (x - across, y),
        (x - a, y - b), (x, y - tall), (x + a, y - b), (x + across, y),
    )  # fmt: skip


def _mirrored(*right: Point) -> tuple[Arc, ...]:
    """Close a chain that runs down the right half, from middle to middle, by its mirror image."""
    left = [(-x, y) for x, y in reversed(right)]
    return _chain(*right, *left[1:])


def _behind(face: Face, at: dict[str, Point]) -> Iterator[Mark]:
    head = face.head
    width, chin = head.width, at["chin"][1]
    if head.hair == "long":
        back = _mirrored(
            (0.0, -1.27), (width * 0.95, -1.0), (width * 1.18, -0.1), (width * 1.25, 0.7), (0.75, 1.5),
            (0.4, 1.5), (0.0, 1.5),
        )  # fmt: skip
        yield Mark(back, head.hair_tone * 0.75, lift=None)
    shirt = _mirrored((0.0, 1.15), (0.6, 1.22), (1.25, 1.5), (1.6, 2.2), (1.7, 2.8), (0.8, 2.8), (0.0, 2.8))
    neck = _mirrored((0.0, 0.6), (0.42, 0.7), (0.44, 1.1), (0.40, 1.3), (0.0, 1.42))
    yield Mark(shirt, face.light.shirt, lift=None)
    yield Mark(neck, head.skin * 0.62, lift=None)
    for side in (-1, 1):
        yield Mark(_oval(side * width * 1.02, 0.0, 0.10, 0.20), head.skin * 0.8, lift=None)
    jaw = width * head.jaw
    outline = _mirrored(
        (0.0, -1.16), (width * 0.78, -0.92), (width, -0.2), (width * 0.97, 0.3),
        (jaw, 0.68 * chin), (jaw * 0.62, 0.93 * chin), (0.0, chin),
    )  # fmt: skip
    yield Mark(outline, head.skin, lift=None)
    if head.beard:
        shade = 1 - 0.6 * head.beard
        beard = _mirrored(
            (0.0, at["lip_bottom"][1] + 0.05), (0.52 * width, 0.66), (width * 0.93, 0.22),
            (width * 0.95, 0.4), (jaw, 0.68 * chin), (jaw * 0.62, 0.93 * chin), (0.0, chin),
        )  # fmt: skip
        yield Mark(beard, head.skin * shade, lift=None)
        lip = at["lip_top"][1]
        yield Mark(
            _chain(
                (-0.26, lip + 0.05), (0.0, lip - 0.10), (0.26, lip + 0.05), (0.0, lip), (-0.26, lip + 0.05)
            ),
            head.skin * shade,
        )


def _creases(face: Face, at: dict[str, Point]) -> Iterator[Mark]:
    """The folds in the middle: forehead, between the brows, below the lip."""
    act, age = face.actions, face.head.age
    brow = (at["left_brow_inner"][1] + at["right_brow_inner"][1]) / 2
    across = 0.24 + 0.26 * act.au2
    raised = 0.12 * age + 0.30 * act.au1 + 0.15 * act.au2
    for step in (1, 2, 3):
        y = brow - 0.10 - 0.09 * step
        yield Mark(
            _chain((-across, y + 0.02), (0.0, y - 0.01), (across, y + 0.02)), 1 - raised, 0.035, fold=True
        )
    for x in (-0.05, 0.05):
        frown = _line((x, brow - 0.08), (x * 1.3, brow + 0.10))
        yield Mark(frown, 1 - 0.1 * age - 0.5 * act.au4, 0.04, fold=True)
    lip = at["lip_bottom"][1]
    below = _chain((-0.17, lip + 0.10), (0.0, lip + 0.055), (0.17, lip + 0.10))
    yield Mark(below, 0.86 - 0.35 * act.au17, 0.06, fold=True)
    yield Mark(_oval(0.0, lip + 0.20, 0.12, 0.07), 1.08 + 0.12 * act.au17, fold=True)
    for x in (-0.07, 0.0, 0.07):
        yield Mark(_oval(x, lip + 0.19 + 0.4 * abs(x), 0.02, 0.02), 1 - 0.4 * act.au17, fold=True)


def _side_creases(face: Face, at: dict[str, Point], name: str, side: int) -> Iterator[Mark]:
    """The folds of one half: socket, cheek, beside nose and mouth."""
    act, age = face.actions, face.head.age
    (inner_x, _), (outer_x, outer_y) = at[f"{name}_eye_inner"], at[f"{name}_eye_outer"]
    low_x, low_y = at[f"{name}_lid_lower"]
    nose_x, nose_y = at[f"{name}_nostril"]
    mouth_x, mouth_y = at[f"{name}_mouth"]
    bag = _chain((inner_x, low_y + 0.05), (low_x, low_y + 0.11), (outer_x + side * 0.04, low_y + 0.02))
    yield Mark(bag, 0.93 - 0.15 * age - 0.22 * act.au6 - 0.22 * act.au7, 0.05, fold=True)
    cheek = _oval(low_x + side * 0.05, 0.22 - 0.07 * act.au6, 0.18, 0.12)
    yield Mark(cheek, 1.05 + 0.14 * act.au6 + 0.06 * act.au12, fold=True)
    for step in (-1, 0, 1):
        foot = _line(
            (outer_x + side * 0.05, outer_y + 0.02 + 0.02 * step),
            (outer_x + side * 0.17, outer_y + 0.02 + 0.08 * step),
        )
        yield Mark(foot, 1 - 0.1 * age - 0.35 * act.au6, 0.025, fold=True)
    pulled = max(act.au12, act.au10, 0.8 * act.au9)
    start = (nose_x + side * 0.03, nose_y - 0.07)
    end = (mouth_x + side * (0.05 + 0.05 * act.au12), mouth_y - 0.02 + 0.06 * act.au10)
    bow = ((start[0] + end[0]) / 2 + side * (0.05 + 0.05 * pulled), (start[1] + end[1]) / 2 - 0.03)
    yield Mark(_chain(start, bow, end), 0.93 - 0.2 * age - 0.35 * pulled, 0.045, fold=True)
    sagging = _line((mouth_x + side * 0.02, mouth_y + 0.02), (mouth_x + side * 0.07, mouth_y + 0.17))
    yield Mark(sagging, 1 - 0.12 * age - 0.42 * act.au15, 0.045, fold=True)
    stretched = _chain(
        (mouth_x + side * 0.05, mouth_y - 0.12),
        (mouth_x + side * 0.09, mouth_y),
        (mouth_x + side * 0.05, mouth_y + 0.12),
    )
    yield Mark(stretched, 1 - 0.35 * act.au20, 0.035, fold=True)


def _nose(face: Face, at: dict[str, Point]) -> Iterator[Mark]:
    act, skin = face.actions, face.head.skin
    tip = at["nose_tip"][1]
    across = face.light.toward[0]
    for name, side in (("left", -1), ("right", 1)):
        wing_x, wing_y = at[f"{name}_nostril"]
        flank = _chain(
            (side * 0.02, -0.2), (side * 0.02, 0.0), (side * 0.03, tip), (wing_x * 0.8, tip + 0.02),
            (wing_x, wing_y), (side * 0.10, 0.05), (side * 0.09, -0.2),
        )  # fmt: skip
        yield Mark(flank, 0.86 + 0.34 * side * across, lift=0.03, fold=True)
        wing = _chain(
            (wing_x * 0.85, wing_y - 0.10), (wing_x * 1.08, wing_y - 0.02), (wing_x * 0.8, wing_y + 0.05)
        )
        yield Mark(wing, 0.65 - 0.2 * act.au9, 0.035, lift=0.06, fold=True)
        yield Mark(_oval(wing_x * 0.48, tip + 0.045, 0.045, 0.022), skin * 0.35, lift=0.10)
        for step in (0, 1, 2):
            y = -0.10 + 0.08 * step
            wrinkle = _line((side * 0.02, y + 0.03), (side * (0.11 + 0.02 * step), y - 0.02))
            yield Mark(wrinkle, 1 - 0.55 * act.au9, 0.03, lift=0.06, fold=True)
    yield Mark(_line((0.0, -0.1), (0.0, tip - 0.08)), 1.18, 0.06, lift=0.12, fold=True)
    under = _chain(
        (at["left_nostril"][0], tip + 0.04), (0.0, tip + 0.10), (at["right_nostril"][0], tip + 0.04)
    )
    yield Mark(under, 0.7 + 0.15 * face.light.toward[1], 0.06, lift=0.05, fold=True)


def _lip(start: Point, middle: Point, end: Point, roundness: float) -> tuple[Arc, ...]:
    """Two arcs from corner to corner: a parabola at roundness 0, near an ellipse at 1."""
    share = 0.64 + 0.16 * roundness
    first = (middle[0] + 0.6 * (start[0] - middle[0]), start[1] + share * (middle[1] - start[1]))
    last = (middle[0] + 0.6 * (end[0] - middle[0]), end[1] + share * (middle[1] - end[1]))
    return ((start, first, middle), (middle, last, end))


def _mouth(face: Face, at: dict[str, Point]) -> Iterator[Mark]:
    act, head = face.actions, face.head
    left, right = at["left_mouth"], at["right_mouth"]
    upper, lower = at["lip_upper"], at["lip_lower"]
    tone = head.skin * head.lip_tone
    roundness = act.au26
    back = _lip(right, lower, left, roundness)
    yield Mark(
        (*_lip(left, at["lip_top"], right, roundness), *_lip(right, upper, left, roundness)), tone * 0.9
    )
    yield Mark((*_lip(left, lower, right, roundness), *_lip(right, at["lip_bottom"], left, roundness)), tone)
    gap = lower[1] - upper[1]
    if gap > 0.02:
        yield Mark((*_lip(left, upper, right, roundness), *back), 22.0)
        shown = min(gap, 0.035 + 0.09 * max(act.au12, act.au20, act.au10) + 0.02 * act.au25)
        inset_left = (left[0] * 0.82, left[1] + 0.3 * (upper[1] - left[1]))
        inset_right = (right[0] * 0.82, right[1] + 0.3 * (upper[1] - right[1]))
        edge = (0.0, upper[1] + shown)
        teeth = (*_lip(inset_left, upper, inset_right, roundness), *_lip(inset_right, edge, inset_left, 0.5))
        yield Mark(teeth, 225.0)
    else:
        yield Mark(_lip(left, upper, right, roundness), head.skin * 0.3, 0.028)
    for x, y in (left, right):
        yield Mark(_oval(x, y, 0.035, 0.035), 0.72, fold=True)
    yield Mark(
        _chain((left[0] * 0.5, lower[1] + 0.03), (0.0, lower[1] + 0.05), (right[0] * 0.5, lower[1] + 0.03)),
        1.12,
        0.03,
        fold=True,
    )


def _eye(face: Face, at: dict[str, Point], name: str) -> Iterator[Mark]:
    head, act = face.head, face.actions
    inner, outer = at[f"{name}_eye_inner"], at[f"{name}_eye_outer"]
    upper, lower = at[f"{name}_lid_upper"], at[f"{name}_lid_lower"]
    x, y = upper[0] + head.gaze[0] * head.eye_width, (inner[1] + outer[1]) / 2 + head.gaze[1] * head.eye_width
    lid = head.skin * 0.93
    socket = 0.84 + 0.12 * face.light.toward[1]
    yield Mark(_oval(upper[0], upper[1] - 0.05, 0.24, 0.10), socket, fold=True)
    yield Mark(_chain(inner, upper, outer, lower, inner), 150.0 + 0.35 * head.skin)
    iris = 0.5 * head.eye_width
    yield Mark(_oval(x, y, iris, iris), 70.0)
    yield Mark(_oval(x, y, 0.5 * iris, 0.5 * iris), 8.0)
    above, below = min(upper[1] - 0.03, y - iris - 0.02), max(lower[1] + 0.02, y + iris + 0.02)
    yield Mark(_chain(inner, upper, outer, (upper[0], above), inner), lid)
    yield Mark(_chain(inner, lower, outer, (upper[0], below), inner), lid)
    yield Mark(_oval(x + 0.03, y - 0.03, 0.018, 0.018), 250.0)
    yield Mark(_chain(inner, upper, outer), min(45.0, head.skin * 0.35), 0.035)
    yield Mark(_chain(inner, lower, outer), head.skin * 0.6, 0.018)
    crease = (upper[0], upper[1] - 0.055 + 0.02 * act.au5)
    yield Mark(_chain(inner, crease, outer), 0.75, 0.03, fold=True)


def _brow(face: Face, at: dict[str, Point], name: str) -> Iterator[Mark]:
    head = face.head
    inner, middle, outer = (at[f"{name}_brow_{part}"] for part in ("inner", "middle", "outer"))
    half = head.brow_thick / 2
    chain = _chain(
        (inner[0], inner[1] - half), (middle[0], middle[1] - half), outer,
        (middle[0], middle[1] + half * 0.8), (inner[0], inner[1] + half), inner, (inner[0], inner[1] - half),
    )  # fmt: skip
    yield Mark(chain, min(head.hair_tone * 0.8, head.skin * 0.55), lift=0.03)


def _hair(face: Face) -> Iterator[Mark]:
    head = face.head
    if head.hair == "none":
        return
    width, line = head.width, {"short": -0.84, "fringe": -0.64, "long": -0.86}[head.hair]
    side = {"short": -0.30, "fringe": -0.15, "long": 0.45}[head.hair]
    inside = width * (0.84 if head.hair == "long" else 0.95)
    cap = _mirrored(
        (0.0, -1.30), (width * 0.92, -1.02), (width * 1.06, -0.25), (width * 1.06, side / 2),
        (width * 1.02, side), (inside, (side + line) / 2), (width * 0.70, line + 0.14),
        (width * 0.36, line), (0.0, line - 0.02),
    )  # fmt: skip
    yield Mark(cap, head.hair_tone, lift=None)
    # Folds of the forehead do not show through hair.
    yield Mark(cap, 1.0, lift=None, fold=True)
    yield Mark(
        _chain((-0.5 * width, -0.95), (0.0, -1.12), (0.5 * width, -0.95)), 1.2, 0.10, lift=None, fold=True
    )


def _glasses(face: Face, at: dict[str, Point]) -> Iterator[Mark]:
    thick = face.head.glasses
    if not thick:
        return
    tone = 25.0 if face.head.age < 0.5 else 120.0
    radius = 0.82 * face.head.eye_apart
    for name in ("left", "right"):
        x = at[f"{name}_lid_upper"][0]
        yield Mark(_oval(x, -0.08, radius, radius * 0.8), tone, thick, lift=0.12)
    yield Mark(_chain((-0.12, -0.12), (0.0, -0.16), (0.12, -0.12)), tone, thick, lift=0.14)
