"""Fetch one repository at a commit into a folder, as a child process of the worker, without Django.

`python -m model_ops.remote_hub.fetch_repository ENDPOINT REPO_ID COMMIT FOLDER ALL` reads the token, or
nothing, from standard input, so that neither a process list nor /proc/PID/environ shows it. It writes
progress to standard output as lines of JSON, and at the end the result of comparing the hashes
(`{"checked": "..."}`). On failure it writes a sentence to standard error and exits with status 1; if waiting
may help, it writes what is missing to standard output (`{"lacks": "room", "bytes_needed": 5}`,
`{"lacks": "remote", "seconds": 55}`).
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase as fnmatch
from pathlib import Path, PurePosixPath
from typing import Any

from access_requests.ids import GIT_ID, SHA256
from model_ops.recovery.planning.plan import human
from model_ops.remote_hub import errors

OWN = "GATEHOUSE_FETCH_OWN"  # whether the endpoint is the portal's own, for the wording of a refusal
WITHHELD = (
    "GATEHOUSE_FETCH_WITHHELD"  # whether the portal has a token that may not be used for this repository
)
REDIRECTS = "GATEHOUSE_FETCH_REDIRECTS"  # hosts to which the operator allows redirects, separated by spaces
# Other formats of the same weights: a checkpoint with safetensors needs none of these.
OTHER_FORMATS = [
    "*.bin",
    "*.pt",
    "*.pth",
    "*.ckpt",
    "*.h5",
    "*.msgpack",
    "*.gguf",
    "*.onnx",
    "*.ot",
    "original/*",
]
CHUNK = 2**20
READERS = 2  # files hashed at the same time
LONGEST_WAIT = 30  # seconds; if the remote asks for more, the recovery waits and its worker does other work
PATIENCE = 5  # number of waits


class Refused(Exception):
    """A refusal in our own words; `lacks` is what may become available later."""

    def __init__(self, sentence: str, **lacks: Any) -> None:
        super().__init__(sentence)
        self.lacks = lacks


@dataclass(frozen=True)
class Far:
    """A file in the remote's tree; an id that is masked or missing is empty."""

    path: str
    size: int
    sha256: str
    git_oid: str


