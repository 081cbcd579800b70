"""What is inside a delivery: its members, opened as bounded streams, and what is wrong with the package itself.

A package is hostile until proven otherwise: sizes, ratios, names, duplicates, nesting and overlaps are checked in the
directory before a byte is unpacked, and no stream gives more bytes than the directory declared. The PBoC convention
(金融基础数据) is a zip of `<base>.dat` and `<base>.log`, the log having five lines: file name, MD5, size in bytes,
timestamp, record count; an empty file is legal with count 0 and a blank MD5 (DOMAIN section 2.3). What a feed says is
wrapped (`package`, `inside`) is opened from outside in, and nothing else is.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import re
import stat
import tempfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import BinaryIO, Final, cast

from etl.findings import FileFinding
from etl.intake import openpgp
from etl.intake.bundles import PART_NUMBER
from etl.registry import Feed

LOG_LINES: Final = 5
READ_BYTES: Final = 1 << 19
_LOG_BYTES: Final = 64 * 1024
_SIDECAR_BYTES: Final = 4 * 1024
_ARCHIVES: Final = (".zip", ".gz", ".bz2", ".xz", ".7z", ".rar", ".tar", ".tgz", ".zst")
_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_WRAPPED_ENDINGS: Final = {"gzip": (".gz", ".gzip"), "openpgp": (".gpg", ".pgp", ".asc")}
BROKEN_ZIP: Final = (
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
)


class TooMuchError(ValueError):
    """What is being unpacked gives more than its caps allow."""


@dataclass(frozen=True)
class Caps:
    """How much a package may unpack to. A real text file stays far below 200:1; a bomb reaches 1000:1."""

    members: int = 64
    member_bytes: int = 4 << 30
    total_bytes: int = 8 << 30
    ratio: int = 200
    ratio_free_bytes: int = 16 << 20


@dataclass(frozen=True)
class Promise:
    """What the package says of a member, to be held against what is read: MD5 (None where blank), bytes, records."""

    md5: str | None
    size_bytes: int
    records: int


@dataclass(frozen=True)
class Member:
    """One data file of a delivery. `open_raw` gives its bytes; it may raise one of BROKEN_ZIP while it is read."""

    name: str
    open_raw: Callable[[], BinaryIO]
    promise: Promise | None = None


@dataclass(frozen=True)
class Package:
    """The members of a delivery; `scratch` are the files unpacked on the way, which are gone once it is closed."""

    members: list[Member] = field(default_factory=list)
    findings: list[FileFinding] = field(default_factory=list)
    scratch: list[BinaryIO] = field(default_factory=list)

    def close(self) -> None:
        for file in self.scratch:
            file.close()


class _BoundedGzip(io.RawIOBase):
    """What a gzip file (of one or several gzip members) unpacks to, up to the caps; raises TooMuchError beyond."""

    def __init__(self, packed: BinaryIO, caps: Caps) -> None:
        super().__init__()
        self._packed = _Counted(packed)
        self._file = gzip.GzipFile(fileobj=cast(BinaryIO, self._packed), mode="rb")
        self._caps, self._size = caps, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._file.read(size if size >= 0 else self._caps.member_bytes + 1)
        self._size += len(data)
        if not self._packed.size_bytes:
            raise gzip.BadGzipFile("empty")
        _refuse_too_much(self._size, self._packed.size_bytes, self._caps)
        return data

    def close(self) -> None:
        self._file.close()
        self._packed.close()
        super().close()


class _Counted(io.RawIOBase):
    """Counts the bytes that are read."""

    def __init__(self, raw: BinaryIO) -> None:
        super().__init__()
        self._raw, self.size_bytes = raw, 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._raw.read(size)
        self.size_bytes += len(data)
        return data

    def close(self) -> None:
        self._raw.close()
        super().close()


def _refuse_too_much(size: int, packed: int, caps: Caps) -> None:
    if size > caps.member_bytes or (size > caps.ratio_free_bytes and size > caps.ratio * packed):
        raise TooMuchError(f"{size} bytes from {packed}")


class MeteredStream(io.RawIOBase):
    """Reads a member while counting and hashing it, so that the promise can be checked without a second pass."""

    def __init__(self, raw: BinaryIO, *, with_md5: bool) -> None:
        super().__init__()
        self._raw = raw
        self._md5 = hashlib.md5(usedforsecurity=False) if with_md5 else None
        self.size_bytes = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        data = self._raw.read(size)
        self.size_bytes += len(data)
        if self._md5:
            self._md5.update(data)
        return data

    def drain(self) -> None:
        """Read what is left, so that size and hash are those of the whole member."""
        while self.read(READ_BYTES):
            pass

    def md5(self) -> str | None:
        return self._md5.hexdigest() if self._md5 else None

    def close(self) -> None:
        self._raw.close()
        super().close()


def members(
    delivery_file: BinaryIO,
    feed: Feed,
    name: str,
    *,
    sidecar: bytes | None = None,
    sha256: str | None = None,
    caps: Caps | None = None,
    keyring: Path | None = None,
    scratch: Path | None = None,
) -> Package:
    """The members of a landed delivery and the findings P101, P107, P108 of the package; to be closed after reading.

    `name` is the supplier's file name; `sidecar` the content of `<name>.sha256` and `sha256` the hash of the landed
    bytes where the package is a sidecar. `keyring` is the GnuPG home with the county's key, `scratch` the private
    folder for what has to be unpacked to disk (never under a name). Every member's stream starts at its beginning each
    time it is opened. Raises ConfigurationError when an OpenPGP package cannot be opened for reasons of our own.
    """
    findings = _check_sidecar(name, sidecar, sha256) if feed.package == "sidecar" else []
    unwrapping = _Unwrapping(feed, name, caps or Caps(), keyring, scratch)
    try:
        found = unwrapping.members(whole(delivery_file, name))
    except openpgp.NotDecryptedError as error:
        found = Package([], [FileFinding("P107", name, error.zh, error.en, error.fix_zh)])
    except TooMuchError:
        says = ("解压后过大", "it unpacks to too much", "按月拆分后重新压缩报送")
        found = Package([], [FileFinding("P107", name, *says)])
    except BROKEN_ZIP as error:
        en = f"what it is packed in is damaged ({type(error).__name__})"
        found = Package([], [FileFinding("P107", name, "压缩包内容损坏", en, "重新压缩后再报送")])
    return Package(found.members, findings + found.findings, unwrapping.scratch)


class _Unwrapping:
    """Opens the layers of one delivery from outside in."""

    def __init__(self, feed: Feed, name: str, caps: Caps, keyring: Path | None, folder: Path | None) -> None:
        self._feed, self._name, self._caps = feed, name, caps
        self._keyring, self._folder = keyring, folder
        self.scratch: list[BinaryIO] = []

    def members(self, member: Member) -> Package:
        for kind in self._feed.wrappings:
            if kind == "gzip":
                member = self._gunzipped(member)
            elif kind == "openpgp":
                member = self._decrypted(member)
            else:
                return self._zipped(member, kind)
        return Package([member])

    def _gunzipped(self, packed: Member) -> Member:
        return Member(
            _unwrapped_name(packed.name, "gzip"),
            lambda: cast(BinaryIO, _BoundedGzip(packed.open_raw(), self._caps)),
        )

    def _decrypted(self, sealed: Member) -> Member:
        """Decrypted as a whole before a byte of it is looked at: only the end of the file shows that it is genuine."""
        plain = self._new_scratch()
        source = _Counted(sealed.open_raw())

        def write(data: bytes) -> None:
            plain.write(data)
            _refuse_too_much(plain.tell(), source.size_bytes, self._caps)

        with source:
            openpgp.decrypt(cast(BinaryIO, source), write, self._keyring, signer=self._feed.signer)
        return whole(plain, _unwrapped_name(sealed.name, "openpgp"))

    def _zipped(self, member: Member, kind: str) -> Package:
        file = self._seekable(member)
        return (
            _pboc(file, member.name, self._caps) if kind == "pboc" else _zip(file, self._feed, member.name, self._caps)
        )

    def _seekable(self, member: Member) -> BinaryIO:
        raw = member.open_raw()
        if raw.seekable():
            return raw
        spooled = self._new_scratch()
        with raw:
            while chunk := raw.read(READ_BYTES):
                spooled.write(chunk)
        return spooled

    def _new_scratch(self) -> BinaryIO:
        """A file that has no name and goes with the last hand that holds it."""
        file = cast(BinaryIO, tempfile.TemporaryFile(dir=self._folder))  # noqa: SIM115 - Package.close closes it
        self.scratch.append(file)
        return file


def _unwrapped_name(name: str, kind: str) -> str:
    ending = next((one for one in _WRAPPED_ENDINGS[kind] if name.lower().endswith(one) and len(name) > len(one)), "")
    return name.removesuffix(name[len(name) - len(ending) :]) if ending else name


def _zip(delivery_file: BinaryIO, feed: Feed, name: str, caps: Caps) -> Package:
    archive, findings = open_zip(delivery_file, name, caps)
    if archive is None:
        return Package([], findings)
    entries = {entry.filename: entry for entry in archive.infolist() if not entry.is_dir()}
    chosen, problem = _chosen(list(entries), feed.parts)
    if problem:
        return Package([], [_incomplete(name, *problem, fix_zh="按约定的文件数和序号重新打包后整包再报")])
    return Package([Member(entry, _opener(archive, entries[entry])) for entry in chosen])


def _chosen(names: Sequence[str], parts: str) -> tuple[list[str], tuple[str, str] | None]:
    """The data files of a zip in their order, and what is wrong with their number (Chinese, English)."""
    if parts == "numbered":
        return _numbered(names)
    if not names:
        return [], ("没有数据文件", "no data file")
    if parts == "one" and len(names) > 1:
        return [], (f"有 {len(names)} 个文件，应为 1 个", f"{len(names)} files instead of one")
    return sorted(names), None


def _numbered(names: Sequence[str]) -> tuple[list[str], tuple[str, str] | None]:
    """Files of one name that are all parts, each once, of the count that every name states."""
    found = {name: PART_NUMBER.fullmatch(name) for name in names}
    strangers = [name for name, part in found.items() if part is None]
    by_number = {int(part["number"]): name for name, part in found.items() if part}
    kinds = {(part["stem"], int(part["count"]), part["ending"]) for part in found.values() if part}
    if strangers or len(kinds) != 1 or len(by_number) != len(names):
        return [], ("文件名应为同名的 …_1of3、…_2of3、…_3of3", "its files are not …_1of3, …_2of3, …_3of3 of one name")
    [(_, count, _)] = kinds
    missing = [number for number in range(1, count + 1) if number not in by_number]
    if missing or len(names) != count:
        number = missing[0] if missing else max(by_number)
        return [], (
            f"第 {number} 部分（共 {count} 部分）缺失或多余",
            f"part {number} of {count} is missing or too much",
        )
    return [by_number[number] for number in sorted(by_number)], None


def open_zip(delivery_file: BinaryIO, name: str, caps: Caps) -> tuple[zipfile.ZipFile | None, list[FileFinding]]:
    """A zip whose directory passed every check, or the finding P107 why not."""
    try:
        delivery_file.seek(0)
        archive = zipfile.ZipFile(delivery_file, metadata_encoding="gb18030")
        problem = _directory_problem(archive, caps)
    except BROKEN_ZIP:
        problem = ("压缩包损坏或不是 zip", "the zip is damaged or is no zip")
    if problem:
        return None, [FileFinding("P107", name, *problem, "重新压缩后再报送，不要嵌套或加密")]
    return archive, []


def check_promise(member: Member, stream: MeteredStream, rows_read: int | None) -> list[FileFinding]:
    """P101, P102 and P103: what was read against what the log says; `rows_read` None if rows could not be counted."""
    promise = member.promise
    if promise is None:
        return []
    found = []
    if promise.md5 is not None and stream.md5() != promise.md5:
        found.append(_differs("P101", member.name, "MD5", promise.md5, stream.md5()))
    if promise.size_bytes != stream.size_bytes:
        found.append(_differs("P102", member.name, "文件大小/size", promise.size_bytes, stream.size_bytes))
    if rows_read is not None and promise.records != rows_read:
        found.append(_differs("P103", member.name, "记录数/records", promise.records, rows_read))
    return found


def _differs(rule: str, member: str, what: str, promised: object, found: object) -> FileFinding:
    zh, en = what.split("/") if "/" in what else (what, what)
    return FileFinding(
        rule,
        member,
        f"{zh}不符：随附文件写 {promised}，实际为 {found}",
        f"the {en} stated is {promised}, found {found}",
        "重新生成数据文件及其随附文件后整包再报",
    )


def whole(delivery_file: BinaryIO, name: str) -> Member:
    """A file that is wrapped in nothing."""

    def open_raw() -> BinaryIO:
        delivery_file.seek(0)
        return cast(BinaryIO, _Borrowed(delivery_file))

    return Member(name, open_raw)


class _Borrowed(io.RawIOBase):
    """The delivery's file lent to a reader: closing the loan leaves the file open."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file = file

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


