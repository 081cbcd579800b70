"""Decrypt an OpenPGP package with GnuPG itself, in a home that lives only as long as the call.

The county's keys stay where they are (`keyring`, a GnuPG home of mode 0700): the short-lived home only links to them,
so that every call has its own agent, two calls never wait for each other, and no agent outlives its call. Nothing gpg
says about keys or their owners is kept: its status words are read, its messages are thrown away.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, BinaryIO, Final

from etl.vocabulary import ConfigurationError

PROGRAM: Final = "gpg"
PASSPHRASE_FILE: Final = "passphrase"
_BLOCK_BYTES: Final = 1 << 18
_KEY_FILES: Final = ("pubring.kbx", "pubring.gpg", "private-keys-v1.d", "public-keys.d", "common.conf")
_OPTIONS: Final = (
    "--batch", "--no-tty", "--no-options", "--quiet", "--lock-never", "--trust-model", "always",
    "--no-auto-key-retrieve", "--disable-dirmngr", "--pinentry-mode", "loopback",
)  # fmt: skip
_FIX: Final = "用县里公布的公钥重新加密后再报送"


class NotDecryptedError(Exception):
    """The package does not open with the county's key; says why in words for the supplier."""

    def __init__(self, zh: str, en: str, fix_zh: str = _FIX) -> None:
        self.zh, self.en, self.fix_zh = zh, en, fix_zh
        super().__init__(en)


def decrypt(source: BinaryIO, write: Callable[[bytes], None], keyring: Path | None, *, signer: str | None) -> None:
    """Decrypt `source` and hand the plain bytes to `write`; they count only once this returns.

    With `signer` (a fingerprint in capitals) the message must be signed by that key. Raises NotDecryptedError for what
    the supplier can mend, ConfigurationError for what the county can (no gpg, no key). What `write` raises goes through.
    """
    with _home(_checked(keyring)) as home:
        status = home / "status"
        with _gpg(home, status) as process:
            _pass_through(process, source, write)
        words = [line.split()[1:] for line in status.read_text("utf-8", "replace").splitlines()]
        words = [word for word in words if word]
        if _is_for_a_key(words) and not _unlocks(home):
            mend = f"write its passphrase to {keyring}/{PASSPHRASE_FILE} (mode 0600)"
            raise ConfigurationError(str(keyring), "", "the secret key is locked", mend)
    _judge(words, signer)


def _checked(keyring: Path | None) -> Path:
    if shutil.which(PROGRAM) is None:
        raise ConfigurationError(PROGRAM, "", "GnuPG is not installed", "install Debian's gnupg")
    if keyring is None or not any(keyring.glob("private-keys-v1.d/*.key")):
        place = keyring or "the key ring"
        raise ConfigurationError(place, "", "no secret key to decrypt with", f"gpg --homedir {place} --import <key>")
    if keyring.stat().st_mode & 0o077:
        raise ConfigurationError(keyring, "", "readable by other users", f"run: chmod 700 {keyring}")
    return keyring


@contextmanager
def _home(keyring: Path) -> Iterator[Path]:
    """A GnuPG home of this call alone, with links to the county's keys; its agent ends with it."""
    with tempfile.TemporaryDirectory(prefix="gpg-") as folder:
        home = Path(folder)
        for name in (*_KEY_FILES, PASSPHRASE_FILE):
            if (keyring / name).exists():
                (home / name).symlink_to((keyring / name).resolve())
        try:
            yield home
        finally:
            end = ("gpgconf", "--homedir", folder, "--kill", "all")
            subprocess.run(end, env=_environment(), stdin=subprocess.DEVNULL, capture_output=True, check=False)


def _environment() -> dict[str, str]:
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}


def _command(home: Path) -> tuple[str, ...]:
    passphrase = home / PASSPHRASE_FILE
    secret = ("--passphrase-file", str(passphrase)) if passphrase.exists() else ()
    return (PROGRAM, "--homedir", str(home), *_OPTIONS, *secret)


@contextmanager
def _gpg(home: Path, status: Path) -> Iterator[subprocess.Popen[bytes]]:
    command = (*_command(home), "--status-file", str(status), "--decrypt")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    process = subprocess.Popen(command, env=_environment(), **pipes)  # type: ignore[call-overload]
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


def _pass_through(process: subprocess.Popen[bytes], source: BinaryIO, write: Callable[[bytes], None]) -> None:
    """Feed gpg from a thread while its output is taken; a fault of the source is raised here, not lost there."""
    faults: list[Exception] = []
    feeder = threading.Thread(target=_feed, args=(source, process.stdin, faults), daemon=True)
    feeder.start()
    try:
        while block := _output(process).read(_BLOCK_BYTES):
            write(block)
        process.wait()
    finally:
        process.kill()
        feeder.join()
    if faults:
        raise faults[0]


def _output(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdout is not None
    return process.stdout


def _feed(source: BinaryIO, sink: IO[bytes], faults: list[Exception]) -> None:
    try:
        while block := source.read(_BLOCK_BYTES):
            sink.write(block)
    except BrokenPipeError:
        pass  # gpg has seen enough; its status says why
    except Exception as error:
        faults.append(error)
    finally:
        with contextlib.suppress(BrokenPipeError):
            sink.close()


def _is_for_a_key(words: Sequence[Sequence[str]]) -> bool:
    """Whether it is encrypted to keys, and none of ours opened it."""
    said = {word[0] for word in words}
    return "ENC_TO" in said and "DECRYPTION_INFO" not in said


def _unlocks(home: Path) -> bool:
    """Whether gpg can use the county's secret keys: a wrong passphrase is not the supplier's fault."""
    command = (*_command(home), "--export-secret-keys")
    null = subprocess.DEVNULL
    return (
        subprocess.run(command, env=_environment(), stdin=null, stdout=null, stderr=null, check=False).returncode == 0
    )


def _judge(words: Sequence[Sequence[str]], signer: str | None) -> None:
    """Accept only what was encrypted, whole, and signed as agreed, by gpg's own status words."""
    said = {word[0] for word in words}
    if _is_for_a_key(words):
        raise NotDecryptedError("不是用县里的公钥加密的", "it is not encrypted to the county's key")
    if not {"DECRYPTION_OKAY", "GOODMDC"} <= said or "DECRYPTION_FAILED" in said:
        raise NotDecryptedError("不是完整的 OpenPGP 加密文件", "it is no whole OpenPGP message, or it was altered")
    signers = {name for word in words if word[0] == "VALIDSIG" for name in (word[1], word[-1])}
    if "BADSIG" in said or (signer and signer not in signers):
        raise NotDecryptedError(
            "签名无效或不是约定的签名人", "it is not signed by the agreed key", "用约定的私钥签名后再报送"
        )
