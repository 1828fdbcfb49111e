"""Archives that must be refused, and a word that the refusal says."""

import bz2
import gzip
import lzma
import os
import stat
import struct
import unicodedata
import zlib

from archives import FACE, FILE, TWO, Zipped, deflated, header, named, pax, tar_of, zip_of

XZ_HUGE = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 2**29}]
INNER = zip_of(Zipped(data=bytes(9 * 2**20)))
QUOTED = zip_of(Zipped(name=b"b.png", method=0))[: -22 - 46 - 5]

BAD_NAMES = {
    "up": ("../x", r"\.\."),
    "up within": ("a/../../x", r"\.\."),
    "up in junk": ("__MACOSX/../../x", r"\.\."),
    "absolute": ("/etc/x", "absolute"),
    "network": ("//server/x", "absolute"),
    "drive": ("C:/x", "drive"),
    "drive relative": ("c:x", "drive"),
    "drive within": ("a/D:/x", "drive"),
    "backslash": ("..\\x", "backslash"),
    "control newline": ("a\nb.png", "control"),
    "control escape": ("\x1b[2J.png", "control"),
    "control delete": ("\x7f.png", "control"),
    "control line": ("a\u2028b", "control"),
    "control direction": ("a\u202egnp.exe", "control"),
    "empty part": ("a//b", "no name"),
    "dot part": ("a/./b", "no name"),
    "space part": ("a/ /b", "no name"),
    "300 bytes": ("x" * 300, "255"),
    "300 bytes in UTF-8": ("é" * 150, "255"),
    "1100 bytes": ("/".join(["x" * 100] * 11), "1024"),
    "33 folders": ("/".join("x" * 33), "deep"),
}
TWINS = {
    "twice": ("a.png", "a.png", "twice"),
    "case": ("a.png", "A.png", "one name"),
    "case of a folder": ("train/a.png", "Train/b.png", "one name"),
    "case folding": ("straße", "STRASSE", "one name"),
    "normal form": ("é.png", unicodedata.normalize("NFD", "é.png"), "one name"),
    "last dot": ("a", "a.", "one name"),
    "last space of a folder": ("a/b", "a /c", "one name"),
    "file then folder": ("a", "a/b", "both"),
    "folder then file": ("a/b", "a", "both"),
    "file then empty folder": ("a", "a/", "both"),
}


def _bombs_together():
    return zip_of(*(Zipped(name=b"%d" % i, data=bytes(2**20 - 1)) for i in range(20)))


