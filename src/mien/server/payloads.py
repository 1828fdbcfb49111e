"""Read the images and options of a request, within limits and without decoding an image.

A body is multipart with fields `image`, JSON with base64 in `images`, or one image as it is. Whatever is
wrong is a `RequestError` with a status from 400 to 499 and one sentence.
"""

import base64
import binascii
import functools
import io
import json
import logging
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any
from urllib.parse import parse_qsl

from PIL import Image
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from mien._text import quote
from mien.errors import ImageError, InputError
from mien.server.settings import Limits
from mien.vision import images
from mien.vision.detectors import MAX_ENLARGEMENT

# It warns about each damaged form, so that clients could fill the log of a server. A program that handles the
# root logger still gets the warnings.
logging.getLogger("python_multipart").addHandler(logging.NullHandler())

#: Content types of a body that is one image.
IMAGE_TYPES = ("image/", "application/octet-stream")
OPTIONS = ("head", "balance", "min_face", "whole_image")
#: Text fields of a request, bytes of one, and characters of a file's name, at most.
_FIELDS, _FIELD_BYTES, _FILE_NAME = 32, 4096, 255
_TRUE, _FALSE = ("1", "true", "yes", "on", ""), ("0", "false", "no", "off")
#: Pixels of a side of an image at most, as in JPEG: far narrower images take a detector much longer.
_SIDE = 65_535
#: Width in pixels to which the smallest face is scaled, at most, by the detectors.
_DETECTED = 24
#: Scans of a JPEG file that are decoded at the largest number of pixels; smaller images may have more.
_SCANS = 30


