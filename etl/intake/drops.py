"""Drop zones wherever they are: `file://`, `sftp://`, `s3://` and any other fsspec address, by one set of calls.

Who we are to a remote zone stands in one file outside the configuration, `<access folder>/<code>.yml`, readable by its
owner only; an address that holds a password is refused where configuration is read. Host keys are always checked.
Every call to a remote zone is bounded in time, and its failure is one error that names the zone and no secret.
"""

from __future__ import annotations

import importlib
import logging
import os
import stat
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, Final, Literal, TypeVar, cast
from urllib.parse import urlsplit

import fsspec
from pydantic import ValidationError

from etl.registry import Strict, configuration_error, read_yaml
from etl.vocabulary import ConfigurationError, CreditVillageError

ResultT = TypeVar("ResultT")
CALL_SECONDS: Final = 30.0
CONNECT_SECONDS: Final = 10.0
WHOLE_SECONDS: Final = 1.0
_LOCAL: Final = ("", "file", "local")
_SSH: Final = ("sftp", "ssh")
_KNOWN_HOSTS: Final = "known_hosts"
_log = logging.getLogger("creditvillage.intake")


class DropUnreachableError(CreditVillageError, ConnectionError):
    """A remote drop zone did not answer, refused us, or is not the host it should be: worth another try later."""

    def __init__(self, place: str, problem: str) -> None:
        super().__init__(f"{place}: {problem} — check the host, its key in known_hosts and our access file")


class SshAccess(Strict):
    """Who we are to an SFTP server; file names are relative to the folder of the access file."""

    username: str | None = None
    password: str | None = None
    client_key: str | None = None
    passphrase: str | None = None
    known_hosts: str = _KNOWN_HOSTS


class S3Access(Strict):
    """Who we are to an object store; without keys its client looks where it always does (`$AWS_…`, ~/.aws)."""

    key: str | None = None
    secret: str | None = None
    token: str | None = None
    endpoint_url: str | None = None
    region: str | None = None


@dataclass(frozen=True)
class Listed:
    """A file as a scan saw it; `mtime_ns` in nanoseconds since 1970-01-01 UTC, exact to `grain_seconds`.

    `is_remote`: its time comes from another clock than ours.
    """

    address: str
    name: str
    size_bytes: int
    mtime_ns: int
    is_regular: bool = True
    grain_seconds: float = 0.0
    is_remote: bool = False


@dataclass(frozen=True)
class Drops:
    """Opens drop zones; `access` is the folder of the access files, `seconds` what one remote call may take."""

    access: Path | None = None
    seconds: float = CALL_SECONDS
    connect_seconds: float = CONNECT_SECONDS

    def zone(self, owner: str, address: str) -> Zone:
        """The drop zone of an owner (bank or source) at an address; nothing is opened yet."""
        protocol = urlsplit(address).scheme if "://" in address else ""
        if protocol in _LOCAL:
            return LocalZone(address.removeprefix("file://").removeprefix("local://").rstrip("/") or "/")
        return RemoteZone(self, owner, address.rstrip("/"), protocol)

    def require(self, owner: str, address: str) -> None:
        """Raise ConfigurationError if a zone cannot be asked at all: library, access file or known host is missing."""
        protocol = urlsplit(address).scheme if "://" in address else ""
        if protocol in _SSH:
            _installed("sshfs", "sftp")
            _require_known_host(self.access, _read_access(self.access, owner, SshAccess))
        elif protocol == "s3":
            _installed("s3fs", "s3")
            _read_access(self.access, owner, S3Access)
        elif protocol not in (*_LOCAL, *fsspec.available_protocols()):
            mend = "use {drop}/<code>, file://, sftp:// or s3://"
            raise ConfigurationError("drop", owner, f"nobody knows {protocol}://", mend)

    def zone_of_file(self, owner: str, address: str) -> tuple[Zone, str]:
        """The zone a file lies in, and the file's name there."""
        folder, _, name = address.rpartition("/")
        return self.zone(owner, folder), name


