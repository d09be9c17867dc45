"""Valkey (or Redis) on a private socket, with an append-only file."""

import os
import signal
import socket
from contextlib import suppress
from pathlib import Path

from portal.embedded.binaries import valkey_program
from portal.embedded.processes import Child, running_in, stop_leftovers, wait_until
from portal.embedded.state import socket_folder

PROGRAM_NAMES = ("valkey-server", "redis-server")


class Valkey:
    """The broker and cache of one state folder; its files are in ``STATE/valkey``."""

    def __init__(self, state: Path, *, fsync: bool = True) -> None:
        self.data = state / "valkey"
        self.data.mkdir(mode=0o700, exist_ok=True)
        self.socket = socket_folder(state) / "valkey.sock"
        self.log = state / "logs" / "valkey.log"
        self.fsync = fsync
        self.child: Child | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket}"

    def start(self) -> None:
        """Stop anything left running on the data folder and start the server."""
        self.clear_leftovers()
        command = [
            str(valkey_program()), "--port", "0", "--unixsocket", str(self.socket), "--unixsocketperm", "700",
            "--dir", str(self.data), "--daemonize", "no", "--save", "", "--appendonly", "yes",
            "--appendfsync", "everysec" if self.fsync else "no", "--maxmemory-policy", "noeviction",
        ]  # fmt: skip
        environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C"}
        self.child = Child("valkey", command, log=self.log, env=environment, cwd=self.data)

    def wait_ready(self) -> None:
        """Return once it answers, after it has read its append-only file."""
        assert self.child is not None  # noqa: S101 - start() comes first
        wait_until(self.answers, self.child, what="Valkey")

    def answers(self) -> bool:
        with suppress(OSError):
            return self.command("PING").startswith("+PONG")
        return False

    def command(self, *words: str) -> str:
        """Send one command and return the first bytes of the raw answer."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(2)
            connection.connect(str(self.socket))
            connection.sendall(" ".join(words).encode() + b"\r\n")
            return connection.recv(512).decode(errors="replace")

    def clear_leftovers(self) -> None:
        """Stop servers that an earlier supervisor left running, and remove their socket."""
        stop_leftovers(lambda: running_in(self.data, PROGRAM_NAMES), signals=(signal.SIGTERM,))
        self.socket.unlink(missing_ok=True)

    def stop(self) -> None:
        """Stop in an orderly way, which flushes the append-only file."""
        if self.child is not None:
            self.child.stop(patience=3)
            self.child = None