class RequestError(InputError):
    """A request cannot be answered.

    Args:
        status: The status of the response.
        message: What is wrong, and what to do.
        headers: Headers of the response.
    """

    def __init__(self, status: int, message: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.status, self.headers = status, dict(headers or {})


@dataclass(frozen=True)
class Upload:
    """An image as it was sent.

    Args:
        name: The name of the file, or `image`.
        content: Its bytes.
    """

    name: str
    content: bytes


@dataclass(frozen=True, kw_only=True)
class Options:
    """Options of a request, as `mien.Predictor` takes them; None means its default."""

    head: str | None = None
    balance: float | None = None
    min_face: int | None = None
    whole_image: bool = False


def read(
    content_type: str, query: bytes, body: bytes, limits: Limits, *others: str
) -> tuple[list[Upload], Options, dict[str, str]]:
    """Return the images of a request, its options, and its other fields.

    Args:
        content_type: The header Content-Type; may be empty.
        query: The query string.
        body: The whole body.
        limits: How many images there may be.
        others: Names of fields that are allowed beside the options.

    Raises:
        RequestError: The content type is not supported; the body is damaged, has no image or too many; or a
            field is unknown.
    """
    fields = dict(query_fields(query))
    kind = content_type.partition(";")[0].strip().lower()
    uploads: list[Upload]
    if kind == "multipart/form-data":
        uploads, more = _multipart(content_type, body, limits)
        fields |= more
    elif kind == "application/json":
        uploads, more = _json(body, limits)
        fields |= more
    elif kind.startswith(IMAGE_TYPES):
        uploads = [Upload("image", body)] if body else []
    else:
        what = f"the content type {quote(kind)} is not supported" if kind else "the content type is missing"
        raise RequestError(
            415,
            f"{what}; send multipart/form-data with fields named image, an image with its content type, or "
            "application/json",
        )
    if not uploads:
        raise RequestError(400, "the request has no image; send it as the field image, or as the body")
    return uploads, options(fields, *others), {name: fields[name] for name in others if name in fields}


def options(fields: Mapping[str, str], *others: str) -> Options:
    """Return the options among text fields.

    Args:
        fields: Text by the name of the field.
        others: Names of fields that are allowed beside the options.

    Raises:
        RequestError: A value cannot be read, or a field is unknown. `mien.Predictor` checks ranges.
    """
    for name in fields:
        if name not in OPTIONS and name not in others:
            known = ", ".join((*OPTIONS, *others))
            raise RequestError(400, f"the field {quote(name)} is unknown; the fields are image, {known}")
    min_face = _number("min_face", fields.get("min_face"), int)
    if min_face is not None and min_face < 1:
        raise RequestError(400, f"min_face is {min_face}; it must be at least 1 pixel")
    return Options(
        head=fields.get("head"),
        balance=_number("balance", fields.get("balance"), float),
        min_face=min_face,
        whole_image=_truth("whole_image", fields.get("whole_image")),
    )


def decompress(body: bytes, encoding: str, limit: int) -> bytes:
    """Return a body without its content encoding.

    Args:
        body: The bytes as sent.
        encoding: The header Content-Encoding; may be empty.
        limit: Most bytes of the result.

    Raises:
        RequestError: The encoding is not supported, the body is damaged, or the result is too large.
    """
    encoding = encoding.strip().lower()
    if encoding in ("", "identity"):
        return body
    if encoding not in ("gzip", "x-gzip", "deflate"):
        raise RequestError(
            415, f"the content encoding {quote(encoding)} is not supported; send gzip, deflate or no encoding"
        )
    window = 31 if encoding.endswith("gzip") else 15
    if encoding == "deflate" and body[:1] and (body[0] & 15 != 8 or int.from_bytes(body[:2]) % 31):
        window = -15  # some clients send raw deflate
    unpacker = zlib.decompressobj(window)
    try:
        found = unpacker.decompress(body, limit + 1)
    except zlib.error:
        raise RequestError(400, f"the body is not valid {encoding}; send it again") from None
    if len(found) > limit:
        raise RequestError(413, f"the body has more than {limit:,} bytes when decompressed; send less")
    if unpacker.unused_data:
        raise RequestError(400, f"bytes follow the end of the {encoding} data; send it as one piece")
    if not unpacker.eof:
        raise RequestError(400, f"the body ends before its {encoding} data; send it again")
    return found


def parse_json(body: bytes, *, values: int) -> Any:
    """Return the document of a JSON body.

    Args:
        body: The bytes.
        values: Most values that it may hold, so that the document needs little more memory than the body.

    Raises:
        RequestError: It is not JSON, or holds more values.
    """
    if body.count(b",") + body.count(b"[") + body.count(b"{") > values:
        raise RequestError(413, f"the JSON body has more than {values:,} values; send less")
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise RequestError(400, "the body is not valid JSON; check it") from None


def check_image(content: bytes, limits: Limits, min_face: int | None = None) -> int:
    """Check an image by its header, before it is decoded, and return its pixels.

    A damaged or unknown image passes, with 0 pixels; decoding reports it.

    Args:
        content: The bytes of the file.
        limits: The limits of a request.
        min_face: Width of the smallest face in pixels, if the request states it: the detector enlarges images
            to find small faces.

    Raises:
        ImageError: It has too many pixels, frames or scans, or is too long.
    """
    try:
        with Image.open(io.BytesIO(content), formats=images.FORMATS) as image:
            width, height, kind = image.width, image.height, image.format
            # For GIF and TIFF all frames would have to be visited, and only the first is ever read.
            frames = getattr(image, "n_frames", 1) if kind in ("WEBP", "AVIF", "PNG") else 1
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(f"the image has more than {limits.pixels:,} pixels; shrink it first") from None
    except Exception:  # Pillow raises many kinds of errors; `images.picture` reports each in a sentence
        return 0
    if width * height > limits.pixels:
        raise ImageError(
            f"the image is {width} × {height} pixels; this server takes {limits.pixels:,} pixels, so "
            "shrink it first"
        )
    if max(width, height) > _SIDE:
        raise ImageError(
            f"the image is {width} × {height} pixels; this server takes sides of {_SIDE:,} pixels, so crop it"
        )
    enlarged = min(MAX_ENLARGEMENT, _DETECTED / min_face) if min_face else 0.0
    if width * height * enlarged**2 > limits.pixels:
        raise ImageError(
            f"faces of {min_face} pixels in an image of {width} × {height} pixels take too long to find; "
            "shrink the image, or raise min_face"
        )
    if frames > limits.frames:
        raise ImageError(f"the image has {frames:,} frames; this server takes {limits.frames:,}")
    if kind == "JPEG" and content.count(b"\xff\xda") * width * height > _SCANS * limits.pixels:
        raise ImageError("the JPEG has too many scans; save it again")
    return width * height


@functools.lru_cache(64)
def query_fields(query: bytes) -> Mapping[str, str]:
    """Return the fields of a query string.

    Raises:
        RequestError: It cannot be read.
    """
    try:
        pairs = parse_qsl(
            query.decode("ascii"), keep_blank_values=True, max_num_fields=_FIELDS, errors="strict"
        )
    except ValueError:
        raise RequestError(400, "the query string cannot be read; check it") from None
    return MappingProxyType(dict(pairs))


def _number(name: str, value: str | None, kind: type[int] | type[float]) -> Any:
    if value is None or value == "":
        return None
    try:
        if len(value) > 30 or not value.isascii():
            raise ValueError
        return kind(value)
    except ValueError:
        wanted = "a whole number" if kind is int else "a number"
        raise RequestError(400, f"{name} is {quote(value)}; it must be {wanted}") from None


def _truth(name: str, value: str | None) -> bool:
    if value is None or value.lower() in _FALSE:
        return False
    if value.lower() in _TRUE:
        return True
    raise RequestError(400, f"{name} is {quote(value)}; it must be true or false")


def _json(body: bytes, limits: Limits) -> tuple[list[Upload], dict[str, str]]:
    document = parse_json(body, values=limits.images + 2 * _FIELDS)
    if not isinstance(document, dict) or not isinstance(document.get("images"), list):
        raise RequestError(400, 'the JSON body must be like {"images": ["…base64…"], "balance": 0.5}')
    _check_count(len(document["images"]), limits)
    uploads = []
    for number, text in enumerate(document["images"]):
        if not isinstance(text, str):
            raise RequestError(400, f"image {number} is not a string of base64")
        try:
            content = base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise RequestError(400, f"image {number} is not valid base64; encode it again") from None
        uploads.append(Upload(f"image {number}", content))
    fields = {name: value for name, value in document.items() if name != "images"}
    return uploads, {name: _text(name, value) for name, value in fields.items() if value is not None}


def _text(name: str, value: object) -> str:
    """Return a value of a JSON document as the text that a form has for it."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float | str):
        return str(value)
    raise RequestError(400, f"the field {quote(name)} must be a number, a string, true or false")


def _check_count(count: int, limits: Limits) -> None:
    if count > limits.images:
        raise RequestError(
            413, f"the request has more than {limits.images} images; send them in several requests"
        )


class _Form:
    """The parts of a multipart body, as the parser reports them."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._field, self._value = bytearray(), bytearray()
        self._name, self._file, self._content, self._parts = "", "", bytearray(), 0
        self.uploads: list[Upload] = []
        self.fields: dict[str, str] = {}
        self.complete = False

    def callbacks(self) -> dict[str, Callable[..., None]]:
        """Return what the parser calls."""
        return {
            "on_part_begin": self._begin,
            "on_header_field": lambda data, start, end: self._field.extend(data[start:end]),
            "on_header_value": lambda data, start, end: self._value.extend(data[start:end]),
            "on_header_end": self._end_header,
            "on_part_data": lambda data, start, end: self._content.extend(data[start:end]),
            "on_part_end": self._end,
            "on_end": self._finish,
        }

    def _begin(self) -> None:
        self._parts += 1
        if self._parts > self._limits.images + 2 * _FIELDS:
            raise RequestError(
                413,
                f"the form has more parts than {self._limits.images} images and their options; send several "
                "requests",
            )
        self._name, self._file, self._content = "", "", bytearray()

    def _end_header(self) -> None:
        if self._field.lower() == b"content-disposition":
            _, found = parse_options_header(bytes(self._value))
            name, file = (found.get(each, b"") for each in (b"name", b"filename"))
            self._name, self._file = name.decode(errors="replace"), file.decode(errors="replace")[:_FILE_NAME]
        self._field, self._value = bytearray(), bytearray()

    def _end(self) -> None:
        if not self._name:
            raise RequestError(400, "a part of the multipart body has no name; name images image")
        if self._name == "image":
            _check_count(len(self.uploads) + 1, self._limits)
            self.uploads.append(Upload(self._file or "image", bytes(self._content)))
        elif len(self._content) > _FIELD_BYTES or len(self.fields) >= _FIELDS:
            raise RequestError(
                400,
                f"the field {quote(self._name)} is too long, or there are too many fields; images are in "
                "fields named image",
            )
        else:
            self.fields[self._name] = self._content.decode(errors="replace")

    def _finish(self) -> None:
        self.complete = True


def _multipart(content_type: str, body: bytes, limits: Limits) -> tuple[list[Upload], dict[str, str]]:
    """Read a multipart body.

    Source: RFC 7578.
    """
    boundary = parse_options_header(content_type)[1].get(b"boundary", b"")
    if not boundary:
        raise RequestError(400, "the content type has no boundary; send multipart/form-data as RFC 7578 says")
    form = _Form(limits)
    try:
        parser = MultipartParser(boundary, form.callbacks())  # type: ignore[arg-type]
        parser.write(body)
        parser.finalize()
    except FormParserError:
        form.complete = False
    if not form.complete:
        raise RequestError(400, "the multipart body is damaged or cut off; send it again")
    return form.uploads, form.fields
