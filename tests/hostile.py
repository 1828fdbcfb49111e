"""Archives that must be refused."""

import bz2
import gzip
import lzma
import os
import stat
import struct
import unicodedata
import zlib
from collections.abc import Callable
from functools import partial

from archives import FACE, FILE, PAIR, TWO, Zipped, deflated, header, named, pax, tar_of, zip_of

XZ_HUGE = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 2**29}]
SPARSE = pax(GNU_sparse_major=b"1", GNU_sparse_minor=b"0", GNU_sparse_realsize=b"9")
INNER = zip_of(Zipped(data=bytes(9 * 2**20)))
QUOTED = zip_of(Zipped(name=b"b.png", method=0))[: -22 - 46 - 5]

BAD_NAMES = {
    "up": "../x",
    "up within": "a/../../x",
    "up in junk": "__MACOSX/../../x",
    "absolute": "/etc/x",
    "network": "//server/x",
    "drive": "C:/x",
    "drive relative": "c:x",
    "drive within": "a/D:/x",
    "backslash": "..\\x",
    "control newline": "a\nb.png",
    "control escape": "\x1b[2J.png",
    "control delete": "\x7f.png",
    "control line": "a\u2028b",
    "control direction": "a\u202egnp.exe",
    "empty part": "a//b",
    "dot part": "a/./b",
    "space part": "a/ /b",
    "300 bytes": "x" * 300,
    "300 bytes in UTF-8": "é" * 150,
    "1100 bytes": "/".join(["x" * 100] * 11),
    "33 folders": "/".join("x" * 33),
}
TWINS = {
    "twice": ("a.png", "a.png"),
    "case": ("a.png", "A.png"),
    "case of a folder": ("train/a.png", "Train/b.png"),
    "case folding": ("straße", "STRASSE"),
    "normal form": ("é.png", unicodedata.normalize("NFD", "é.png")),
    "last dot": ("a", "a."),
    "last space of a folder": ("a/b", "a /c"),
    "file then folder": ("a", "a/b"),
    "folder then file": ("a/b", "a"),
    "file then empty folder": ("a", "a/"),
}


def _tar_at(name):
    return tar_of(pax(path=name.encode()), FILE)


def _tar_of_empty(*names):
    return tar_of(*((name.encode(), b"", b"0") for name in names))


def _bombs_together():
    return zip_of(*(Zipped(name=b"%d" % i, data=bytes(2**20 - 1)) for i in range(20)))


