"""Hostile zips and workbooks, each made from the sound data and log of a package (or the sound workbook)."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from collections.abc import Callable
from functools import cache

from tests.intake.making import make_log, make_zip

DAT, LOG = "CLGRDK_202403.dat", "CLGRDK_202403.log"
GIGABYTE = 1 << 30
_LOCAL, _CENTRAL, _END = "<IHHHHHIIIHH", "<IHHHHHHIIIHHHHHII", "<IHHHHIIH"


def _named(*entries: tuple[str, bytes], attributes: int = 0) -> bytes:
    """A zip of entries in this order, names not checked; the attributes are those of the first entry."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for number, (name, content) in enumerate(entries):
            entry = zipfile.ZipInfo(name)
            entry.external_attr = attributes if number == 0 else 0
            archive.writestr(entry, content, zipfile.ZIP_DEFLATED)
    return out.getvalue()


def _raw(name: str, packed: bytes, size: int, crc: int, *, stated: int | None = None, copies: int = 1) -> bytes:
    """A zip of one deflated stream, `copies` directory entries pointing at it, with the size that is stated."""
    told, octets = size if stated is None else stated, name.encode()
    out = struct.pack(_LOCAL, 0x04034B50, 20, 0, 8, 0, 33, crc, len(packed), told, len(octets), 0) + octets + packed
    start, directory = len(out), b""
    for number in range(copies):
        own = octets if number == 0 else octets.replace(b".dat", f"_{number}.dat".encode())
        directory += struct.pack(
            _CENTRAL, 0x02014B50, 20, 20, 0, 8, 0, 33, crc, len(packed), told, len(own), 0, 0, 0, 0, 0, 0
        )
        directory += own
    return out + directory + struct.pack(_END, 0x06054B50, 0, 0, copies, copies, len(directory), start, 0)


def _deflated(content: bytes) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    return packer.compress(content) + packer.flush()


@cache
def _repeated(block: bytes, times: int) -> tuple[bytes, int]:
    """A deflate stream that unpacks to a block many times over, made without unpacking it; and its checksum."""
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    crc = 0
    for _ in range(times):
        crc = zlib.crc32(block, crc)
    return packed * times + b"\x03\x00", crc


def bomb_ratio(data: bytes, log: bytes) -> bytes:
    """64 MiB of one character: a thousand to one."""
    content = b"x" * (64 << 20)
    return _raw(DAT, _deflated(content), len(content), zlib.crc32(content))


def bomb_total(data: bytes, log: bytes) -> bytes:
    """Three entries that say they hold 3 GiB each."""
    return _raw(DAT, _deflated(data), len(data), zlib.crc32(data), stated=3 * GIGABYTE, copies=3)


def bomb_member(data: bytes, log: bytes) -> bytes:
    """One entry that says it holds 4.2 GB, more than a member may."""
    return _raw(DAT, _deflated(data), len(data), zlib.crc32(data), stated=0xFFFFFFFE)


def understated(data: bytes, log: bytes) -> bytes:
    """The directory says 100 bytes, the stream holds 64 MiB."""
    content = b"x" * (64 << 20)
    return _with_log(_raw(DAT, _deflated(content), len(content), zlib.crc32(content), stated=100), log)


def overstated(data: bytes, log: bytes) -> bytes:
    """The directory says ten bytes more than there are."""
    out = io.BytesIO(_named((DAT, data), (LOG, log)))
    octets = bytearray(out.getvalue())
    place = octets.rindex(struct.pack("<I", zlib.crc32(data))) + 8
    octets[place : place + 4] = struct.pack("<I", len(data) + 10)
    return bytes(octets)


def overlapping(data: bytes, log: bytes) -> bytes:
    """Sixty directory entries that share the bytes of one."""
    return _raw(DAT, _deflated(data), len(data), zlib.crc32(data), copies=60)


def wrong_crc(data: bytes, log: bytes) -> bytes:
    octets = _named((DAT, data), (LOG, log))
    right = struct.pack("<I", zlib.crc32(data))
    return octets.replace(right, struct.pack("<I", zlib.crc32(data) ^ 1))


def damaged_middle(data: bytes, log: bytes) -> bytes:
    octets = bytearray(_named((DAT, data), (LOG, log)))
    middle = 30 + len(DAT) + 200
    octets[middle : middle + 40] = bytes(byte ^ 0xFF for byte in octets[middle : middle + 40])
    return bytes(octets)


