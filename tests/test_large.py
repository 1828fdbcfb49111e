"""Large pictures, AVIF and HEIC: reduced as they should be, upright, in bounded memory, and bombs refused."""

import io
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from skimage.data import astronaut

from builders import encoded, has_line, refused
from mien import cli
from mien.errors import ImageError
from mien.inference import image_files
from mien.inference.predictor import predict
from mien.vision import images, large_images

pillow_heif = pytest.importorskip("pillow_heif")

PHOTO: np.ndarray = np.ascontiguousarray(astronaut()[:320, :400])


def as_heic(pixels: np.ndarray, **options) -> bytes:
    out = io.BytesIO()
    pillow_heif.from_pillow(Image.fromarray(pixels)).save(out, **options)
    return out.getvalue()


@pytest.fixture
def small_is_large(monkeypatch):
    """Have everything above 5,000 pixels read as large pictures are, in strips of a few rows."""
    monkeypatch.setattr(images, "MAX_PIXELS", 5000)
    monkeypatch.setattr(images, "_PIXELS_PER_BYTE", dict.fromkeys(images._PIXELS_PER_BYTE, 1e9))
    monkeypatch.setattr(large_images, "_STRIP", 3000)


def of_kind(mode: str) -> Image.Image:
    image = Image.fromarray(PHOTO[:201, :167])
    if mode == "I;16":
        return Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 251)
    if mode == "RGBA":
        image.putalpha(Image.fromarray(PHOTO[:201, :167, 1]))
        return image
    return image.convert("L").convert("LA") if mode == "LA" else image.convert(mode)


@pytest.mark.parametrize("tag", [1, 6, 4])
@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "I;16"])
def test_a_large_png_is_the_average_of_its_pixels(mode, tag, small_is_large, monkeypatch):
    exif = Image.Exif()
    exif[0x112] = tag
    data = encoded(of_kind(mode), "PNG", exif=exif)
    with monkeypatch.context() as patch:
        patch.setattr(images, "MAX_PIXELS", 10**6)
        stored = images.read(encoded(of_kind(mode), "PNG"))
    expected = images._turned(np.asarray(Image.fromarray(stored).reduce(2)), tag)
    found = images.picture(data)
    np.testing.assert_array_equal(found.pixels, expected)
    assert (found.width, found.height) == ((201, 167) if tag == 6 else (167, 201))
    assert max(found.scale) == pytest.approx(2, abs=0.03)