ZIPS = {
    "NUL": lambda: named(b"a\0.png"),
    "no name": lambda: named(b""),
    "not UTF-8": lambda: named(b"\xff.png"),
    "symlink": lambda: named("a", mode=stat.S_IFLNK, data=b"/etc/passwd"),
    "fifo": lambda: named("a", mode=stat.S_IFIFO),
    "device": lambda: named("a", mode=stat.S_IFCHR),
    "strange mode": lambda: named("a", mode=0o150000),
    "folder with bytes": lambda: named("a/"),
    "encrypted": lambda: named("a", flags=1),
    "strongly encrypted": lambda: named("a", flags=65),
    "AES": lambda: named("a", method=99),
    "LZMA": lambda: named("a", method=14),
    "patch": lambda: named("a", flags=32),
    "cut off": lambda: zip_of(*TWO)[:-30],
    "cut off in the end record": lambda: zip_of(*TWO)[:-3],
    "cut off at the front": lambda: b"PK\3\4" + zip_of(*TWO)[100:],
    "bad checksum stored": lambda: named("a", method=0, crc=7),
    "bad checksum": lambda: named("a", crc=7),
    "bad checksum of nothing": lambda: named("a", data=b"", body=b"", crc=7),
    "bad deflate": lambda: named("a", body=b"\xff" * 50),
    "deflate without end": lambda: named("a", body=deflated(FACE)[:-9]),
    "fewer bytes": lambda: named("a", size=len(FACE) + 1),
    "more bytes": lambda: named("a", size=len(FACE) - 1),
    "far more bytes": lambda: named("a", size=9, data=bytes(9 * 2**20)),
    "stored sizes differ": lambda: named("a", method=0, size=9),
    "packed beyond": lambda: named("a", packed=2**31),
    "local name": lambda: named("a", local=b"b"),
    "same bytes twice": lambda: zip_of(TWO[0], Zipped(name=b"b.png", offset=0, local=b"")),
    "quoted overlap": lambda: zip_of(
        Zipped(name=b"a.png", method=0, data=QUOTED), Zipped(name=b"b.png", method=0, offset=35)
    ),
    "no local header": lambda: named("a", offset=3, local_extra=bytes(50)),
    "bomb": lambda: named("a", data=bytes(10 * 2**20)),
    "bombs together": lambda: _bombs_together(),
    "several disks": lambda: zip_of(*TWO, disk=1),
    "member on another disk": lambda: zip_of(Zipped(disk=1)),
    "first of several": lambda: b"PK\7\x08" + zip_of(*TWO)[:-22],
    "wrong start": lambda: zip_of(*TWO, shift=1),
    "gap before the end": lambda: zip_of(*TWO, gap=b"12345"),
    "name beyond the directory": lambda: zip_of(*TWO).replace(
        b"\5\0\0\0\0\0\0\0\0\0\0\0\xa4\x81", b"\xff\xff\0\0\0\0\0\0\0\0\0\0\xa4\x81"
    ),
    "wide on several disks": lambda: zip_of(*TWO, wide={"disks": 2}),
    "wide without record": lambda: zip_of(*TWO, wide={"record": b"none"}),
    "wide field too short": lambda: named("a", size=2**32 - 1, extra=struct.pack("<2HL", 1, 4, 9)),
    "nested": lambda: zip_of(Zipped(name=b"inner.zip", data=INNER), Zipped(name=b"b", data=INNER)),
    "only folders": lambda: named("a/", data=b"", method=0),
    "only junk": lambda: named("__MACOSX/a", ".DS_Store"),
    "nothing": lambda: zip_of(),
}
TARS = {
    "symlink": lambda: tar_of(FILE, (b"l", b"", b"2")),
    "hard link": lambda: tar_of(FILE, (b"l", b"", b"1")),
    "character device": lambda: tar_of((b"d", b"", b"3")),
    "block device": lambda: tar_of((b"d", b"", b"4")),
    "fifo": lambda: tar_of((b"f", b"", b"6")),
    "sparse": lambda: tar_of((b"f", b"", b"S")),
    "volumes": lambda: tar_of((b"f", b"", b"M")),
    "unknown type": lambda: tar_of((b"f", b"", b"\n")),
    "pax sparse map": lambda: tar_of(SPARSE, (b"a.png", b"1\n0\n9\n".ljust(512, b"\0") + FACE, b"0")),
    "pax sparse without end": lambda: tar_of(SPARSE, (b"a.png", b"999999\n" + b"9" * 2**21, b"0")),
    "pax up": lambda: tar_of(pax(path=b"../x"), FILE),
    "pax NUL": lambda: tar_of(pax(path=b"a\0b"), FILE),
    "pax size": lambda: tar_of(pax(size=b"-1"), FILE),
    "pax size huge": lambda: tar_of(pax(size=b"9" * 5000), FILE),
    "pax record": lambda: tar_of((b"p", b"99 path=a\n", b"x"), FILE),
    "pax of 8 MiB": lambda: tar_of((b"p", bytes(8 * 2**20), b"x"), FILE),
    "pax for nothing": lambda: tar_of(FILE, pax(path=b"b")),
    "long name up": lambda: tar_of((b"L", b"../x\0", b"L"), FILE),
    "not UTF-8": lambda: tar_of((b"\xff", FACE, b"0")),
    "checksum": lambda: tar_of(FILE, header(checksum=9)),
    "size of letters": lambda: tar_of(FILE, header(number=b"zzzzzzzzzzz\0")),
    "size below zero": lambda: tar_of(FILE, header(number=b"\xff" * 12)),
    "size of a galaxy": lambda: tar_of(FILE, header(b"b", number=b"\x80" + b"\x7f" * 11)),
    "cut off in a file": lambda: tar_of(FILE)[:1500],
    "cut off in a header": lambda: tar_of(FILE, FILE)[:3200],
    "cut off between": lambda: tar_of(FILE, end=b""),
    "cut off in a hole": lambda: tar_of(FILE, header(b"b", 9999), end=b""),
    "goes on": lambda: tar_of(FILE) + tar_of(FILE),
    "padded": lambda: tar_of(FILE, end=bytes(20 * 2**20)),
    "nested": lambda: tar_of((b"inner.tgz", gzip.compress(tar_of(FILE)), b"0")),
    "nothing": lambda: tar_of((b"d/", b"", b"5")),
    "gz cut off": lambda: gzip.compress(tar_of(FILE))[:-9],
    "gz checksum": lambda: gzip.compress(tar_of(FILE))[:-8] + bytes(8),
    "gz damaged": lambda: gzip.compress(os.urandom(9))[:10] + b"\xff" * 99,
    "gz and more": lambda: gzip.compress(tar_of(FILE)) + b"more",
    "gz cut off in a hole": lambda: gzip.compress(tar_of(FILE, header(b"b", 9999), end=b"")),
    "gz bomb": lambda: gzip.compress(tar_of((b"z", bytes(30 * 2**20), b"0"))),
    "gz bomb of padding": lambda: gzip.compress(tar_of(FILE, end=bytes(12 * 2**20))),
    "bz2 bomb": lambda: bz2.compress(tar_of((b"z", bytes(30 * 2**20), b"0"))),
    "xz bomb": lambda: lzma.compress(tar_of((b"z", bytes(30 * 2**20), b"0")), preset=0),
    "xz dictionary": lambda: lzma.compress(tar_of(FILE), filters=XZ_HUGE),
    "xz dictionary of a second stream": (
        lambda: lzma.compress(tar_of(FILE)[:1024]) + lzma.compress(tar_of(FILE)[1024:], filters=XZ_HUGE)
    ),
    "xz damaged": lambda: lzma.compress(tar_of(FILE))[:-30] + bytes(30),
    "bz2 damaged": lambda: bz2.compress(tar_of(FILE))[:-9] + bytes(9),
    "gz of one file": lambda: gzip.compress(b"emotion,pixels,Usage\n" * 99),
    "7z": lambda: b"7z\xbc\xaf\x27\x1c" + bytes(600),
    "rar": lambda: b"Rar!\x1a\x07\1\0",
    "text": lambda: b"emotion,pixels,Usage\n" * 99,
    "empty": lambda: b"",
}
#: Functions that make them: making all of them takes seconds, which each worker would spend.
HOSTILE: dict[str, Callable[[], bytes]] = (
    {f"zip {what}": partial(named, name) for what, name in BAD_NAMES.items()}
    | {f"tar {what}": partial(_tar_at, name) for what, name in BAD_NAMES.items()}
    | {f"zip {what}": partial(named, *both, data=b"", method=0) for what, both in TWINS.items()}
    | {f"tar {what}": partial(_tar_of_empty, *both) for what, both in TWINS.items()}
    | {f"zip {what}": make for what, make in ZIPS.items()}
    | {f"tar {what}": make for what, make in TARS.items()}
)
#: Archives that contradict themselves and do no harm, with their files. Some versions of Python
#: refuse some of them.
HARMLESS = {
    "zip folder as file": lambda: (named("a", mode=stat.S_IFDIR), {"a": FACE}),
    "zip deflate with more": lambda: (named("a", body=deflated(FACE) + b"more"), {"a": FACE}),
    "zip local size": lambda: (named("a", local_size=9), {"a": FACE}),
    "zip local method": lambda: (named("a", local_method=0), {"a": FACE}),
    "zip local extra overlaps": lambda: (
        zip_of(Zipped(name=b"a", packed=len(deflated(FACE)) + 2, local_extra=b"\1\0\0\0")),
        {"a": FACE},
    ),
    "zip too few counted": lambda: (zip_of(*TWO, count=1), PAIR),
    "zip too many counted": lambda: (zip_of(*TWO, count=3), PAIR),
    "zip million counted": lambda: (zip_of(*TWO, count=10**6, wide={}), PAIR),
    "zip wide beyond": lambda: (zip_of(*TWO, wide={"at": 2**40}), PAIR),
    "zip wide of two minds": lambda: (zip_of(*TWO, wide={"short": 7}), PAIR),
    "tar pax sparse": lambda: (tar_of(pax(GNU_sparse_major=b"1"), FILE), {"a.png": FACE}),
    "tar pax for all": lambda: (tar_of((b"g", pax(path=b"b")[1], b"g"), FILE), {"b": FACE}),
    "tar pax without length": lambda: (tar_of((b"p", b"path=a\n", b"x"), FILE), {"a.png": FACE}),
    "tar NUL": lambda: (tar_of((b"a\0.png", FACE, b"0")), {"a": FACE}),
    "tar folder with bytes": lambda: (tar_of(FILE, header(b"d/", 9, b"5")), {"a.png": FACE}),
    "tar long chain of headers": lambda: (
        tar_of(*[(b"g", pax(comment=b"1")[1], b"g")] * 400, FILE),
        {"a.png": FACE},
    ),
    "zip with end records in its comment": lambda: (zip_of(*TWO, comment=b"PK\5\6" * 9), PAIR),
}


