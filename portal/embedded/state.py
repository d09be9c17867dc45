"""The state folder: where a portal's files are, who is using it, and which servers it runs."""

import fcntl
import json
import os
import re
import shutil
import stat
import tempfile
import time
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType

from model_ops.file_access_lists import has_access_list
from portal.embedded.errors import StartError

SOCKET_PATH_LIMIT = 100  # bytes; the kernel's own limit is 108
LONGEST_SOCKET_NAME = "/.s.PGSQL.5432"
LONGEST_START = "/99999"  # of a part that drains
LONGEST_TEMPORARY_NAME = "/pymp-12345678/listener-12345678"  # of Python's multiprocessing
PLAIN_PATH = re.compile(r"/[A-Za-z0-9._/-]*\Z")


def prepare_state(state: Path) -> Path:
    """Create the state folder and its subfolders, readable only by this user; return its absolute path."""
    state = state.expanduser().absolute()
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        state = state.resolve()
        owner = state.stat().st_uid
        if owner != os.geteuid():
            raise StartError(
                f"The state folder {state} belongs to user id {owner}, and you are {os.geteuid()}:"
                " start Gatehouse as its owner, or name another folder with --state."
            )
        for name in ("run", "logs"):
            (state / name).mkdir(mode=0o700, exist_ok=True)
            (state / name).chmod(0o700)
    except OSError as error:
        raise StartError(f"The state folder {state} cannot be used: {error.strerror}.") from None
    return state


TIGHTENED = "run/tightened"
OTHERS_TO_TIGHTEN = {
    "pg/data",
    "pg/data.new",
    "demo",
    "tests",
}  # PostgreSQL's own, and nested state folders


def tighten(state: Path) -> None:
    """Remove other users' rights from every file and folder in the state folder.

    Earlier versions created files that only the folder above them protected. `weights/`, which may contain
    very many, is searched once. Files with an access list (`setfacl`) are an operator's choice and stay.
    """
    skipped = {state / name for name in OTHERS_TO_TIGHTEN}
    if (state / TIGHTENED).exists():
        skipped.add(state / "weights")
    _tighten_one(state)
    for folder, folders, files in os.walk(state):
        folders[:] = [name for name in folders if Path(folder, name) not in skipped]
        for name in (*folders, *files):
            _tighten_one(Path(folder, name))
    write_private(state / TIGHTENED, "")


def _tighten_one(path: Path) -> None:
    with suppress(OSError):  # gone in the meantime, or another user's
        facts = path.lstat()
        plain = stat.S_ISREG(facts.st_mode) or stat.S_ISDIR(facts.st_mode)
        if plain and facts.st_mode & 0o077 and not has_access_list(path):
            path.chmod(facts.st_mode & 0o700)


def temporary_folder(state: Path, part: str, *, drains: bool = False) -> Path:
    """Return an empty folder for the temporary files of one start of a part.

    Files that a killed process left there are removed when its part restarts; if earlier processes may still
    drain, when the portal does (`clear_temporary`). Libraries open sockets in it, so its path is short.
    """
    folder, start = state / "run" / "tmp", LONGEST_START if drains else ""
    if len(os.fsencode(f"{folder}/{part}{start}{LONGEST_TEMPORARY_NAME}")) > SOCKET_PATH_LIMIT:
        folder = _recorded_short_folder(state) / "tmp"
    own = folder / part
    for made in (folder, own):  # each with its mode, which `parents` does not give to the folders it creates
        made.mkdir(mode=0o700, exist_ok=True)
    if drains:
        own /= str(1 + max((int(each.name) for each in own.iterdir() if each.name.isdigit()), default=0))
        own.mkdir(mode=0o700)
    for left in own.iterdir():
        if left.is_dir() and not left.is_symlink():
            shutil.rmtree(left, ignore_errors=True)
        else:
            left.unlink(missing_ok=True)
    return own


def clear_temporary(state: Path) -> None:
    """Remove the temporary folders of all parts, none of which is running."""
    for folder in (state / "run", short_socket_folder(state)):
        if folder is not None:
            shutil.rmtree(folder / "tmp", ignore_errors=True)


