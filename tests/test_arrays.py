"""Archives of arrays: whatever a file holds, it is read within bounds or refused in a few words."""

import io
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from builders import refused
from mien import _arrays


def packed(**found: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **found)  # type: ignore[arg-type]
    return buffer.getvalue()


GOOD = packed(rows=np.arange(60, dtype=np.float32).reshape(20, 3), name=np.array("seven"))


def header(shape: tuple[int, ...]) -> bytes:
    buffer = io.BytesIO()
    facts = {"descr": "|i1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(buffer, facts)
    return buffer.getvalue()


def zipped(method: int = zipfile.ZIP_STORED, **entries: bytes) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as file:
        for name, content in entries.items():
            file.writestr(f"{name}.npy", content)
    return buffer.getvalue()


def test_arrays_come_back_by_their_names() -> None:
    found = _arrays.unpack(GOOD, 1 << 20)
    assert found["rows"].tolist() == np.arange(60).reshape(20, 3).tolist()
    assert str(found["name"]) == "seven"


def locked() -> bytes:
    """An archive whose entries say that they are encrypted."""
    content = bytearray(zipped(a=header((1,)) + b"x"))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(mark) + place] |= 1
    return bytes(content)


def strangely_packed() -> bytes:
    """An archive whose entries are compressed in a way that no zip has."""
    content = bytearray(zipped(a=header((1,)) + b"x"))
    for mark, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        at = content.index(mark) + place
        content[at : at + 2] = (97).to_bytes(2, "little")
    return bytes(content)


def torn() -> bytes:
    """A deflated entry whose stream is no stream."""
    content = bytearray(zipped(zipfile.ZIP_DEFLATED, a=header((500,)) + bytes(500)))
    at = content.index(b"a.npy") + 5
    content[at : at + 6] = b"\xff" * 6
    return bytes(content)


def renamed() -> bytes:
    """An archive whose entry has another name where it begins than in the list of entries."""
    content = bytearray(zipped(**{"a" * 200: header((1,)) + b"x"}))
    at = content.index(b"aaaa")
    content[at : at + 200] = bytes(range(56, 256))
    return bytes(content)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (renamed(), ""),
        (zipped(a=b"\x93NUMPY" + bytes(range(128, 256))), ""),
        (zipped(a=b"\x93NUMPY\x01\x00\x10\x00" + b"\xff{" * 8), ""),
        (b"", ""),
        (b"no archive", ""),
        (GOOD[:150], ""),
        (locked(), "encrypted"),
        (strangely_packed(), ""),
        (torn(), ""),
        (zipped(a=header((1 << 42,)) + b"few"), ""),
        (zipped(a=header((-3,)) + b"few"), ""),
        (zipped(a=b"no array"), "'a"),
        (packed(a=np.array([{}], object)), "pickle"),
        (zipped(zipfile.ZIP_DEFLATED, a=bytes(300_000)), "100000"),
        (bytes(200_000), "100000"),
    ],
)
def test_what_is_none_is_refused_in_a_few_words(content: bytes, says: str) -> None:
    with refused(ValueError, says) as caught:
        _arrays.unpack(content, 100_000)
    assert 0 < len(str(caught.value)) < 150
    assert "\\" not in str(caught.value)


@given(st.lists(st.tuples(st.integers(0, len(GOOD) - 1), st.integers(1, 255)), min_size=1, max_size=4))
def test_damage_anywhere_is_a_value_error_or_none(places: list[tuple[int, int]]) -> None:
    content = bytearray(GOOD)
    for place, change in places:
        content[place] ^= change
    found, says = {}, "refused"
    try:
        found = _arrays.unpack(bytes(content), 1 << 20)
    except ValueError as error:
        says = str(error)
    assert 0 < len(says) < 150
    assert says.isprintable()
    assert all(isinstance(array, np.ndarray) for array in found.values())