def many_entries(data: bytes, log: bytes) -> bytes:
    return _named((DAT, data), (LOG, log), *((f"part{number}.dat", b"") for number in range(500)))


def nested(data: bytes, log: bytes) -> bytes:
    return make_zip({"CLGRDK_202403.zip": make_zip({DAT: data, LOG: log})})


def quine_like(data: bytes, log: bytes) -> bytes:
    """Sixteen zips in a zip, each holding sixteen more."""
    inner = make_zip({f"{n}.zip": make_zip({DAT: b"x" * 4096}) for n in range(16)})
    return make_zip({f"{number}.zip": inner for number in range(16)})


def gigabyte_line(data: bytes, log: bytes) -> bytes:
    """One line of 1 GiB, packed about 60:1 so that no ratio gives it away."""
    block = b"".join(zlib.crc32(n.to_bytes(4, "big")).to_bytes(4, "big").hex().encode() * 16 for n in range(8192))
    packed, crc = _repeated(block, GIGABYTE // len(block))
    one = _raw(DAT, packed, GIGABYTE, crc)
    return _with_log(one, make_log(b"", 1, name=DAT, md5="0" * 32, size=str(GIGABYTE), count="1"))


def _with_log(archive: bytes, log: bytes) -> bytes:
    out = io.BytesIO(archive)
    with zipfile.ZipFile(out, "a") as package:
        package.writestr(LOG, log)
    return out.getvalue()


def other_local_name(data: bytes, log: bytes) -> bytes:
    """The entry itself bears another name than the directory says."""
    return _named((DAT, data), (LOG, log)).replace(DAT.encode(), b"CLGRDK_202404.dat", 1)


def pointing_outside(data: bytes, log: bytes) -> bytes:
    """A directory whose first entry lies behind the end of the file."""
    octets = bytearray(_named((DAT, data), (LOG, log)))
    place = octets.index(b"PK\x01\x02") + 42
    octets[place : place + 4] = struct.pack("<I", 1 << 30)
    return bytes(octets)


def pointing_before(data: bytes, log: bytes) -> bytes:
    """The zip lost its first hundred bytes: every place in it is a hundred too far."""
    return _named((DAT, data), (LOG, log))[100:]


def encrypted(data: bytes, log: bytes) -> bytes:
    """Flagged as encrypted, in the entry and in the directory."""
    octets = bytearray(_named((DAT, data), (LOG, log)))
    for mark, place in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        at = octets.index(mark) + place
        octets[at] |= 1
    return bytes(octets)


def other_method(data: bytes, log: bytes) -> bytes:
    return make_zip({DAT: data, LOG: log}, zipfile.ZIP_LZMA)


def prefixed(data: bytes, log: bytes) -> bytes:
    """A program in front of the zip, as self-extracting archives have."""
    return b"MZ" + bytes(510) + _named((DAT, data), (LOG, log))


def _of(*entries: tuple[str, bytes | None], attributes: int = 0) -> Callable[[bytes, bytes], bytes]:
    """Maker of a zip with these names in front of data and log; None stands for the data."""

    def make(data: bytes, log: bytes) -> bytes:
        given = [(name, data if content is None else content) for name, content in entries]
        return _named(*given, (DAT, data), (LOG, log), attributes=attributes)

    return make


MAKERS: dict[str, Callable[[bytes, bytes], bytes]] = {
    "bomb_ratio": bomb_ratio,
    "bomb_total": bomb_total,
    "bomb_member": bomb_member,
    "understated": understated,
    "overstated": overstated,
    "overlapping": overlapping,
    "wrong_crc": wrong_crc,
    "damaged_middle": damaged_middle,
    "many_entries": many_entries,
    "nested": nested,
    "quine_like": quine_like,
    "gigabyte_line": gigabyte_line,
    "encrypted": encrypted,
    "other_local_name": other_local_name,
    "pointing_outside": pointing_outside,
    "pointing_before": pointing_before,
    "other_method": other_method,
    "prefixed": prefixed,
    "traversal": _of(("../../../etc/cron.d/job.dat", None)),
    "traversal_backslash": _of(("..\\..\\Windows\\job.dat", None)),
    "traversal_inside": _of(("a/../../b.dat", None)),
    "absolute_path": _of(("/etc/passwd.dat", None)),
    "drive_path": _of(("C:\\data\\CLGRDK.dat", None)),
    "symlink": _of(("link.dat", b"/etc/passwd"), attributes=(0o120777 << 16)),
    "duplicate_name": _of((DAT, b"x")),
    "duplicate_log": _of((LOG, b"x")),
    "control_character": _of(("CLGRDK\n_202403.dat", None)),
    "right_to_left": _of(("CLGRDK_‮tad.202403.dat", None)),
    "nul_in_name": lambda data, log: _of(("X.dat#.exe", None))(data, log).replace(b"X.dat#.exe", b"X.dat\0.exe"),
    "other_archive": _of(("more.tar.gz", b"x")),
    "folder": _of(("data/", b"")),
    "case_twins": _of(("CLGRDK_202403.DAT", None)),
    "no_log": lambda data, log: _named((DAT, data)),
    "no_data": lambda data, log: _named((LOG, log)),
    "log_of_another": lambda data, log: _named((DAT, data), ("CLGRDK_202402.log", log)),
    "empty": lambda data, log: _named(),
    "a_workbook": lambda data, log: make_zip({"[Content_Types].xml": b"<Types/>", "xl/workbook.xml": b"<workbook/>"}),
    "in_a_folder": lambda data, log: _named((f"202403/{DAT}", data), (f"202403/{LOG}", log)),
}


def entity_expansion(book: bytes) -> bytes:
    """Nine levels of ten: a billion laughs in the sheet."""
    laughs = "".join(f'<!ENTITY l{n} "{f"&l{n - 1};" * 10}">' for n in range(1, 10))
    doctype = f'<!DOCTYPE lolz [<!ENTITY l0 "lol">{laughs}]>'
    return _edited(book, "xl/worksheets/sheet1.xml", lambda xml: _with_doctype(xml, doctype, b"&l9;"))


def external_entity(book: bytes) -> bytes:
    """A cell that asks for a file of the reader."""
    doctype = '<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/passwd">]>'
    return _edited(book, "xl/worksheets/sheet1.xml", lambda xml: _with_doctype(xml, doctype, b"&e;"))


def _with_doctype(xml: bytes, doctype: str, reference: bytes) -> bytes:
    head, body = xml.split(b"<worksheet", 1)
    cell = b'<c r="R3" t="inlineStr"><is><t>' + reference + b"</t></is></c></row>"
    return head + doctype.encode() + b"<worksheet" + _last_cell(body, cell)


def _last_cell(body: bytes, cell: bytes) -> bytes:
    """The body with another last cell in sheet row 3, the first row of data."""
    start = body.index(b'<c r="R3"')
    end = body.index(b"</row>", start)
    return body[:start] + cell + body[end + len(b"</row>") :]


def far_cell(book: bytes) -> bytes:
    """One cell at the far corner of the sheet."""
    far = b'<row r="1048576"><c r="XFD1048576"><v>1</v></c></row></sheetData>'
    return _edited(book, "xl/worksheets/sheet1.xml", lambda xml: xml.replace(b"</sheetData>", far))


def shared_bomb(book: bytes) -> bytes:
    """64 MiB of blanks in another part of the workbook."""
    return _edited(book, "docProps/core.xml", lambda xml: xml + b" " * (64 << 20))


def broken_sheet(book: bytes) -> bytes:
    return _edited(book, "xl/worksheets/sheet1.xml", lambda xml: xml[: len(xml) // 2])


def no_sheet(book: bytes) -> bytes:
    return _edited(book, "xl/worksheets/sheet1.xml", None)


def macro_part(book: bytes) -> bytes:
    """A workbook with a macro inside: read as data, the macro never looked at."""
    with zipfile.ZipFile(io.BytesIO(book)) as archive:
        members = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    return make_zip({**members, "xl/vbaProject.bin": b"\xd0\xcf\x11\xe0" + bytes(512)})


def _edited(book: bytes, part: str, edit: Callable[[bytes], bytes] | None) -> bytes:
    with zipfile.ZipFile(io.BytesIO(book)) as archive:
        members = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    if edit is None:
        members.pop(part)
    else:
        members[part] = edit(members[part])
    return make_zip(members)


BOOKS: dict[str, Callable[[bytes], bytes]] = {
    "entity_expansion": entity_expansion,
    "external_entity": external_entity,
    "far_cell": far_cell,
    "shared_bomb": shared_bomb,
    "broken_sheet": broken_sheet,
    "no_sheet": no_sheet,
    "macro_part": macro_part,
}