@pytest.mark.parametrize("transparency", [(1, 2, 3), None])
def test_a_transparent_colour_of_a_large_png_is_laid_on_white(transparency, small_is_large):
    options = {"transparency": transparency} if transparency else {}
    data = encoded(Image.new("RGB", (100, 80), (1, 2, 3)), "PNG", **options)
    assert images.read(data).shape == (40, 50, 3)
    assert (images.read(data) == (255 if transparency else [1, 2, 3])).all()


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_damaged_large_files_are_refused(kind, small_is_large):
    data = encoded(PHOTO, kind)
    assert images.read(data).shape == (160, 200, 3)
    for end in (len(data) // 2, len(data) * 9 // 10):
        with refused(ImageError):
            images.read(data[:end])
    broken = bytearray(data)
    broken[len(data) // 2] ^= 255
    if kind == "PNG":
        with refused(ImageError):
            images.read(bytes(broken))


@pytest.mark.parametrize("tag", range(1, 9))
def test_a_large_jpeg_is_decoded_small_and_upright(tag, small_is_large):
    exif = Image.Exif()
    exif[0x112] = tag
    data = encoded(PHOTO, "JPEG", quality=95, exif=exif)
    small = np.asarray(Image.fromarray(PHOTO).reduce(2)).astype(int)
    found = images.picture(data)
    difference = abs(found.pixels - images._turned(small.astype(np.uint8), tag).astype(int))
    assert difference.mean() < 4
    assert (found.width, found.height) == ((320, 400) if tag >= 5 else (400, 320))


def test_progressive_jpegs_are_read_as_far_as_memory_goes(small_is_large, monkeypatch):
    data = encoded(PHOTO, "JPEG", progressive=True)
    header = large_images.header(io.BytesIO(data))
    assert header is not None
    assert header.held == pytest.approx(400 * 320 * 3, rel=0.01)
    assert large_images.header(io.BytesIO(encoded(PHOTO, "JPEG"))).held == 0
    assert images.read(data).shape == (160, 200, 3)
    monkeypatch.setattr(images, "_MAX_BUFFER", 300_000)
    with refused(ImageError):
        images.read(data)


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
@pytest.mark.parametrize(("longer", "by"), [(51, 8), (100, 4), (130, 3), (160, 2), (200, 2), (300, 2)])
def test_the_longer_side_is_near_the_target(longer, by, kind, small_is_large, monkeypatch):
    monkeypatch.setattr(images, "_LONGER", longer)
    found = images.picture(encoded(PHOTO, kind, **({"quality": 95} if kind == "JPEG" else {})))
    assert found.pixels.shape == (-(-320 // by), -(-400 // by), 3)
    expected = np.asarray(Image.fromarray(PHOTO).reduce(by)).astype(int)
    assert abs(found.pixels - expected).mean() < 5


def claimed(width: int, height: int, *, depth: int = 8, colour: int = 2, interlaced: int = 0) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, interlaced)
    rest = chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + rest


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (claimed(8000, 8000), ""),
        (claimed(20000, 20000), "250,000,000"),
        (claimed(40_000_001, 1), "65,535"),
        (claimed(8000, 6000, interlaced=1) + bytes(10**6), "interlac"),
        (claimed(8000, 6000, depth=16) + bytes(10**6), "16"),
    ],
)
def test_bombs_are_refused_by_the_header(data, said):
    with refused(ImageError, "40,000,000", said):
        images.read(data)


def test_a_jpegs_claim_is_refused_by_the_header():
    data = bytearray(encoded(PHOTO, "JPEG"))
    place = data.index(b"\xff\xc0") + 5
    data[place : place + 4] = struct.pack(">HH", 15000, 15000)
    with refused(ImageError, "40,000,000"):
        images.read(bytes(data))


@pytest.mark.parametrize("tag", range(1, 9))
def test_avif_is_read_upright(tag):
    exif = Image.Exif()
    exif[0x112] = tag
    found = images.read(encoded(PHOTO, "AVIF", quality=95, exif=exif))
    assert abs(found.astype(int) - images._turned(PHOTO, tag)).mean() < 4


@pytest.mark.parametrize("tag", range(1, 9))
def test_heic_is_read_upright(tag):
    exif = Image.Exif()
    exif[0x112] = tag
    found = images.read(as_heic(PHOTO, quality=90, exif=exif.tobytes()))
    assert abs(found.astype(int) - images._turned(PHOTO, tag)).mean() < 4


def test_a_heic_file_that_turns_itself_is_turned_once():
    exif = Image.Exif()
    exif[0x112] = 6
    phones = as_heic(PHOTO, quality=90, exif=exif.tobytes())
    assert images._heic_turns(phones)
    found = images.picture(phones)
    assert (found.width, found.height) == (320, 400)
    assert abs(found.pixels.astype(int) - images._turned(PHOTO, 6)).mean() < 4
    meta = struct.pack(">I", 16) + b"meta" + b"....ispe"
    assert not images._heic_turns(struct.pack(">I", 8) + b"ftyp" + meta)


def test_ten_bits_grids_grey_and_alpha_of_heic(monkeypatch):
    wide = PHOTO.astype(np.uint16) * 257
    out = io.BytesIO()
    pillow_heif.encode("RGB;16", (400, 320), wide.tobytes(), out, quality=90)
    assert images._open_heic(out.getvalue()).depth > 8
    assert abs(images.read(out.getvalue()).astype(int) - PHOTO).mean() < 4
    monkeypatch.setattr(pillow_heif.options, "GRID_TILE_SIZE", 128)
    data = as_heic(PHOTO, quality=90)
    monkeypatch.setattr(pillow_heif.options, "GRID_TILE_SIZE", 0)
    assert b"grid" in data
    assert abs(images.read(data).astype(int) - PHOTO).mean() < 4
    grey = as_heic(PHOTO[:, :, 1], quality=90)
    assert abs(images.grey(images.read(grey)).astype(int) - PHOTO[:, :, 1]).mean() < 4
    clear = np.dstack([PHOTO, np.zeros(PHOTO.shape[:2], np.uint8)])
    assert images.read(as_heic(clear, quality=90)).min() > 250


def test_large_heic_is_averaged(small_is_large):
    exif = Image.Exif()
    exif[0x112] = 6
    found = images.picture(as_heic(PHOTO, quality=90, exif=exif.tobytes()))
    expected = images._turned(np.asarray(Image.fromarray(PHOTO).reduce(2)), 6)
    assert (found.width, found.height) == (320, 400)
    assert abs(found.pixels.astype(int) - expected).mean() < 4


def test_damaged_heic_is_refused():
    data = as_heic(PHOTO)
    for end in (40, 200, len(data) // 2):
        with refused(ImageError):
            images.read(data[:end])


def test_heic_without_the_extra_is_a_problem_that_names_it(monkeypatch, tmp_path, capsys):
    (tmp_path / "photo.heic").write_bytes(as_heic(PHOTO))
    Image.fromarray(PHOTO).save(tmp_path / "a.jpg")
    for name in ("b.psd", "c.CR2", ".d.psd"):
        (tmp_path / name).write_bytes(b"x")
    assert cli.run(["predict", str(tmp_path)]) == 0
    told = capsys.readouterr()
    assert has_line(told.out, 2)
    err = " ".join(told.err.split())
    assert has_line(err, 2, "c.CR2")
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with refused(ImageError, "photo.heic'", 'pip install "mien[heic]"'):
        images.read(tmp_path / "photo.heic")
    assert cli.run(["predict", str(tmp_path)]) == 3
    assert "mien[heic]" in capsys.readouterr().err


def test_what_is_heic_is_told_by_its_brands():
    def box(major: bytes, *others: bytes) -> bytes:
        return struct.pack(">I", 16 + 4 * len(others)) + b"ftyp" + major + bytes(4) + b"".join(others)

    assert images._is_heic(box(b"heic", b"mif1"))
    assert images._is_heic(box(b"mif1", b"mif1", b"heic"))
    assert images._is_heic(box(b"mif1"))
    assert not images._is_heic(box(b"avif", b"mif1"))
    assert not images._is_heic(box(b"mif1", b"avif"))
    assert not images._is_heic(box(b"isom", b"mp42"))
    assert not images._is_heic(b"")


def test_boxes_of_a_large_photo_are_in_its_own_pixels(tmp_path):
    twice = Image.fromarray(PHOTO).resize((8000, 6400))
    path = tmp_path / "large.jpg"
    twice.save(path, quality=90)
    one = predict(Image.fromarray(PHOTO).resize((4000, 3200)))
    found = predict(path)
    assert (found.width, found.height) == (8000, 6400)
    (face,), (half,) = found.faces, one.faces
    assert face.emotion == half.emotion
    for side in ("left", "top", "width", "height"):
        assert abs(getattr(face.box, side) - 2 * getattr(half.box, side)) < 100
    image_files.save(path, found, tmp_path / "marked")
    marked = sorted((tmp_path / "marked").glob("*.png"))
    assert len(marked) == 1
    with Image.open(marked[0]) as crop:
        assert abs(crop.width - face.box.width / 2) <= 1


MEMORY = """
import re, sys
import mien
found = mien.predict(sys.argv[1])
assert found.width * found.height > 40_000_000 and len(found.faces) == 1, found
# Not ru_maxrss, which a process takes over from the one that started it.
print(int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024)
"""


def peak(path: Path) -> int:
    """Return MiB."""
    done = subprocess.run([sys.executable, "-c", MEMORY, path], capture_output=True, text=True, check=True)
    return int(done.stdout)


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted otherwise elsewhere")
@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("a.jpg", (8000, 6000)),
        ("b.jpg", (18200, 13700)),
        ("c.png", (18200, 13700)),
        ("d.jpg", (15800, 15800)),
        ("e.jpg", (11900, 11900)),
        ("f.jpg", (9990, 9990)),
    ],
)
@pytest.mark.slow
def test_250_megapixels_take_600_mib(name, size, tmp_path):
    Image.fromarray(PHOTO).resize(size).save(tmp_path / name)
    assert peak(tmp_path / name) <= 600


@pytest.mark.skipif(sys.platform != "linux", reason="memory is counted otherwise elsewhere")
@pytest.mark.slow
def test_the_largest_heic_takes_600_mib(tmp_path, monkeypatch):
    most = images.MAX_LARGE["HEIC"]
    wide = int((most * 4 / 3) ** 0.5) // 2 * 2
    photo = Image.new("RGB", (wide, most // wide // 2 * 2), (90, 120, 150))
    photo.paste(Image.fromarray(PHOTO).resize((2500, 2000)), (3000, 3000))
    monkeypatch.setattr(pillow_heif.options, "GRID_TILE_SIZE", 512)
    pillow_heif.from_pillow(photo).save(tmp_path / "a.heic", quality=50)
    assert peak(tmp_path / "a.heic") <= 600
