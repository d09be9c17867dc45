from __future__ import annotations

import pytest

from model_ops.services.store.git_objects import StoredFile
from model_ops.services.uploads.files import Files


def named(*paths: str) -> list[StoredFile]:
    return [StoredFile(path, "0" * 64, "0" * 40, 1) for path in paths]


@pytest.mark.parametrize(
    ("folder", "gone"),
    [
        ("a", ["a/b", "a/c/d", "a/c0"]),
        ("a/c", ["a/c/d"]),
        ("a/c/d", []),
        ("b", []),
        ("a0", ["a0/x"]),
        ("", []),
        ("é", ["é/x"]),
    ],
)
def test_folder_goes_with_what_is_in_it_alone(folder: str, gone: list[str]) -> None:
    paths = ["a-/x", "a.txt", "a/b", "a/c/d", "a/c0", "a0/x", "aa", "é/x"]
    files = Files(named(*paths))
    assert files.delete_folder(folder) == len(gone)
    assert sorted(files) == sorted(set(paths) - set(gone))
    assert files.delete_folder(folder) == 0


def test_files_come_and_go_between_folders() -> None:
    files = Files(named("a/x"))
    [file] = named("a/y")
    files["a/y"] = file
    files["a/y"] = file
    del files["a/x"]
    assert (list(files), len(files), files["a/y"]) == (["a/y"], 1, file)
    assert (files.delete_folder("a"), dict(files)) == (1, {})
    files["a/y"] = file
    assert files.delete_folder("a") == 1


def test_many_folders_among_many_files_go_one_by_one() -> None:
    """These are as many as one commit may name: scanning every file for each would take minutes."""
    files = Files(named(*(f"{number % 25_000:05}/{number}" for number in range(100_000))))
    assert {files.delete_folder(f"{number:05}") for number in range(25_000)} == {4}
    assert len(files) == 0