ZIPS = {
    "NUL": (named(b"a\0.png"), "control"),
    "no name": (named(b""), "empty name"),
    "not UTF-8": (named(b"\xff.png"), "UTF-8"),
    "symlink": (named("a", mode=stat.S_IFLNK, data=b"/etc/passwd"), "symbolic link"),
    "fifo": (named("a", mode=stat.S_IFIFO), "fifo"),
    "device": (named("a", mode=stat.S_IFCHR), "device"),
    "strange mode": (named("a", mode=0o150000), "neither"),
    "folder as file": (named("a", mode=stat.S_IFDIR), "folder by its mode"),
    "folder with bytes": (named("a/"), "folder that says"),
    "encrypted": (named("a", flags=1), "encrypted"),
    "strongly encrypted": (named("a", flags=65), "encrypted"),
    "AES": (named("a", method=99), "method 99"),
    "LZMA": (named("a", method=14), "LZMA"),
    "patch": (named("a", flags=32), "patch"),
    "cut off": (zip_of(*TWO)[:-30], "cut off"),
    "cut off in the end record": (zip_of(*TWO)[:-3], "cut off"),
    "cut off at the front": (b"PK\3\4" + zip_of(*TWO)[100:], "damaged"),
    "bad checksum stored": (named("a", method=0, crc=7), "checksum"),
    "bad checksum": (named("a", crc=7), "checksum"),
    "bad checksum of nothing": (named("a", data=b"", body=b"", crc=7), "checksum"),
    "bad deflate": (named("a", body=b"\xff" * 50), "damaged"),
    "deflate without end": (named("a", body=deflated(FACE)[:-9]), "cut off"),
    "deflate with more": (named("a", body=deflated(FACE) + b"more"), "before its packed"),
    "fewer bytes": (named("a", size=len(FACE) + 1), "has fewer"),
    "more bytes": (named("a", size=len(FACE) - 1), "has more"),
    "far more bytes": (named("a", size=9, data=bytes(9 * 2**20)), "has more"),
    "stored sizes differ": (named("a", method=0, size=9), "become 9"),
    "packed beyond": (named("a", packed=2**31), "overlaps"),
    "local size": (named("a", local_size=9), "another one"),
    "local name": (named("a", local=b"b"), "another one"),
    "local method": (named("a", local_method=0), "another one"),
    "local extra overlaps": (
        zip_of(Zipped(name=b"a", packed=len(deflated(FACE)) + 2, local_extra=b"\1\0\0\0")),
        "overlaps",
    ),
    "same bytes twice": (zip_of(TWO[0], Zipped(name=b"b.png", offset=0, local=b"")), "overlaps"),
    "quoted overlap": (
        zip_of(Zipped(name=b"a.png", method=0, data=QUOTED), Zipped(name=b"b.png", method=0, offset=35)),
        "overlaps",
    ),
    "no local header": (named("a", offset=3, local_extra=bytes(50)), "not where"),
    "bomb": (named("a", data=bytes(10 * 2**20)), "bomb"),
    "bombs together": (_bombs_together(), "bomb"),
    "several disks": (zip_of(*TWO, disk=1), "several"),
    "member on another disk": (zip_of(Zipped(disk=1)), "several"),
    "first of several": (b"PK\7\x08" + zip_of(*TWO)[:-22], "several"),
    "wrong start": (zip_of(*TWO, shift=1), "damaged"),
    "gap before the end": (zip_of(*TWO, gap=b"12345"), "damaged"),
    "too few counted": (zip_of(*TWO, count=1), "more entries"),
    "too many counted": (zip_of(*TWO, count=3), "damaged"),
    "million counted": (zip_of(*TWO, count=10**6, wide={}), "1,000,000 entries"),
    "name beyond the directory": (
        zip_of(*TWO).replace(b"\5\0\0\0\0\0\0\0\0\0\0\0\xa4\x81", b"\xff\xff\0\0\0\0\0\0\0\0\0\0\xa4\x81"),
        "damaged",
    ),
    "wide on several disks": (zip_of(*TWO, wide={"disks": 2}), "several"),
    "wide beyond": (zip_of(*TWO, wide={"at": 2**40}), "damaged"),
    "wide without record": (zip_of(*TWO, wide={"record": b"none"}), "damaged"),
    "wide of two minds": (zip_of(*TWO, wide={"short": 7}), "damaged"),
    "wide field too short": (named("a", size=2**32 - 1, extra=struct.pack("<2HL", 1, 4, 9)), "zip64"),
    "nested": (
        zip_of(Zipped(name=b"inner.zip", data=INNER), Zipped(name=b"b", data=INNER)),
        "nothing but archives",
    ),
    "only folders": (named("a/", data=b"", method=0), "no files"),
    "only junk": (named("__MACOSX/a", ".DS_Store"), "no files"),
    "nothing": (zip_of(), "no files"),
}
TARS = {
    "symlink": (tar_of(FILE, (b"l", b"", b"2")), "symbolic link"),
    "hard link": (tar_of(FILE, (b"l", b"", b"1")), "hard link"),
    "character device": (tar_of((b"d", b"", b"3")), "device"),
    "block device": (tar_of((b"d", b"", b"4")), "device"),
    "fifo": (tar_of((b"f", b"", b"6")), "fifo"),
    "sparse": (tar_of((b"f", b"", b"S")), "sparse"),
    "volumes": (tar_of((b"f", b"", b"M")), "volumes"),
    "unknown type": (tar_of((b"f", b"", b"\n")), "unknown"),
    "pax sparse": (tar_of(pax(GNU_sparse_major=b"1"), FILE), "sparse"),
    "pax up": (tar_of(pax(path=b"../x"), FILE), r"\.\."),
    "pax NUL": (tar_of(pax(path=b"a\0b"), FILE), "control"),
    "pax for all": (tar_of((b"g", pax(path=b"b")[1], b"g"), FILE), "one name"),
    "pax size": (tar_of(pax(size=b"-1"), FILE), "damaged"),
    "pax size huge": (tar_of(pax(size=b"9" * 5000), FILE), "damaged"),
    "pax record": (tar_of((b"p", b"99 path=a\n", b"x"), FILE), "damaged"),
    "pax without length": (tar_of((b"p", b"path=a\n", b"x"), FILE), "damaged"),
    "pax of 8 MiB": (tar_of((b"p", bytes(8 * 2**20), b"x"), FILE), "at most"),
    "pax for nothing": (tar_of(FILE, pax(path=b"b")), "damaged"),
    "long name up": (tar_of((b"L", b"../x\0", b"L"), FILE), r"\.\."),
    "NUL": (tar_of((b"a\0.png", FACE, b"0")), "NUL"),
    "not UTF-8": (tar_of((b"\xff", FACE, b"0")), "UTF-8"),
    "checksum": (tar_of(FILE, header(checksum=9)), "damaged"),
    "size of letters": (tar_of(FILE, header(number=b"zzzzzzzzzzz\0")), "damaged"),
    "size below zero": (tar_of(FILE, header(number=b"\xff" * 12)), "damaged"),
    "size of a galaxy": (tar_of(FILE, header(b"b", number=b"\x80" + b"\x7f" * 11)), "at most"),
    "folder with bytes": (tar_of(FILE, header(b"d/", 9, b"5")), "folder that says"),
    "cut off in a file": (tar_of(FILE)[:1500], "cut off"),
    "cut off in a header": (tar_of(FILE, FILE)[:3200], "cut off"),
    "cut off between": (tar_of(FILE, end=b""), "cut off"),
    "cut off in a hole": (tar_of(FILE, header(b"b", 9999), end=b""), "cut off"),
    "goes on": (tar_of(FILE) + tar_of(FILE), "behind its end"),
    "padded": (tar_of(FILE, end=bytes(20 * 2**20)), "padded"),
    "nested": (tar_of((b"inner.tgz", gzip.compress(tar_of(FILE)), b"0")), "nothing but archives"),
    "nothing": (tar_of((b"d/", b"", b"5")), "no files"),
    "gz cut off": (gzip.compress(tar_of(FILE))[:-9], "cut off"),
    "gz checksum": (gzip.compress(tar_of(FILE))[:-8] + bytes(8), "damaged"),
    "gz damaged": (gzip.compress(os.urandom(9))[:10] + b"\xff" * 99, "damaged"),
    "gz and more": (gzip.compress(tar_of(FILE)) + b"more", "damaged"),
    "gz cut off in a hole": (gzip.compress(tar_of(FILE, header(b"b", 9999), end=b"")), "cut off"),
    "gz bomb": (gzip.compress(tar_of((b"z", bytes(30 * 2**20), b"0"))), "bomb"),
    "gz bomb of padding": (gzip.compress(tar_of(FILE, end=bytes(12 * 2**20))), "bomb"),
    "bz2 bomb": (bz2.compress(tar_of((b"z", bytes(30 * 2**20), b"0"))), "bomb"),
    "xz bomb": (lzma.compress(tar_of((b"z", bytes(30 * 2**20), b"0")), preset=0), "bomb"),
    "xz dictionary": (lzma.compress(tar_of(FILE), filters=XZ_HUGE), "damaged.*[Mm]emory"),
    "xz damaged": (lzma.compress(tar_of(FILE))[:-30] + bytes(30), "damaged"),
    "bz2 damaged": (bz2.compress(tar_of(FILE))[:-9] + bytes(9), "damaged"),
    "gz of one file": (gzip.compress(b"emotion,pixels,Usage\n" * 99), "gunzip"),
    "7z": (b"7z\xbc\xaf\x27\x1c" + bytes(600), "a 7z file"),
    "rar": (b"Rar!\x1a\x07\1\0", "a rar file"),
    "text": (b"emotion,pixels,Usage\n" * 99, "no archive"),
    "empty": (b"", "no archive"),
}
HOSTILE = (
    {f"zip {what}": (named(name), say) for what, (name, say) in BAD_NAMES.items()}
    | {f"tar {what}": (tar_of(pax(path=n.encode()), FILE), say) for what, (n, say) in BAD_NAMES.items()}
    | {f"zip {what}": (named(a, b, data=b"", method=0), say) for what, (a, b, say) in TWINS.items()}
    | {
        f"tar {what}": (tar_of((a.encode(), b"", b"0"), (b.encode(), b"", b"0")), say)
        for what, (a, b, say) in TWINS.items()
    }
    | {f"zip {what}": case for what, case in ZIPS.items()}
    | {f"tar {what}": case for what, case in TARS.items()}
)


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


