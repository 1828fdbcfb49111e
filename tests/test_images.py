"""The one door for pixels: every source, mode and format has its one answer."""

import io
import os
import random
import struct
import tempfile
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageOps

from builders import encoded, refused
from mien.errors import ImageError
from mien.vision import images

LOSSLESS = {"PNG": {}, "BMP": {}, "TIFF": {}, "WEBP": {"lossless": True, "exact": True}}


def colours(height: int = 31, width: int = 47) -> np.ndarray:
    return np.random.default_rng(7).integers(0, 256, (height, width, 3), dtype=np.uint8)


def png(width: int, height: int, *, depth: int = 8, colour: int = 0, rows: bytes = b"") -> bytes:
    """A PNG by its header, whatever its data say."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def test_every_kind_of_source_gives_the_same_bits(tmp_path):
    pixels = colours()
    data = encoded(pixels)
    path = tmp_path / "face.png"
    path.write_bytes(data)
    with path.open("rb") as file, Image.open(path) as opened:
        sources = [str(path), path, data, bytearray(data), memoryview(data), io.BytesIO(data), file, opened]
        sources += [pixels, Image.fromarray(pixels)]
        for source in sources:
            result = images.read(source)
            assert result.dtype == np.uint8
            assert result.flags.c_contiguous
            np.testing.assert_array_equal(result, pixels)


def test_result_is_the_callers_own():
    pixels = colours()
    read = images.read(pixels)
    read[:] = 0
    assert pixels.any()


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_formats_keep_colour_to_the_bit(kind):
    pixels = colours()
    np.testing.assert_array_equal(images.read(encoded(pixels, kind, **LOSSLESS[kind])), pixels)


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "GIF"])
def test_lossless_formats_keep_grey_to_the_bit(kind):
    pixels = colours()[:, :, 0]
    read = images.read(encoded(pixels, kind))
    np.testing.assert_array_equal(images.grey(read), pixels)


def test_jpeg_is_pillows_decoding_and_close_to_the_original():
    smooth = np.asarray(Image.fromarray(colours(4, 4)).resize((64, 64), Image.Resampling.BICUBIC))
    data = encoded(smooth, "JPEG", quality=95, subsampling=0)
    read = images.read(data)
    with Image.open(io.BytesIO(data)) as image:
        np.testing.assert_array_equal(read, np.asarray(image))
    assert np.abs(read.astype(int) - smooth).mean() < 3


ORDERS = [
    (1, lambda a: a),
    (2, lambda a: a[:, ::-1]),
    (3, lambda a: a[::-1, ::-1]),
    (4, lambda a: a[::-1]),
    (5, lambda a: a.swapaxes(0, 1)),
    (6, lambda a: np.rot90(a, 1)),
    (7, lambda a: a[::-1, ::-1].swapaxes(0, 1)),
    (8, lambda a: np.rot90(a, -1)),
]


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize(("tag", "stored"), ORDERS)
def test_the_eight_orientations_come_out_upright(kind, tag, stored):
    """`stored` is how a camera lays the upright picture down under each tag (CIPA DC-008, tag 274)."""
    upright = colours()
    exif = Image.Exif()
    exif[274] = tag
    turned = Image.fromarray(np.ascontiguousarray(stored(upright)))
    data = encoded(turned, kind, exif=exif, **LOSSLESS[kind])
    np.testing.assert_array_equal(images.read(data), upright)


@pytest.mark.parametrize("tag", range(1, 9))
def test_jpegs_orientation_agrees_with_pillow(tag):
    exif = Image.Exif()
    exif[274] = tag
    data = encoded(Image.fromarray(colours()), "JPEG", exif=exif)
    with Image.open(io.BytesIO(data)) as image:
        expected = np.asarray(ImageOps.exif_transpose(image))
        np.testing.assert_array_equal(images.read(image), expected)
    np.testing.assert_array_equal(images.read(data), expected)


@pytest.mark.parametrize(
    "exif", [b"Exif\0\0MM\0*\xff\xff\xff\xff", b"Exif\0\0II*\0\x08\0\0\0\x05\0", b"Exif\0\0junk"]
)
def test_broken_exif_counts_as_upright(exif):
    pixels = colours()
    np.testing.assert_array_equal(images.read(encoded(pixels, exif=exif)), pixels)


def test_modes_of_one_channel():
    grey = colours()[:, :, 0]
    bits = grey > 127
    np.testing.assert_array_equal(images.read(encoded(bits)), bits * np.uint8(255))
    np.testing.assert_array_equal(images.read(bits), bits * np.uint8(255))
    np.testing.assert_array_equal(images.read(grey), grey)
    np.testing.assert_array_equal(images.read(grey[:, :, np.newaxis]), grey)


@pytest.mark.parametrize("mode", ["P", "CMYK", "YCbCr", "HSV", "LAB", "RGBX"])
def test_other_colour_modes_are_pillows_rgb(mode):
    image = Image.fromarray(colours()).convert(mode)
    np.testing.assert_array_equal(images.read(image), np.asarray(image.convert("RGB")))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bits_equal_their_eight_bit_twin(kind):
    grey = colours()[:, :, 0]
    deep = grey.astype(np.uint16) * 257
    np.testing.assert_array_equal(images.read(encoded(deep, kind)), grey)
    np.testing.assert_array_equal(images.read(deep), grey)
    np.testing.assert_array_equal(images.read(Image.fromarray(deep)), grey)


def test_sixteen_bit_colour_equals_its_eight_bit_twin():
    pixels = colours(3, 5)
    deep = (pixels.astype(">u2") * 257).astype(">u2")
    data = png(5, 3, depth=16, colour=2, rows=b"".join(b"\0" + row.tobytes() for row in deep))
    np.testing.assert_array_equal(images.read(data), pixels)
    np.testing.assert_array_equal(images.read(deep), pixels)


def test_big_endian_sixteen_bits():
    grey = colours()[:, :, 0]
    image = Image.frombytes("I;16B", (47, 31), (grey.astype(">u2") * 257).astype(">u2").tobytes())
    np.testing.assert_array_equal(images.read(image), grey)


@pytest.mark.parametrize(
    ("dtype", "factor"),
    [
        (np.int32, 1),
        (np.int32, 257),
        (np.int64, 257),
        (np.uint32, 1),
        (np.int16, 1),
        (np.float32, 1),
        (np.float32, 1 / 255),
        (np.float32, 257),
        (np.float64, 1 / 255),
    ],
)
def test_undeclared_ranges_are_told_by_the_pixels(dtype, factor):
    grey = colours()[:, :, 0]
    values = (grey.astype(np.float64) * factor).astype(dtype)
    np.testing.assert_array_equal(images.read(values), grey)
    if dtype in (np.int32, np.float32):
        np.testing.assert_array_equal(images.read(encoded(values, "TIFF")), grey)


@pytest.mark.parametrize("value", [-1.0, 65536.0, np.nan, np.inf])
def test_values_out_of_every_range_are_refused(value):
    with refused(ImageError):
        images.read(np.array([[0.0, value]], np.float32))
    with refused(ImageError):
        images.read(encoded(Image.fromarray(np.array([[0.0, value]], np.float32)), "TIFF"))


def test_transparency_is_laid_on_white():
    pixels = np.zeros((1, 3, 4), np.uint8)
    pixels[0, :, 0] = 200
    pixels[0, :, 3] = [0, 128, 255]
    read = images.read(encoded(pixels))
    np.testing.assert_array_equal(read[0, 0], [255, 255, 255])
    np.testing.assert_array_equal(read[0, 2], [200, 0, 0])
    # 255 - (255 - value) * 128 / 255
    np.testing.assert_allclose(read[0, 1], [227.4, 127, 127], atol=1)
    np.testing.assert_array_equal(images.read(pixels), read)


def test_grey_with_alpha_stays_grey():
    pixels = np.array([[[10, 0], [10, 255]]], np.uint8)
    for source in (pixels, encoded(pixels), Image.fromarray(pixels)):
        np.testing.assert_array_equal(images.read(source), [[255, 10]])


@pytest.mark.parametrize(
    ("image", "transparency", "expected"),
    [
        (Image.fromarray(np.array([[5, 9]], np.uint8)), 5, [[255, 9]]),
        (Image.fromarray(np.array([[0, 255]], np.uint8)).convert("1"), 0, [[255, 255]]),
        (Image.fromarray(np.array([[[1, 2, 3], [4, 5, 6]]], np.uint8)), (1, 2, 3), [[[255] * 3, [4, 5, 6]]]),
    ],
)
def test_a_transparent_colour_is_laid_on_white(image, transparency, expected):
    np.testing.assert_array_equal(images.read(encoded(image, transparency=transparency)), expected)


@pytest.mark.parametrize("mode", ["P", "PA"])
def test_transparent_palettes_are_laid_on_white(mode):
    image = Image.new("P", (2, 1))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.putpixel((1, 0), 1)
    if mode == "P":
        image = Image.open(io.BytesIO(encoded(image, transparency=0)))
    else:
        image = image.convert("PA")
        image.putalpha(Image.fromarray(np.array([[0, 255]], np.uint8)))
    np.testing.assert_array_equal(images.read(image), [[[255] * 3, [40, 50, 60]]])


def test_bgr_is_named_and_touches_arrays_alone():
    pixels = colours()
    np.testing.assert_array_equal(images.read(pixels[:, :, ::-1], channels="bgr"), pixels)
    with_alpha = np.dstack([pixels, np.full(pixels.shape[:2], 90, np.uint8)])
    np.testing.assert_array_equal(
        images.read(with_alpha[:, :, [2, 1, 0, 3]], channels="bgr"), images.read(with_alpha)
    )
    np.testing.assert_array_equal(images.read(encoded(pixels), channels="bgr"), pixels)
    with refused(ImageError, "'rgb'", "'bgr'"):
        images.read(pixels, channels="gbr")


@pytest.mark.parametrize("kind", ["GIF", "WEBP", "PNG", "TIFF"])
def test_the_first_frame_is_taken(kind):
    frames = [Image.new("RGB", (8, 8), (shade, shade, shade)) for shade in (30, 200)]
    options = LOSSLESS.get(kind, {})
    read = images.read(encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options))
    np.testing.assert_array_equal(images.grey(read), np.full((8, 8), 30))


@pytest.mark.parametrize(("width", "height"), [(8000, 8000), (13000, 13000), (20000, 20000), (40_000_001, 1)])
def test_too_many_pixels_are_refused_by_the_header(width, height):
    with refused(ImageError, "40,000,000"):
        images.read(png(width, height))


def test_the_cap_holds_for_arrays_and_pil_images():
    with refused(ImageError, "40,000,000"):
        images.read(np.broadcast_to(np.uint8(0), (6400, 6400)))
    with refused(ImageError, "40,000,000"):
        images.read(Image.new("1", (6400, 6400)))


def test_too_many_bytes_are_refused(monkeypatch, tmp_path):
    data = encoded(Image.fromarray(colours()))
    path = tmp_path / "large.png"
    path.write_bytes(data)
    monkeypatch.setattr(images, "MAX_BYTES", 1000)
    for source in (data, path, io.BytesIO(data)):
        with refused(ImageError):
            images.read(source)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "BMP", "GIF", "TIFF"])
def test_truncated_files_are_refused(kind):
    data = encoded(Image.fromarray(colours()), kind)
    for end in (len(data) // 2, len(data) * 3 // 4, 40, 12):
        with refused(ImageError):
            images.read(data[:end])


@pytest.mark.parametrize(
    "data", [b"this is not an image\n" * 20, b"\0" * 500, b"GIF89a", b"%PDF-1.7", b"P5 2 2 255 abcd"]
)
def test_what_is_no_image_is_refused(data, tmp_path):
    path = tmp_path / "face.jpg"
    path.write_bytes(data)
    with refused(ImageError, "face.jpg", "JPEG, PNG, WEBP, BMP, GIF, TIFF, AVIF and HEIC"):
        images.read(path)


@pytest.mark.parametrize(
    ("name", "remedy"),
    [("photos.zip", "mien extract"), ("photos.tar.gz", "mien extract"), ("a.mov", "mien video")],
)
def test_what_takes_another_command_names_it(name, remedy, tmp_path, monkeypatch):
    path = tmp_path / name
    path.write_bytes(b"this is not an image\n" * 20)
    for largest in (images.MAX_BYTES, 100):
        monkeypatch.setattr(images, "MAX_BYTES", largest)
        with refused(ImageError, name, remedy):
            images.read(path)


def test_a_folder_names_the_function_for_folders(tmp_path):
    with refused(ImageError, tmp_path.name, "folder", "mien.predict_files"):
        images.read(tmp_path)
    with refused(ImageError, "none.jpg", "does not exist"):
        images.read(tmp_path / "none.jpg")


def test_the_wrong_suffix_does_not_matter(tmp_path):
    path = tmp_path / "face.jpg"
    path.write_bytes(encoded(Image.fromarray(colours())))
    np.testing.assert_array_equal(images.read(path), colours())


def test_unusable_sources_are_named(tmp_path):
    closed = io.BytesIO(b"x")
    closed.close()
    cases = [
        (closed, "the image cannot be read: I/O operation on closed file"),
        (b"", ""),
        (io.BytesIO(), ""),
        (tmp_path / "absent.png", "absent.png"),
        (tmp_path, tmp_path.name),
        ("nul\0.png", "nul"),
        (io.StringIO("text"), ""),
        (17, "int"),
        ([[1, 2]], "list"),
        (np.zeros((2, 2, 5), np.uint8), "(2, 2, 5)"),
        (np.zeros((3, 4, 4, 1), np.uint8), "(3, 4, 4, 1)"),
        (np.zeros(4, np.uint8), "(4,)"),
        (np.zeros((0, 4), np.uint8), "4 × 0"),
        (np.array([["a"]]), ""),
        (np.zeros((2, 2), complex), ""),
    ]
    for source, names in cases:
        with refused(ImageError, names):
            images.read(source)


def mutated(count: int, seed: int):
    rng = random.Random(seed)
    exif = Image.Exif()
    exif[274] = 6
    picture = Image.fromarray(colours())
    kinds = [("JPEG", {"exif": exif}), ("GIF", {}), *LOSSLESS.items(), ("TIFF", {"compression": "tiff_lzw"})]
    originals = [encoded(picture, kind, **options) for kind, options in kinds]
    originals.append(encoded(picture, "JPEG", progressive=True))
    for _ in range(count):
        data = bytearray(rng.choice(originals))
        for _ in range(rng.choice((1, 2, 8, 40))):
            data[rng.randrange(len(data) if rng.random() < 0.5 else min(64, len(data)))] = rng.randrange(256)
        if rng.random() < 0.2:
            del data[rng.randrange(len(data)) :]
        yield bytes(data)


def read_or_refuse(data: bytes) -> bool:
    try:
        pixels = images.read(data)
    except ImageError:
        return False
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 2 or pixels.shape[2] == 3
    return True


def test_mutated_images_are_read_or_refused():
    read = [read_or_refuse(data) for data in mutated(1500, seed=1)]
    assert any(read)
    assert not all(read)


@pytest.mark.slow
def test_many_mutated_images_are_read_or_refused():
    read = [read_or_refuse(data) for data in mutated(50_000, seed=2)]
    assert any(read)
    assert not all(read)


@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 20), st.integers(1, 20), st.just(3))))
@settings(max_examples=50, deadline=None)
def test_grey_is_the_stated_sum(pixels):
    red, green, blue = (pixels[:, :, channel].astype(np.int64) for channel in range(3))
    np.testing.assert_array_equal(
        images.grey(pixels), (19595 * red + 38470 * green + 7471 * blue + 32768) // 65536
    )


def test_a_grey_image_and_its_rgb_twin_agree():
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    np.testing.assert_array_equal(images.grey(np.dstack([grey] * 3)), grey)
    assert images.grey(grey) is grey


@given(
    hnp.arrays(
        np.uint8,
        st.one_of(st.tuples(*[st.integers(1, 90)] * 2), st.tuples(*[st.integers(1, 40)] * 2, st.just(3))),
    ),
    st.integers(1, 64),
)
@settings(max_examples=60, deadline=None)
def test_fit_gives_the_networks_input(pixels, size):
    face = images.fit(pixels, size)
    assert face.shape == (size, size, 1)
    assert face.dtype == np.uint8
    grey = images.grey(pixels)
    # A triangle filter's weights sum to 1 and none is negative, so no value leaves the image's range.
    assert grey.min() <= face.min() <= face.max() <= grey.max()


def test_fit_leaves_the_right_size_alone():
    face = colours(48, 48)[:, :, 0]
    np.testing.assert_array_equal(images.fit(face, 48)[:, :, 0], face)


def test_fit_pads_with_edge_pixels():
    image = np.array([[1, 2, 3, 4, 5], [6, 7, 8, 9, 10]], np.uint8)
    np.testing.assert_array_equal(images.fit(image, 5)[:, :, 0], image[[0, 0, 1, 1, 1]])
    np.testing.assert_array_equal(images.fit(image.T, 5)[:, :, 0], image.T[:, [0, 0, 1, 1, 1]])


def test_fit_averages_when_it_shrinks():
    checks = (np.indices((96, 96)).sum(axis=0) % 2 * 255).astype(np.uint8)
    inner = images.fit(checks, 12)[2:-2, 2:-2, 0].astype(int)
    assert abs(inner - 127.5).max() < 3


def test_fit_keeps_mirror_images_mirrored():
    face = colours(60, 60)[:, :, 0]
    np.testing.assert_array_equal(images.fit(face[:, ::-1], 48), images.fit(face, 48)[:, ::-1])


@pytest.mark.parametrize("shape", [(1, 1), (1, 200_000), (200_000, 1), (5000, 3)])
def test_fit_takes_long_thin_images(shape):
    face = images.fit(np.full(shape, 9, np.uint8), 48)
    assert (face == 9).all()


def ramp(height: int, width: int, *, across: float = 1.0, down: float = 0.0) -> np.ndarray:
    return np.rint(np.arange(width) * across + np.arange(height)[:, None] * down).astype(np.uint8)


def test_cut_of_whole_pixels_is_those_pixels():
    image = colours(60, 80)
    part = images.cut(image, (13, 7, 48), 48)
    np.testing.assert_array_equal(part[:, :, 0], images.grey(image)[7:55, 13:61])


@pytest.mark.parametrize("side", [48, 53, 96, 500])
def test_cut_of_the_whole_image_is_what_fit_gives(side):
    image = colours(side, side)
    np.testing.assert_array_equal(images.cut(image, (0, 0, side), 48), images.fit(image, 48))


@pytest.mark.parametrize("shift", [0.0, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("scale", [0.5, 1.0, 2.5])
def test_cut_lies_where_it_is_told_between_pixels(shift, scale):
    # On a ramp of 2 grey values a pixel, the value at x is 2 (x - 0.5).
    size = 20
    row = images.cut(ramp(100, 120, across=2), (30 + shift, 40, size * scale), size)[10, :, 0]
    middles = 30 + shift + (np.arange(size) + 0.5) * scale
    assert abs(row - 2 * (middles - 0.5)).max() <= 1.01


def test_cut_goes_on_with_edge_pixels():
    image = colours(30, 40)
    wide = np.pad(image, ((50, 50), (50, 50), (0, 0)), mode="edge")
    for square in [(-10, -5, 48), (20, 10, 31.5), (-7.25, 12.5, 30), (-20, -30, 90)]:
        there = (square[0] + 50, square[1] + 50, square[2])
        np.testing.assert_array_equal(images.cut(image, square, 24), images.cut(wide, there, 24))


@pytest.mark.parametrize(
    "square", [(-1e9, 0, 10), (1e12, -1e12, 3), (0, 0, 1e12), (-5e5, -5e5, 1e6), (0, 0, 1e-6)]
)
def test_cut_takes_any_finite_square(square):
    face = images.cut(np.full((30, 40), 9, np.uint8), square, 48)
    assert face.shape == (48, 48, 1)
    assert (face == 9).all()


def test_cut_averages_when_it_shrinks():
    checks = (np.indices((96, 96)).sum(axis=0) % 2 * 255).astype(np.uint8)
    assert abs(images.cut(checks, (3.3, 2.2, 90), 12)[2:-2, 2:-2, 0].astype(int) - 127.5).max() < 4


def test_cut_of_a_large_square_is_that_of_the_image_shrunk():
    image = np.tile(ramp(6000, 200), (1, 30))
    small = np.asarray(Image.fromarray(image).resize((3000, 3000), Image.Resampling.BILINEAR))
    large = images.cut(image, (100, 200, 5000), 24).astype(int)
    assert abs(large - images.cut(small, (50, 100, 2500), 24)).max() <= 2


@pytest.mark.parametrize(
    ("left", "top", "side"), [(3.3, 2.7, 20.2), (-6.4, -3.3, 50.1), (25.6, 4.4, 30.7), (5.5, 5.5, 9.25)]
)
def test_cut_keeps_mirror_images_mirrored(left, top, side):
    image = colours(30, 40)
    one = images.cut(image, (left, top, side), 16).astype(int)
    other = images.cut(image[:, ::-1], (40 - left - side, top, side), 16)[:, ::-1]
    assert abs(one - other).max() <= 1


@pytest.mark.parametrize("square", [(0, 0, 0), (0, 0, -3), (float("nan"), 0, 9), (0, 0, float("inf"))])
def test_cut_refuses_a_square_that_is_none(square):
    with refused(ImageError):
        images.cut(colours(), square, 48)


def open_files(path):
    return sum(place.exists() and place.samefile(path) for place in Path("/proc/self/fd").iterdir())


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="asks the system which files are open")
def test_read_leaves_no_file_open():
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "face.tif"
        path.write_bytes(encoded(Image.fromarray(colours()), "TIFF"))
        image = Image.open(path)  # a file held open is seen here
        held = open_files(path)
        image.close()
        images.read(path)
        assert (held, open_files(path)) == (1, 0)


#: What modes of Pillow's each format keeps without loss.
KEEPS = {
    "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"),
    "TIFF": ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "LAB", "I;16", "I", "F"),
    "WEBP": ("RGB", "RGBA"),
    "BMP": ("1", "L", "P", "RGB"),
    "GIF": ("1", "P"),
}


def of_mode(mode: str, height: int, width: int) -> Image.Image:
    pixels = colours(height, width)
    grey = {"I;16": np.uint16, "I": np.int32, "F": np.float32}.get(mode)
    if grey is not None:
        return Image.fromarray(pixels[:, :, 0].astype(grey))
    image = Image.fromarray(pixels)
    if mode == "RGBA":
        image.putalpha(Image.fromarray(pixels[:, :, 1]))
    return image.convert("L").convert("LA") if mode == "LA" else image.convert(mode)


@pytest.mark.parametrize("size", [(1, 1), (1, 9), (13, 10)])
@pytest.mark.parametrize(("kind", "mode"), [(kind, mode) for kind, modes in KEEPS.items() for mode in modes])
def test_each_mode_in_each_format_and_orientation_is_the_image_that_was_stored(kind, mode, size):
    upright = of_mode(mode, *size)
    expected = images.read(upright)
    for turn, tag in enumerate((1, 6, 3, 8) if kind in ("PNG", "TIFF", "WEBP") else (1,)):
        exif = Image.Exif()
        exif[274] = tag
        # A camera that is turned clockwise lays the picture down turned the other way.
        stored = upright.rotate(90 * turn, expand=True)
        options = {"exif": exif} if tag > 1 else {}
        read = images.read(encoded(stored, kind, **options, **LOSSLESS.get(kind, {})))
        np.testing.assert_array_equal(read, expected, err_msg=f"orientation {tag}")


def test_a_progressive_jpeg_is_its_baseline_twin():
    image = Image.fromarray(colours(64, 80))
    baseline, progressive = (encoded(image, "JPEG", progressive=kind) for kind in (False, True))
    assert baseline != progressive
    np.testing.assert_array_equal(images.read(baseline), images.read(progressive))


def test_forty_megapixels_are_read_and_a_pixel_more_is_not():
    pixels = np.zeros((6250, 6400), np.uint8)
    assert pixels.size == images.MAX_PIXELS
    pixels[-1, -1] = 9
    assert images.read(encoded(pixels, compress_level=1))[-1, -1] == 9
    with refused(ImageError, "40,000,000"):
        images.read(png(1, images.MAX_PIXELS + 1))


def test_more_mutated_images_are_read_or_refused():
    read = [read_or_refuse(data) for data in mutated(500, seed=3)]
    assert any(read)
    assert not all(read)


def test_a_path_of_bytes_is_a_path(tmp_path: Path) -> None:
    class Old:
        def __init__(self, path: bytes) -> None:
            self.path = path

        def __fspath__(self) -> bytes:
            return self.path

    Image.new("L", (3, 2), 7).save(tmp_path / "a.png")
    assert (images.read(Old(os.fsencode(tmp_path / "a.png"))) == 7).all()  # type: ignore[arg-type]
    with refused(ImageError, "'gone'"):
        images.read(Old(b"gone"))  # type: ignore[arg-type]


def test_fractions_may_overshoot_as_resizing_leaves_them() -> None:
    plain = np.linspace(0, 1, 64, dtype=np.float32).reshape(8, 8)
    over = plain.copy()
    over[0, 0], over[-1, -1] = -0.04, 1.04
    np.testing.assert_array_equal(images.read(over), images.read(plain))
    with refused(ImageError):
        images.read(np.full((2, 2), -0.2))
