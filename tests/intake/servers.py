"""Real servers on loopback ports: an SSH server for SFTP, and one that speaks S3, as a process of its own."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import asyncssh

USER = "baiyun"
PASSWORD = "not-a-real-password-7d1f"


class _Accounts(asyncssh.SSHServer):
    """One account, with a password or a key; the server counts who is connected."""

    def __init__(self, server: SshServer) -> None:
        self._server = server

    def connection_made(self, conn: Any) -> None:
        self._server.connected += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connected -= 1

    def password_auth_supported(self) -> bool:
        return True

    def validate_password(self, username: str, password: str) -> bool:
        return (username, password) == (USER, PASSWORD)


@dataclass
class SshServer:
    """An SFTP server whose account sees `root` and nothing else."""

    folder: Path
    port: int = 0
    stalls: bool = False
    connected: int = 0

    def __post_init__(self) -> None:
        self.root = self.folder / "root"
        (self.root / "in").mkdir(parents=True)
        self.host_key = asyncssh.generate_private_key("ssh-ed25519")
        self.client_key = asyncssh.generate_private_key("ssh-ed25519")
        self.client_key.write_public_key(str(self.folder / "authorized"))
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self.start()

    def start(self) -> None:
        """Listen, on the port it had before if it had one."""
        self._server = self._run(self._listen())
        self.port = self._server.get_port()

    async def _listen(self) -> Any:
        return await asyncssh.create_server(
            lambda: _Accounts(self),
            "127.0.0.1",
            self.port,
            server_host_keys=[self.host_key],
            authorized_client_keys=str(self.folder / "authorized"),
            sftp_factory=self._sftp,
        )

    def _sftp(self, channel: Any) -> Any:
        server = self

        class Sftp(asyncssh.SFTPServer):
            async def scandir(self, path: bytes) -> Any:
                if server.stalls:
                    await asyncio.sleep(3600)
                async for entry in super().scandir(path):
                    yield entry

        return Sftp(channel, chroot=str(self.root).encode())

    def stop(self) -> None:
        """Take no calls any more and end those under way."""

        async def close() -> None:
            self._server.close()

        self._run(close())

    def end(self) -> None:
        self.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self, work: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    @property
    def address(self) -> str:
        return f"sftp://{USER}@127.0.0.1:{self.port}/in"

    def known_host(self, key: Any = None) -> str:
        """The line of known_hosts that vouches for this server (or for another key)."""
        public = (key or self.host_key).export_public_key().decode().strip()
        return f"[127.0.0.1]:{self.port} {public}\n"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def s3_server(log: Path) -> Iterator[str]:
    """The address of a server that speaks S3."""
    port = free_port()
    program = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with log.open("wb") as output, subprocess.Popen(program, stdout=output, stderr=output) as process:
        try:
            _await_port(port, process)
            yield f"http://127.0.0.1:{port}"
        finally:
            process.kill()


def _await_port(port: int, process: subprocess.Popen[bytes]) -> None:
    for _ in range(600):
        assert process.poll() is None, "the server ended"
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError("the server does not answer")