def million_in_tar(path):
    """As many headers of a million as are read before the refusal, and more, compressed."""
    block = header(b"0000000")
    with gzip.open(path, "wb", compresslevel=1) as out:
        for start in range(0, 21 * 10**4, 10**4):
            blocks = bytearray(block * 10**4)
            for i in range(10**4):
                digits = b"%07d" % (start + i)
                blocks[i * 512 : i * 512 + 7] = digits
                # The digits of the name change, and so does the checksum.
                sums = int(block[148:154], 8) + sum(digits) - 7 * 48
                blocks[i * 512 + 148 : i * 512 + 154] = b"%06o" % sums
            out.write(blocks)


def long_names_in_zip(path):
    """As many and as long names as the limits let through, each in its own folder; one is there twice."""
    names = [b"%06d/%s" % (i, ("\U0001f600" + "x" * 60).encode()) for i in range(99_990)]
    path.write_bytes(zip_of(*(Zipped(name=name, data=b"", method=0) for name in [*names, names[0]]), wide={}))


def heavy(path, what):
    """Write one of the big ones to `path`; return it with what the refusal says."""
    if what == "zip":
        million_in_zip(path, lie=False)
        return path, "1,000,000 entries"
    if what == "zip that lies":
        million_in_zip(path, lie=True)
        return path, "more entries than the 16,960"
    if what == "zip of long names":
        long_names_in_zip(path)
        return path, "is there twice"
    if what == "tar.gz":
        million_in_tar(path)
        return path, "more than 200,000 files"
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    body = b"".join(packer.compress(bytes(2**20)) for _ in range(300)) + packer.flush()
    path.write_bytes(named("a", data=b"", body=body, size=90 * len(body)))
    return path, "has more"
