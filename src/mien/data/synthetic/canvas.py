"""Pixels: paint a face's marks large, shrink them, and light, blur and grain the result."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter

from mien.data.synthetic.faces import Face, Light
from mien.data.synthetic.strokes import marks
from mien.errors import DataError

#: Painted pixels a side for each pixel of the image.
FINER = 4

_STEPS = np.linspace(0.0, 1.0, 5)
#: Lagrange's weights of an arc's start, middle and end at each step along it.
_WEIGHTS = np.stack(
    [2 * (_STEPS - 0.5) * (_STEPS - 1), 4 * _STEPS * (1 - _STEPS), 2 * _STEPS * (_STEPS - 0.5)], axis=1
)
#: Half height and depth of the ellipsoid on whose surface the face lies; its half width is the head's.
_TALL, _DEEP = 1.2, 0.75
#: What stands for a factor of 1 in the shade that folds are painted into.
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
        raise DataError(f"a drawn face has a side of at least 1 pixel, not {size}; choose one such as 48")


def _expose(lit: NDArray[np.float32], light: Light) -> NDArray[np.uint8]:
    """Set brightness and contrast as a camera does, whatever the light and the skin."""
    contrast = light.contrast / max(float(lit.std()), 1e-3)
    levels = light.brightness + contrast * (lit - float(lit.mean()))
    exposed: NDArray[np.uint8] = np.clip(levels, 0, 255).astype(np.uint8)
    return exposed


def _background(light: Light, side: int) -> Image.Image:
    row = np.linspace(*light.background, side).astype(np.uint8)
    return Image.fromarray(row[np.newaxis]).resize((side, side), Image.Resampling.NEAREST)


def _draw(face: Face, tones: ImageDraw.ImageDraw, shades: ImageDraw.ImageDraw, side: int) -> None:
    # A fold within 2 % of even light cannot be seen; one that is exactly even is there to cover others.
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
