"""Archives made by hand, byte by byte, because no packer makes hostile ones."""

import bz2
import gzip
import io
import lzma
import random
import stat
import struct
import tarfile
import zipfile
import zlib
from dataclasses import dataclass

FACE = bytes(range(256)) * 9


@dataclass(frozen=True, kw_only=True)
class Zipped:
    """One zip entry; every field but name and data is a lie when it is given."""

    name: bytes = b"a.png"
    data: bytes = FACE
    method: int = 8
    flags: int = 0x800
    mode: int = stat.S_IFREG | 0o644
    crc: int | None = None
    size: int | None = None
    packed: int | None = None
    body: bytes | None = None
    local: bytes | None = None
    local_method: int | None = None
    local_size: int | None = None
    local_extra: bytes = b""
    offset: int | None = None
    disk: int = 0
    extra: bytes = b""


def deflated(data):
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(data) + packer.flush()


def zip_of(*entries, count=None, disk=0, comment=b"", shift=0, wide=None, gap=b""):
    out, directory = bytearray(), bytearray()
    for entry in entries:
        body = entry.body
        if body is None:
            body = deflated(entry.data) if entry.method == 8 else entry.data
        crc = zlib.crc32(entry.data) if entry.crc is None else entry.crc
        size = len(entry.data) if entry.size is None else entry.size
        packed = len(body) if entry.packed is None else entry.packed
        offset = len(out) if entry.offset is None else entry.offset
        local = entry.name if entry.local is None else entry.local
        method = entry.method if entry.local_method is None else entry.local_method
        local_size = size if entry.local_size is None else entry.local_size
        sums = (crc, packed, size)
        out += struct.pack("<4s5H3L", b"PK\3\4", 20, entry.flags, method, 0, 33, crc, packed, local_size)
        out += struct.pack("<2H", len(local), len(entry.local_extra)) + local + entry.local_extra + body
        directory += struct.pack("<4s6H3L", b"PK\1\2", 788, 20, entry.flags, entry.method, 0, 33, *sums)
        lengths = (len(entry.name), len(entry.extra), 0, entry.disk, 0, entry.mode << 16, offset)
        directory += struct.pack("<5H2L", *lengths) + entry.name + entry.extra
    count = len(entries) if count is None else count
    start, length = len(out) + shift, len(directory)
    out += directory + gap
    if wide is not None:
        full = {"disks": 1, "start": start, "at": len(out), "record": b"PK\6\6", "length": 44} | wide
        numbers = (0, 0, count, count, length, full["start"])
        out += struct.pack("<4sQ2H2L4Q", full["record"], full["length"], 45, 45, *numbers)
        out += struct.pack("<4sLQL", b"PK\6\7", 0, full["at"], full["disks"])
        start, count = wide.get("short", 2**32 - 1), min(count, 2**16 - 1)
    out += struct.pack("<4s4H2LH", b"PK\5\6", disk, disk, count, count, length, start, len(comment))
    return bytes(out) + comment


def named(*names, **lies):
    return zip_of(*(Zipped(name=n if isinstance(n, bytes) else n.encode(), **lies) for n in names))


def header(name=b"a.png", size=0, kind=b"0", number=None, checksum=None):
    number = b"%011o\0" % size if number is None else number
    block = bytearray(name.ljust(100, b"\0") + b"0000644\0" + b"0000000\0" * 2 + number + b"0" * 11 + b"\0")
    block += b" " * 8 + kind + bytes(100) + b"ustar\00000" + bytes(247)
    block[148:156] = b"%06o\0 " % (sum(block) if checksum is None else checksum)
    return bytes(block)


def tar_of(*members, end=bytes(1024)):
    """Each member is (name, data, kind) or a finished piece."""
    out = b""
    for member in members:
        if isinstance(member, bytes):
            out += member
        else:
            name, data, kind = member
            out += header(name, len(data), kind) + data + bytes(-len(data) % 512)
    return out + end


def pax(**records):
    text = b""
    for key, value in records.items():
        rest = b" " + key.replace("_", ".").encode() + b"=" + value + b"\n"
        length = len(rest) + len(str(len(rest) + len(str(len(rest)))))
        text += b"%d" % length + rest
    return b"pax", text, b"x"


FILE = (b"a.png", FACE, b"0")
TWO = (Zipped(name=b"a.png"), Zipped(name=b"b.png"))


LONG = "data/" + "long " * 30 + "/happy/é 表情.png"
FILES = {
    "data/data/train/happy/1.png": FACE,
    "data/data/train/sad/2.png": b"",
    "data/data/test/happy/3.png": random.Random(1).randbytes(3 * 2**20),
    LONG: b"long",
}


def zipped(files=FILES, method=zipfile.ZIP_DEFLATED, *, stream=False, wide=False):
    class Forward(io.BytesIO):
        def seek(self, *where):
            if stream:
                raise OSError("a pipe does not seek")
            return super().seek(*where)

    out = Forward()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.writestr("data/", b"")
        for name, data in files.items():
            with archive.open(zipfile.ZipInfo(name), "w", force_zip64=wide) as member:
                member.write(data)
    return out.getvalue()