def main(endpoint: str, repo_id: str, commit: str, folder: str, everything: str) -> int:
    """Download into FOLDER.partial and rename it when everything is complete and correct; a rerun resumes."""
    target, partial, token = Path(folder), Path(f"{folder}.partial"), sys.stdin.read().strip()
    try:
        with Path(f"{folder}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two recoveries may share a base
            if not target.is_dir():
                checked = _fetch_files(endpoint, repo_id, commit, partial, everything == "all", token)
                os.sync()
                partial.rename(target)
                shutil.rmtree(target / ".cache", ignore_errors=True)  # the client's data for resuming
                _tell_worker({"checked": checked})
    except Refused as error:
        _tell_worker(error.lacks)
        sys.stderr.write(f"{repo_id} at {endpoint} {error}\n")
        return 1
    except Exception as error:  # every failure of the network becomes one sentence
        words = errors.refused_because(
            error,
            repo_id=repo_id,
            endpoint=endpoint,
            revision=commit,
            own=os.environ.get(OWN) == "1",
            token=bool(token),
            withheld=os.environ.get(WITHHELD) == "1",
        )
        _tell_worker(errors.what_lacks(error))
        sys.stderr.write(f"{words}\n")
        return 1
    return 0


def _fetch_files(
    endpoint: str, repo_id: str, commit: str, partial: Path, everything: bool, token: str
) -> str:
    from huggingface_hub import HfApi

    from model_ops.remote_hub import limits

    limits.limit_process(endpoint, os.environ.get(REDIRECTS, "").split())
    api = HfApi(endpoint=endpoint, token=token or False)
    # When listing, the client sleeps as long as a rate limit asks; this call is answered or refused at once.
    _ask_patiently(lambda: api.model_info(repo_id, revision=commit, timeout=20))
    tree: list[Any] = _ask_patiently(
        lambda: list(api.list_repo_tree(repo_id, revision=commit, recursive=True))
    )
    ignored = [] if everything or not any(f.path.endswith(".safetensors") for f in tree) else OTHER_FORMATS
    found = [far for item in tree if (far := _read_far_file(item))]
    files = [far for far in found if not any(fnmatch(far.path, p) for p in ignored)]
    _check_room(partial, files)
    total = sum(file.size for file in files)
    done = threading.Event()
    reporter = threading.Thread(target=_report_progress, args=(partial, total, done), daemon=True)
    reporter.start()
    try:
        _ask_patiently(
            lambda: api.snapshot_download(
                repo_id, revision=commit, local_dir=partial, ignore_patterns=ignored
            )
        )
    finally:
        done.set()
        reporter.join()
    return _check_files(partial, files)


def _ask_patiently(ask: Callable[[], Any]) -> Any:
    """Retry after the wait that the remote's rate limit asks for, within limits; finished files are kept."""
    for attempt in range(PATIENCE + 1):
        try:
            return ask()
        except Exception as error:
            wait = errors.wait_asked(error)
            if attempt == PATIENCE or not errors.is_rate_limit(error) or not 0 < wait <= LONGEST_WAIT:
                raise
            time.sleep(wait)
    raise AssertionError


def _read_far_file(item: Any) -> Far | None:
    """Return the file, or None for a folder. Refuse a path that leads out of the folder."""
    if not hasattr(item, "blob_id"):
        return None
    path = PurePosixPath(item.path)
    if path.is_absolute() or ".." in path.parts or not item.path.isprintable() or "\\" in item.path:
        raise Refused(f"holds a file with an unusable name, {item.path[:100]!r}: it is not fetched.")
    lfs = item.lfs
    sha256 = str(lfs.sha256) if lfs is not None and SHA256.fullmatch(str(lfs.sha256)) else ""
    git_oid = str(item.blob_id) if lfs is None and GIT_ID.fullmatch(str(item.blob_id)) else ""
    return Far(item.path, int(item.size or 0), sha256, git_oid)


def _check_room(partial: Path, files: list[Far]) -> None:
    """Refuse to start unless the missing files fit on the disk."""
    have = sum(_file_size(path) for path in partial.rglob("*")) if partial.is_dir() else 0
    missing = max(0, sum(file.size for file in files) - have)
    free = shutil.disk_usage(partial.parent).free
    if missing > free:
        raise Refused(
            f"needs {human(missing)} more below {partial.parent}, where {human(free)} are free: "
            "make room and try again.",
            lacks="room",
            bytes_needed=missing,
        )


def _check_files(partial: Path, files: list[Far]) -> str:
    """Compare every file with the remote's tree; delete those that differ: a rerun fetches them again."""
    with ThreadPoolExecutor(READERS) as pool:
        wrong = [file.path for file, fine in zip(files, pool.map(_is_right, [partial] * len(files), files), strict=True) if not fine]  # fmt: skip
    for path in wrong:
        (partial / path).unlink(missing_ok=True)
    if wrong:
        raise Refused(
            f"sent files that do not match the hashes in its file list: {', '.join(wrong[:5])}. They were deleted; try again."
        )
    unknown = [file.path for file in files if not (file.sha256 or file.git_oid)]
    known = f"{len(files) - len(unknown)} of {len(files)} files have the hashes that the remote names"
    if not unknown:
        return f"{known}."
    return (
        f"{known}; it hides those of the others, so only their sizes could be checked: {', '.join(unknown)}."[
            :300
        ]
    )


def _is_right(partial: Path, file: Far) -> bool:
    path = partial / file.path
    if _file_size(path) != file.size or not path.is_file():
        return False
    if not (file.sha256 or file.git_oid):
        return True
    digest = hashlib.sha256() if file.sha256 else hashlib.sha1(f"blob {file.size}\0".encode())  # noqa: S324 - git's own
    with path.open("rb") as opened:
        while chunk := opened.read(CHUNK):
            digest.update(chunk)
    return digest.hexdigest() == (file.sha256 or file.git_oid)


def _report_progress(partial: Path, total: int, done: threading.Event) -> None:
    while True:
        have = sum(_file_size(path) for path in partial.rglob("*")) if partial.is_dir() else 0
        _tell_worker({"bytes_done": min(have, total), "bytes_total": total})
        if done.wait(1):
            return


def _tell_worker(facts: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(facts) + "\n")
    sys.stdout.flush()


def _file_size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:  # renamed while we looked
        return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