def socket_folder(state: Path) -> Path:
    """Return a folder of mode 0700 for the sockets: ``run`` in the state folder, or a recorded short one.

    The short one is for paths over 100 bytes, and for those with characters that are special in database
    addresses.
    """
    run = state / "run"
    return run if fits_socket(run) else _recorded_short_folder(state)


def _recorded_short_folder(state: Path) -> Path:
    known = short_socket_folder(state)
    if known is None:
        known = _make_short_folder()
        write_private(state / "run" / "sockets.json", json.dumps({"folder": str(known)}))
    return known


def short_socket_folder(state: Path) -> Path | None:
    """Return the recorded short folder, if it still exists and is still ours alone."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        known = Path(json.loads((state / "run" / "sockets.json").read_text())["folder"])
        facts = known.lstat()  # our own folder, closed to others, and not a link to one
        is_private = facts.st_uid == os.geteuid() and facts.st_mode & 0o077 == 0
        if stat.S_ISDIR(facts.st_mode) and is_private and fits_socket(known):
            return known
    return None


def fits_socket(folder: Path) -> bool:
    """Return whether a socket in `folder` has a path that every part of the portal can use."""
    path = f"{folder}{LONGEST_SOCKET_NAME}"
    return len(os.fsencode(path)) <= SOCKET_PATH_LIMIT and PLAIN_PATH.match(path) is not None


def _make_short_folder() -> Path:
    for parent in (tempfile.gettempdir(), "/tmp", "/var/tmp", "/dev/shm"):  # noqa: S108 - mkdtemp makes it private
        with suppress(OSError):
            folder = Path(tempfile.mkdtemp(prefix="gatehouse-", dir=parent))
            if fits_socket(folder):
                return folder
            folder.rmdir()
    raise StartError("No temporary folder has a path short enough for sockets: set TMPDIR to a short one.")


def write_private(path: Path, text: str) -> None:
    """Write a file of mode 0600 in one step: a reader sees either the old text or the new one."""
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.unlink(missing_ok=True)
    with open(os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:  # noqa: PTH123
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    partial.rename(path)


@dataclass(frozen=True)
class Running:
    """The record that a supervisor writes for commands that come while it runs (``run/servers.json``)."""

    pid: int
    purpose: str
    environment: dict[str, str] = field(default_factory=dict)

    def save(self, state: Path) -> None:
        write_private(state / "run" / "servers.json", json.dumps(asdict(self)))

    @staticmethod
    def load(state: Path) -> "Running | None":
        """Return the record of a supervisor that still holds the lock and is ready, or None."""
        try:
            running = Running(**json.loads((state / "run" / "servers.json").read_text()))
            holder = json.loads((state / "run" / "lock").read_text())
        except (OSError, ValueError, TypeError):
            return None
        if holder["pid"] != running.pid:
            return None
        with (state / "run" / "lock").open() as file:
            try:  # a shared attempt disturbs only a start at this very moment
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return running
        return None


class StateLock:
    """The lock of a process that runs servers on a state folder; the kernel releases it with the process."""

    def __init__(self, state: Path, *, purpose: str, wait: float = 0.0) -> None:
        self.state, self.purpose, self.patience = state, purpose, wait
        self.descriptor = -1

    def acquire(self) -> bool:
        """Take the lock if it is free, and write the holder into the file."""
        descriptor = os.open(self.state / "run" / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, json.dumps({"pid": os.getpid(), "purpose": self.purpose}).encode(), 0)
        self.descriptor = descriptor
        return True

    def release(self) -> None:
        if self.descriptor >= 0:
            (self.state / "run" / "servers.json").unlink(missing_ok=True)
            os.close(self.descriptor)
            self.descriptor = -1

    def __enter__(self) -> "StateLock":
        deadline = time.monotonic() + self.patience
        while not self.acquire():
            if time.monotonic() > deadline:
                raise StartError(f"The state folder {self.state} is in use by {lock_holder(self.state)}.")
            time.sleep(0.1)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


def lock_holder(state: Path) -> str:
    """Return a description of the lock's holder."""
    try:
        facts = json.loads((state / "run" / "lock").read_text())
        return f"{facts['purpose']} (process {facts['pid']})"
    except (OSError, ValueError, KeyError):
        return "another command"