def tarred(files=FILES, kind=tarfile.PAX_FORMAT, *, folder=True):
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=kind) as archive:
        if folder:
            info = tarfile.TarInfo("./")
            info.type = tarfile.DIRTYPE
            archive.addfile(info)
        for name, data in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def wide():
    """A zip whose every number stands in a zip64 field, behind one that is unknown."""
    lost = struct.pack("<4H3QL", 9, 0, 1, 28, len(FACE), len(deflated(FACE)), 0, 0)
    full = 2**32 - 1
    first = Zipped(size=full, packed=full, local_size=full, disk=2**16 - 1, offset=full, extra=lost)
    return zip_of(first, Zipped(name=b"b.png"), wide={})


SHORT = {name: data for name, data in FILES.items() if name != LONG}
PAIR = {"a.png": FACE, "b.png": FACE}
# Around the size of the pieces that are handed on.
NOISE = random.Random(2).randbytes(30_000) * 40
ROUND = {f"{n}.bin": NOISE[: 2**20 + n] for n in range(-2, 3)}
EMPTY_BLOCKS = b"\0\0\0\xff\xff" * 220_000
GOOD = {
    "zip around a piece": lambda: (zipped(ROUND), ROUND),
    "tar.gz around a piece": lambda: (gzip.compress(tarred(ROUND)), ROUND),
    "zip": lambda: (zipped(), FILES),
    "zip stored": lambda: (zipped(method=zipfile.ZIP_STORED), FILES),
    "zip streamed": lambda: (zipped(stream=True), FILES),
    "zip with zip64 sizes": lambda: (zipped(wide=True), FILES),
    "zip64": lambda: (wide(), PAIR),
    "zip with a comment": lambda: (zip_of(*TWO, comment=b"PK\5" * 9), PAIR),
    "zip in code page 437": lambda: (named(b"\x82.png", flags=0), {"é.png": FACE}),
    "zip in UTF-8 unsaid": lambda: (named("é.png", flags=0), {"é.png": FACE}),
    "zip with nothing deflated": lambda: (named("a", data=b"", body=b""), {"a": b""}),
    "zip with an unknown field": lambda: (named("a", extra=b"\7\0\1\0x"), {"a": FACE}),
    "zip with a folder twice": lambda: (
        zip_of(Zipped(name=b"a/", data=b""), Zipped(name=b"a/b"), Zipped(name=b"a/", data=b"")),
        {"a/b": FACE},
    ),
    "zip of csv and archive": lambda: (named("a.csv", "b.zip"), {"a.csv": FACE, "b.zip": FACE}),
    "zip with the sizes behind": lambda: (named("a", flags=0x808, local_size=0), {"a": FACE}),
    "zip with blocks of nothing": lambda: (named("a", body=EMPTY_BLOCKS + deflated(FACE)), {"a": FACE}),
    "zip from a Mac": lambda: (named("a", "._a", "__MACOSX/._a", ".DS_Store", "b/Thumbs.db"), {"a": FACE}),
    "zip of black bitmaps": lambda: (named("a", data=bytes(10**6)), {"a": bytes(10**6)}),
    "zip of joined emoji": lambda: (
        named("\U0001f468\u200d\U0001f469.png"),
        {"\U0001f468\u200d\U0001f469.png": FACE},
    ),
    "tar pax": lambda: (tarred(), FILES),
    "tar GNU": lambda: (tarred(kind=tarfile.GNU_FORMAT), FILES),
    "tar ustar": lambda: (tarred(SHORT, tarfile.USTAR_FORMAT), SHORT),
    "tar v7": lambda: (
        tar_of(FILE, (b"d/", b"", b"\0"), (b"d/b", FACE, b"\0")),
        {"a.png": FACE, "d/b": FACE},
    ),
    "tar with a long link note": lambda: (tar_of((b"K", b"target", b"K"), FILE), {"a.png": FACE}),
    "tar from git": lambda: (tar_of((b"g", pax(comment=b"1234")[1], b"g"), FILE), {"a.png": FACE}),
    "tar with a pax size": lambda: (
        tar_of(pax(size=b"2304"), header(b"a.png", 0) + FACE + bytes(256)),
        {"a.png": FACE},
    ),
    "tar with a prefix": lambda: (
        tarred({f"{'d' * 90}/{'e' * 90}": FACE}, tarfile.USTAR_FORMAT),
        {f"{'d' * 90}/{'e' * 90}": FACE},
    ),
    "tar with a wide size": lambda: (
        tar_of(header(b"a.png", number=b"\x80" + (2304).to_bytes(11, "big")) + FACE + bytes(256)),
        {"a.png": FACE},
    ),
    "tar with one zero block": lambda: (tar_of(FILE, end=bytes(512)), {"a.png": FACE}),
    "tar.gz": lambda: (gzip.compress(tarred()), FILES),
    "tar.gz in two streams": lambda: (
        gzip.compress(tarred()[:9999]) + gzip.compress(tarred()[9999:]) + bytes(99),
        FILES,
    ),
    "tar.gz with blocks of nothing": lambda: (
        gzip.compress(tarred(PAIR))[:10] + EMPTY_BLOCKS + gzip.compress(tarred(PAIR))[10:],
        PAIR,
    ),
    "tar.bz2": lambda: (bz2.compress(tarred(PAIR)), PAIR),
    "tar.bz2 in two streams": lambda: (
        bz2.compress(tarred(PAIR)[:999]) + bz2.compress(tarred(PAIR)[999:]),
        PAIR,
    ),
    "tar.xz": lambda: (lzma.compress(tarred(), preset=0), FILES),
    "tar.xz padded": lambda: (lzma.compress(tarred(), preset=0) + bytes(8), FILES),
}