def million_in_zip(path, lie):
    """A directory of a million entries; with `lie`, the end record says the count modulo 2**16."""
    fields = (b"PK\1\2", 20, 20, 0x800, 0, 0, 33, 0, 0, 0, 7, 0, 0, 0, 0, 0, 0)
    before = struct.pack("<4s6H3L5H2L", *fields)
    directory = b"".join(before + b"%07d" % i for i in range(10**6))
    if lie:
        end = zip_of(count=10**6 % 2**16, gap=directory)
        path.write_bytes(b"PK\3\4" + end[:-10] + struct.pack("<2LH", len(directory), 4, 0))
    else:
        wide = struct.pack("<4sQ2H2L4Q", b"PK\6\6", 44, 45, 45, 0, 0, 10**6, 10**6, len(directory), 4)
        wide += struct.pack("<4sLQL", b"PK\6\7", 0, len(directory) + 4, 1)
        full = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 2**16 - 1, 2**16 - 1, 2**32 - 1, 2**32 - 1, 0)
        path.write_bytes(b"PK\3\4" + directory + wide + full)


def entries_in_tar(path, count):
    """Headers of `count` files, compressed, without an end."""
    block = header(b"0000000")
    with gzip.open(path, "wb", compresslevel=1) as out:
        for start in range(0, count, 10**4):
            blocks = bytearray(block * 10**4)
            for i in range(10**4):
                digits = b"%07d" % (start + i)
                blocks[i * 512 : i * 512 + 7] = digits
                # The digits of the name change, and so does the checksum.
                sums = int(block[148:154], 8) + sum(digits) - 7 * 48
                blocks[i * 512 + 148 : i * 512 + 154] = b"%06o" % sums
            out.write(blocks)


def long_names_in_zip(path):
    """As many and as long names as 50,000 entries let through, each in its own folder; one is there twice."""
    names = [b"%06d/%s" % (i, ("\U0001f600" + "x" * 60).encode()) for i in range(24_990)]
    path.write_bytes(zip_of(*(Zipped(name=name, data=b"", method=0) for name in [*names, names[0]]), wide={}))


def heavy(path, what):
    """Write one of the big ones to `path` and return it."""
    if what == "tar.gz":
        entries_in_tar(path, 6 * 10**4)
    elif what == "zip of long names":
        long_names_in_zip(path)
    elif what == "bombs":
        packer = zlib.compressobj(9, zlib.DEFLATED, -15)
        body = b"".join(packer.compress(bytes(2**20)) for _ in range(60)) + packer.flush()
        path.write_bytes(named("a", data=b"", body=body, size=90 * len(body)))
    else:
        million_in_zip(path, lie=what == "zip that lies")
    return path