@dataclass(frozen=True)
class LocalZone:
    """A folder of this machine. Links are never followed, and nothing but a regular file is opened."""

    address: str
    is_remote: Literal[False] = False

    def list(self) -> list[Listed]:
        """Its entries; raises OSError when it cannot be read."""
        return list(self._entries())

    def _entries(self) -> Iterator[Listed]:
        with os.scandir(self.address) as entries:
            for entry in entries:
                try:
                    seen = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    continue
                yield Listed(entry.path, entry.name, seen.st_size, seen.st_mtime_ns, stat.S_ISREG(seen.st_mode))

    def signature(self, name: str) -> tuple[int, int]:
        """Size in bytes and modification time in ns; raises FileNotFoundError when the file is gone."""
        seen = (Path(self.address) / name).lstat()
        return seen.st_size, seen.st_mtime_ns

    def open(self, name: str) -> BinaryIO:
        """A link or a device in a drop zone could point anywhere: raises OSError for all but regular files."""
        handle = os.open(Path(self.address) / name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        if not stat.S_ISREG(os.fstat(handle).st_mode):
            os.close(handle)
            raise OSError("not a regular file")
        return os.fdopen(handle, "rb", buffering=0)

    def close(self) -> None:
        """Nothing is held open."""


@dataclass(frozen=True)
class RemoteZone:
    """A folder of another machine, over fsspec. Raises DropUnreachableError for whatever goes wrong on the way."""

    drops: Drops
    owner: str
    address: str
    protocol: str
    is_remote: Literal[True] = True
    _opened: list[Any] = field(default_factory=list, compare=False, repr=False)

    @cached_property
    def _path(self) -> str:
        parts = urlsplit(self.address)
        return parts.path or "/" if self.protocol in _SSH else f"{parts.netloc}{parts.path}"

    @property
    def _files(self) -> Any:
        """The file system, connected when first needed and kept until `close`."""
        if not self._opened:
            self._opened.append(_connect(self.drops, self.owner, self.address, self.protocol))
        return self._opened[0]

    def list(self) -> list[Listed]:
        """Its entries, all with times of another clock; the empty object that stands for the folder is none of them."""
        infos = self._call(self._infos, "listing")
        return [self._listed(info) for info in infos if str(info["name"]).strip("/") != self._path.strip("/")]

    def _infos(self) -> Sequence[Mapping[str, object]]:
        try:
            return cast(Sequence[Mapping[str, object]], self._files.ls(self._path, detail=True))
        except FileNotFoundError:
            if self.protocol == "s3" and self._files.exists(self._path.partition("/")[0]):
                return []  # an object store has no empty folders: nothing was ever put there
            raise

    def _listed(self, info: Mapping[str, object]) -> Listed:
        name = str(info["name"]).rstrip("/").rsplit("/", 1)[-1]
        size_bytes, mtime_ns = signature_of_info(info)
        is_file = info.get("type") == "file"
        return Listed(f"{self.address}/{name}", name, size_bytes, mtime_ns, is_file, _grain(mtime_ns), is_remote=True)

    def signature(self, name: str) -> tuple[int, int]:
        """Size in bytes and modification time in ns; raises FileNotFoundError when the file is gone."""
        return self._call(lambda: signature_of_info(self._files.info(f"{self._path}/{name}")), "looking at a file")

    def open(self, name: str) -> BinaryIO:
        """The file, each read bounded in time; raises FileNotFoundError when it is gone."""
        file = self._call(lambda: self._files.open(f"{self._path}/{name}", "rb"), "opening a file")
        return cast(BinaryIO, _BoundedFile(self, file))

    def close(self) -> None:
        """End the connection; harmless when done twice."""
        while self._opened:
            files = self._opened.pop()
            if self.protocol in _SSH:  # other clients close theirs when they are let go
                files.loop.call_soon_threadsafe(files.client.close)

    def _call(self, call: Callable[[], ResultT], doing: str) -> ResultT:
        try:
            return within(self.drops.seconds, call)
        except FileNotFoundError:
            raise
        except (ConfigurationError, DropUnreachableError):
            raise
        except Exception as error:  # every client library has errors of its own
            raise DropUnreachableError(self.address, f"{doing} failed ({type(error).__name__})") from None


Zone = LocalZone | RemoteZone


@dataclass
class _BoundedFile:
    """A remote file of which every read, seek and close ends in time."""

    zone: RemoteZone
    file: Any

    def read(self, size: int = -1) -> bytes:
        return bytes(self.zone._call(lambda: self.file.read(size), "reading a file"))

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return int(self.zone._call(lambda: self.file.seek(offset, whence), "reading a file"))

    def tell(self) -> int:
        return int(self.file.tell())

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def close(self) -> None:
        self.zone._call(self.file.close, "closing a file")

    def __enter__(self) -> _BoundedFile:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def within(seconds: float, call: Callable[[], ResultT]) -> ResultT:
    """What the call returns or raises; raises TimeoutError if it takes longer, and leaves it behind."""
    answer: list[ResultT] = []
    failure: list[BaseException] = []

    def run() -> None:
        try:
            answer.append(call())
        except BaseException as error:
            failure.append(error)

    worker = threading.Thread(target=run, daemon=True)  # a call that hangs must not keep the process
    worker.start()
    worker.join(seconds)
    if failure:
        raise failure[0]
    if not answer:
        raise TimeoutError(f"no answer within {seconds:.0f} s")
    return answer[0]


def signature_of_info(info: Mapping[str, object]) -> tuple[int, int]:
    """Size in bytes and modification time in ns of an fsspec info entry; an object store without times gives 0."""
    when = next((info[key] for key in ("mtime", "LastModified", "modified", "created") if info.get(key) is not None), 0)
    seconds = when.timestamp() if isinstance(when, datetime) else float(cast(float, when))
    return int(cast(int, info.get("size") or 0)), round(seconds * 1e9)


def _grain(mtime_ns: int) -> float:
    """SFTP and object stores give whole seconds; what is finer shows it."""
    return WHOLE_SECONDS if mtime_ns % 1_000_000_000 == 0 else 0.0


def _connect(drops: Drops, owner: str, address: str, protocol: str) -> Any:
    if protocol in _SSH:
        return _ssh(drops, owner, address)
    if protocol == "s3":
        return _s3(drops, owner)
    return fsspec.filesystem(protocol, skip_instance_cache=True, use_listings_cache=False)


def _ssh(drops: Drops, owner: str, address: str) -> Any:
    """An SFTP connection that knows the host, reads no configuration of the account and asks no agent."""
    access = _read_access(drops.access, owner, SshAccess)
    folder = _require_known_host(drops.access, access)
    where = urlsplit(address)
    kind = _installed("sshfs", "sftp").SSHFileSystem
    logging.getLogger("asyncssh").setLevel(logging.WARNING)
    options: dict[str, Any] = {
        "port": where.port or 22,
        "username": where.username or access.username,
        "known_hosts": str(folder / access.known_hosts),
        "client_keys": [str(folder / access.client_key)] if access.client_key else [],
        "passphrase": access.passphrase,
        "password": access.password,
        "config": None,
        "agent_path": None,
        "connect_timeout": drops.connect_seconds,
        "login_timeout": drops.connect_seconds,
        "keepalive_interval": drops.connect_seconds,
    }
    return kind(where.hostname or "", skip_instance_cache=True, **options)


def _require_known_host(folder: Path | None, access: SshAccess) -> Path:
    """The folder of the access files; raises ConfigurationError if no list of host keys lies in it."""
    place = (folder or Path()) / access.known_hosts
    if folder is None or not place.is_file():
        mend = "write the bank's host key there: ssh-keyscan, compared with what the bank says on the phone"
        raise ConfigurationError(place, "", "no host is known", mend)
    return folder


def _s3(drops: Drops, owner: str) -> Any:
    access = _read_access(drops.access, owner, S3Access)
    kind = _installed("s3fs", "s3").S3FileSystem
    client = {"endpoint_url": access.endpoint_url, "region_name": access.region}
    return kind(
        key=access.key,
        secret=access.secret,
        token=access.token,
        client_kwargs={name: value for name, value in client.items() if value},
        config_kwargs={
            "connect_timeout": drops.connect_seconds,
            "read_timeout": drops.seconds,
            "retries": {"max_attempts": 2},
        },
        skip_instance_cache=True,
        use_listings_cache=False,
    )


def _installed(module: str, extra: str) -> Any:
    """An optional library; raises ConfigurationError that says how to install it."""
    try:
        return importlib.import_module(module)
    except ImportError:
        mend = f'install it: pip install "creditvillage[{extra}]"'
        raise ConfigurationError("drop zone", extra, f"the library {module} is not installed", mend) from None


AccessT = TypeVar("AccessT", SshAccess, S3Access)


def _read_access(folder: Path | None, owner: str, kind: type[AccessT]) -> AccessT:
    """The access file of an owner, empty if there is none; raises ConfigurationError, which never quotes a value."""
    path = (folder or Path()) / f"{owner}.yml"
    if folder is None or not path.exists():
        return kind()
    if path.stat().st_mode & 0o077:
        raise ConfigurationError(path, "", "readable by other users", f"run: chmod 600 {path}")
    try:
        return kind.model_validate(read_yaml(path))
    except ValidationError as error:
        raise configuration_error(error, path) from None