def _check_sidecar(name: str, sidecar: bytes | None, sha256: str | None) -> list[FileFinding]:
    stated = re.match(rb"\s*([0-9A-Fa-f]{64})\b", (sidecar or b"")[:_SIDECAR_BYTES])
    if not stated:
        return [_incomplete(name, "校验文件中没有 SHA-256 值", "the sidecar states no SHA-256")]
    value = stated[1].decode().lower()
    return [] if value == sha256 else [_differs("P101", name, "SHA-256", value, sha256)]


def _incomplete(member: str, zh: str, en: str, fix_zh: str = "补全数据文件与五行 .log 后整包再报") -> FileFinding:
    return FileFinding("P108", member, f"文件包不完整：{zh}", f"the package is incomplete: {en}", fix_zh)


def _pboc(delivery_file: BinaryIO, name: str, caps: Caps) -> Package:
    archive, findings = open_zip(delivery_file, name, caps)
    if archive is None:
        return Package([], findings)
    names = {entry.filename: entry for entry in archive.infolist()}
    data = [entry for entry in names if entry.endswith(".dat")]
    findings += _strangers(name, names, data)
    found = []
    for entry in data:
        promise, problems = _read_log(archive, names, entry)
        findings += problems
        found.append(Member(entry, _opener(archive, names[entry]), promise))
    return Package(found, findings)


