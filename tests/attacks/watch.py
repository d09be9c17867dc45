"""Every write and every start of code of this process, as Python's audit events tell them."""

from __future__ import annotations

import os
import sys
from typing import Any, Self

_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_CHANGES = {  # event -> which of its arguments are paths
    "os.chmod": (0,), "os.chown": (0,), "os.link": (1,), "os.mkdir": (0,), "os.remove": (0,), "os.rename": (0, 1),
    "os.rmdir": (0,), "os.symlink": (1,), "os.truncate": (0,), "os.utime": (0,), "os.setxattr": (0,),
}  # fmt: skip
_STARTS = frozenset((
    "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "subprocess.Popen", "pty.spawn",
    "pickle.find_class", "socket.connect", "socket.bind", "shutil.unpack_archive",
))  # fmt: skip
_active: list[Watch] = []


class Watch:
    """`writes`: paths written to, made, renamed or removed; `runs`: events that start code or talk to others."""

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
            self._wrote(arguments[0])
        for place in _CHANGES.get(event, ()):
            self._wrote(arguments[place])
        if event in _STARTS:
            self.runs.append(f"{event} {arguments!r}"[:200])

    def _wrote(self, path: Any) -> None:
        if isinstance(path, int):
            return  # a descriptor, whose opening was seen
        name = os.path.abspath(os.fsdecode(path))  # noqa: PTH100 - a link is what must not be followed here
        if "__pycache__" not in name and name != os.devnull:
            self.writes.append(name)


_installed: list[bool] = []


def _install() -> None:
    """A hook stays until the process ends."""
    if not _installed:
        _installed.append(True)
        sys.addaudithook(_hook)


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    for watch in _active:
        watch.see(event, arguments)
