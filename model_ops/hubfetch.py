"""Fetches one repository at a commit into a folder: a child process of the worker, without Django.

`python -m model_ops.hubfetch ENDPOINT REPO_ID COMMIT FOLDER ALL`; the token comes by the environment, so that
no process list shows it. Progress goes to standard output as lines of JSON, a failure to standard error as one sentence, status 1.
"""

from __future__ import annotations

import fcntl
import json
import os
import sys
import threading
from pathlib import Path

TOKEN = "GATEHOUSE_FETCH_TOKEN"  # noqa: S105 - the variable's name
# Other copies of the weights: a checkpoint with safetensors needs none of these.
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


def main(endpoint: str, repo_id: str, commit: str, folder: str, everything: str) -> int:
    """Downloads into FOLDER.partial and renames it when all is there; a rerun goes on where it stopped."""
    target, partial = Path(folder), Path(f"{folder}.partial")
    try:
        with Path(f"{folder}.lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # two recoveries may share a base
            if not target.is_dir():
                _download(endpoint, repo_id, commit, partial, everything == "all")
                os.sync()
                partial.rename(target)
    except Exception as error:  # whatever the network does is told in one sentence
        why = " ".join(str(error).split())[:300] or type(error).__name__
        sys.stderr.write(f"{repo_id} at {endpoint} could not be fetched: {why}\n")
        return 1
    return 0


def _download(endpoint: str, repo_id: str, commit: str, partial: Path, everything: bool) -> None:
    from huggingface_hub import HfApi

    api = HfApi(endpoint=endpoint, token=os.environ.get(TOKEN) or False)
    info = api.model_info(repo_id, revision=commit, files_metadata=True)
    siblings = {s.rfilename: s.size or 0 for s in info.siblings or []}
    ignored = [] if everything or not any(p.endswith(".safetensors") for p in siblings) else OTHER_FORMATS
    total = sum(size for path, size in siblings.items() if not any(Path(path).match(p) for p in ignored))
    done = threading.Event()
    reporter = threading.Thread(target=_report, args=(partial, total, done), daemon=True)
    reporter.start()
    try:
        api.snapshot_download(repo_id, revision=commit, local_dir=partial, ignore_patterns=ignored)
    finally:
        done.set()
        reporter.join()


def _report(partial: Path, total: int, done: threading.Event) -> None:
    while not done.wait(1):
        have = sum(_size(path) for path in partial.rglob("*"))
        line = json.dumps({"bytes_done": min(have, total), "bytes_total": total})
        sys.stdout.write(line + "\n")
        sys.stdout.flush()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size if path.is_file() else 0
    except OSError:  # renamed while we looked
        return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
