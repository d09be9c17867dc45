"""Ids are the same as git's own."""

from __future__ import annotations

import hashlib
import os
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from model_ops.recovery.formats.git_ids import LARGE, blob_id
from model_ops.services.store.git_objects import (
    StoredFile,
    commit_id,
    gitattributes,
    is_lfs,
    pointer,
    tree_id,
    tree_ids,
)

CONTENT = {
    "README.md": b"# Hello\n",
    "a.json": b"{}",
    "sub/deep/x.txt": b"x",
    "sub.txt": b"",
    "w.bin": b"123",
}


def stored(path: str, content: bytes) -> StoredFile:
    return StoredFile(path, hashlib.sha256(content).hexdigest(), blob_id(content), len(content))


def git(folder: Path, *words: str) -> str:
    who = {f"GIT_{role}_{what}": value for role in ("AUTHOR", "COMMITTER") for what, value in
           [("NAME", "ada"), ("EMAIL", ""), ("DATE", "1700000000 +0000")]}  # fmt: skip
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, check=True, env=os.environ | who)
    return done.stdout.decode().strip()


def test_ids_are_those_of_git(tmp_path: Path) -> None:
    files = [stored(path, content) for path, content in CONTENT.items()]
    git(tmp_path, "init", "-q")
    for file in files:
        target = tmp_path / file.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(pointer(file) if is_lfs(file) else CONTENT[file.path])
    git(tmp_path, "add", "-A")
    tree = git(tmp_path, "write-tree")
    commit = git(tmp_path, "commit-tree", tree, "-m", "Add files")

    assert tree_id(files) == tree
    folders = {path: git(tmp_path, "rev-parse", f"{tree}:{path}") for path in ("sub", "sub/deep")}
    assert tree_ids(files) == {"": tree, **folders}
    at = datetime.fromtimestamp(1700000000, UTC)
    assert commit_id(files=files, parent=None, author="ada", at=at, message="Add files") == commit
    child = git(tmp_path, "commit-tree", tree, "-p", commit, "-m", "Again")
    assert commit_id(files=files, parent=commit, author="ada", at=at, message="Again") == child


@pytest.mark.parametrize(
    ("path", "expected"),
    [("model.safetensors", True), ("tokenizer.model", True), ("sub/x.bin", True), ("saved_model/a/b.txt", True),
     ("events.tfevents.1", True), ("x.tar.xz2", True), ("config.json", False), ("tokenizer.json", False)],
)  # fmt: skip
def test_lfs_is_decided_by_pattern(path: str, expected: bool) -> None:
    assert is_lfs(StoredFile(path, "0" * 64, "0" * 40, 7)) is expected


def test_large_file_outside_the_patterns_gets_its_own_line() -> None:
    large = StoredFile("big tokenizer.json", "0" * 64, "0" * 40, LARGE + 1)

    assert is_lfs(large)
    lines = gitattributes([large]).decode().splitlines()
    assert lines[-1] == "big[[:space:]]tokenizer.json filter=lfs diff=lfs merge=lfs -text"
    assert lines[0] == "*.7z filter=lfs diff=lfs merge=lfs -text"
    assert len(lines) == 36
