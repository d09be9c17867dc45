"""Record this process's writes and code starts, from Python's audit events."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any, Self

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {  # event -> argument positions of its paths, each with that of the folder it is relative to
    "os.chmod": ((0, 2),), "os.chown": ((0, 3),), "os.link": ((1, 3),), "os.mkdir": ((0, 2),), "os.remove": ((0, 1),),
    "os.rename": ((0, 2), (1, 3)), "os.rmdir": ((0, 1),), "os.setxattr": ((0, None),), "os.symlink": ((1, 2),),
    "os.truncate": ((0, None),), "os.utime": ((0, 3),),
}  # fmt: skip
_STARTS = frozenset((
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "subprocess.Popen", "pty.spawn",
    "pickle.find_class", "socket.connect", "socket.bind", "shutil.unpack_archive",
))  # fmt: skip
_active: list[Watch] = []


class Watch:
    """A recorder. `writes`: paths written, created, renamed or removed; `runs`: events that start code or connect."""

    def __init__(self) -> None:
        self.writes: list[str] = []
        self.runs: list[str] = []

    def __enter__(self) -> Self:
        _install()
        _active.append(self)
        return self

    def __exit__(self, *_: object) -> None:
        _active.remove(self)

    def see(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING:
            self._wrote(arguments[0], -1)
        for path, folder in _CHANGES.get(event, ()):
            self._wrote(arguments[path], -1 if folder is None else arguments[folder])
        if event in _STARTS:
            self.runs.append(f"{event} {arguments!r}"[:200])

    def _wrote(self, path: Any, folder: int) -> None:
        if isinstance(path, int):
            return  # a descriptor: its opening was already recorded
        start = Path(f"/proc/self/fd/{folder}").readlink() if folder >= 0 else Path()
        name = os.path.abspath(start / os.fsdecode(path))  # noqa: PTH100 - a link is what must not be followed here
        if "__pycache__" not in name and name != os.devnull:
            self.writes.append(name)


_installed: list[bool] = []


def _install() -> None:
    """Install the audit hook once; it stays until the process ends."""
    if not _installed:
        _installed.append(True)
        sys.addaudithook(_hook)


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    for watch in _active:
        watch.see(event, arguments)