def _strangers(name: str, names: Sequence[str] | dict[str, zipfile.ZipInfo], data: Sequence[str]) -> list[FileFinding]:
    if not data:
        return [_incomplete(name, "缺少 .dat 数据文件", "no .dat file")]
    known = {*data, *(f"{entry.removesuffix('.dat')}.log" for entry in data)}
    count = len([entry for entry in names if entry not in known])
    return [_incomplete(name, f"有 {count} 个多余文件", f"{count} files that do not belong to it")] if count else []


def _opener(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> Callable[[], BinaryIO]:
    return lambda: cast(BinaryIO, archive.open(entry))


def _read_log(
    archive: zipfile.ZipFile, names: dict[str, zipfile.ZipInfo], data_name: str
) -> tuple[Promise | None, list[FileFinding]]:
    log_name = f"{data_name.removesuffix('.dat')}.log"
    if log_name not in names:
        return None, [_incomplete(data_name, "缺少同名 .log", "its .log is missing")]
    try:
        with archive.open(names[log_name]) as file:
            content = file.read(_LOG_BYTES + 1)
    except BROKEN_ZIP:
        return None, [FileFinding("P107", log_name, ".log 损坏", "the .log is damaged", "重新压缩后再报送")]
    return parse_log(content, data_name, log_name)


def parse_log(content: bytes, data_name: str, log_name: str) -> tuple[Promise | None, list[FileFinding]]:
    """The promise of a five-line log, or P108 with what is wrong with it."""
    lines = content.removeprefix(b"\xef\xbb\xbf").replace(b"\r\n", b"\n").removesuffix(b"\n").split(b"\n")
    if len(content) > _LOG_BYTES or len(lines) != LOG_LINES:
        return None, [_incomplete(log_name, f".log 有 {len(lines)} 行，应为 5 行", f"{len(lines)} lines instead of 5")]
    stated_name, md5, size, _, records = (line.decode("gb18030", "replace").strip() for line in lines)
    if stated_name != data_name.rsplit("/", 1)[-1]:
        return None, [_incomplete(log_name, "第 1 行不是数据文件名", "line 1 is not the name of the data file")]
    if not re.fullmatch("[0-9]{1,15}", size) or not re.fullmatch("[0-9]{1,15}", records):
        return None, [_incomplete(log_name, "第 3、5 行应为整数", "lines 3 and 5 must be whole numbers")]
    blank_is_legal = int(size) == 0 and int(records) == 0
    if not re.fullmatch("[0-9a-fA-F]{32}", md5) and not (md5 == "" and blank_is_legal):
        return None, [_incomplete(log_name, "第 2 行应为 32 位 MD5", "line 2 must be an MD5 of 32 digits")]
    return Promise(md5.lower() or None, int(size), int(records)), []


def _directory_problem(archive: zipfile.ZipFile, caps: Caps) -> tuple[str, str] | None:
    """Why the directory of a zip is refused (Chinese, English), or None."""
    entries = archive.infolist()
    if len(entries) > caps.members:
        return f"文件数超过 {caps.members}", f"more than {caps.members} files"
    if len({entry.filename for entry in entries}) != len(entries):
        return "有重名文件", "two files have the same name"
    if sum(entry.file_size for entry in entries) > caps.total_bytes:
        return "解压后过大", "it unpacks to too much"
    problems = (_entry_problem(entry, caps) for entry in entries)
    return next((problem for problem in problems if problem), None) or _overlap(entries)


def _entry_problem(entry: zipfile.ZipInfo, caps: Caps) -> tuple[str, str] | None:
    name = entry.filename
    parts = re.split(r"[/\\]", name)
    if name.startswith(("/", "\\")) or ".." in parts or ":" in parts[0] or "\0" in entry.orig_filename:
        return "含绝对路径或上级路径", "an absolute path or a path upwards"
    if any(unicodedata.category(character) in ("Cc", "Cf", "Cs") for character in name):
        return "文件名含控制字符", "a name with control characters"
    if stat.S_ISLNK(entry.external_attr >> 16):
        return "含链接", "a link"
    if name.lower().endswith(_ARCHIVES):
        return "压缩包嵌套", "an archive inside the archive"
    if entry.flag_bits & 0x1:
        return "已加密", "it is encrypted"
    if entry.compress_type not in _METHODS:
        return "压缩方式不支持", "an unsupported compression"
    return _size_problem(entry, caps)


def _size_problem(entry: zipfile.ZipInfo, caps: Caps) -> tuple[str, str] | None:
    if entry.file_size > caps.member_bytes:
        return "解压后过大", "it unpacks to too much"
    if entry.file_size > caps.ratio_free_bytes and entry.file_size > caps.ratio * max(1, entry.compress_size):
        return "压缩比异常", "an implausible compression ratio"
    return None


def _overlap(entries: Sequence[zipfile.ZipInfo]) -> tuple[str, str] | None:
    """Entries that share bytes are the trick of the best bombs (Fifield 2019)."""
    spans = sorted((entry.header_offset, entry.header_offset + 30 + entry.compress_size) for entry in entries)
    if spans and spans[0][0] < 0:
        return "压缩包目录损坏", "its directory points before its beginning"
    overlaps = any(end > start for (_, end), (start, _) in pairwise(spans))
    return ("压缩包内文件重叠", "files inside the zip overlap") if overlaps else None
