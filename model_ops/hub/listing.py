"""Show files as tree items: Git ids, LFS pointers and folders, masked for callers without access."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from django.db.models import F, Q, Window
from django.db.models.functions import Lag

from model_ops.hub.repo import Repo
from model_ops.hub.route import moment
from model_ops.models import RepoFile, Revision
from model_ops.recovery.formats.git_ids import pointer_id
from model_ops.services.store.git_objects import StoredFile, pointer, tree_ids

MASKED_SHA256 = "*" * 64  # as on the Hub
MASKED_SHA1 = "*" * 40
Item = dict[str, Any]


def stored(file: RepoFile) -> StoredFile:
    return StoredFile(file.path, file.blob.sha256, file.blob.git_oid, file.blob.size)


def git_oid(file: RepoFile) -> str:
    """Return Git's id of its object: of the content, or of an LFS file's pointer."""
    return pointer_id(file.blob.sha256, file.blob.size) if file.is_lfs else file.blob.git_oid


def mask_for(repo: Repo) -> Callable[[RepoFile], bool]:
    """Return which files' ids to hide from this caller. A pointer's id would confirm a guessed SHA-256."""
    if repo.access.allowed:
        return lambda file: False
    return lambda file: not repo.is_public(file)


def file_item(file: RepoFile, masked: bool) -> Item:
    item: Item = {
        "type": "file",
        "oid": MASKED_SHA1 if masked else git_oid(file),
        "size": file.blob.size,
        "path": file.path,
    }
    if file.is_lfs:
        oid = MASKED_SHA256 if masked else file.blob.sha256
        item["lfs"] = {"oid": oid, "size": file.blob.size, "pointerSize": len(pointer(stored(file)))}
    return item


def folder_items(files: Iterable[RepoFile], masked: Mapping[str, bool]) -> dict[str, Item]:
    """Return the items of these folders by path; all ids come from one pass over the revision's files."""
    ids = {} if all(masked.values()) else tree_ids(map(stored, files))
    return {
        path: {"type": "directory", "oid": MASKED_SHA1 if hidden else ids[path], "size": 0, "path": path}
        for path, hidden in masked.items()
    }


def _masked_folders(files: Iterable[RepoFile], is_masked: Callable[[RepoFile], bool]) -> dict[str, bool]:
    """Return every folder by path, and whether any file in it is masked.

    Walks up the path once per folder with files, not once per file.
    """
    direct: dict[str, bool] = {}
    for file in files:
        folder = file.path.rpartition("/")[0]
        direct[folder] = direct.get(folder, False) or is_masked(file)
    found: dict[str, bool] = {}
    for folder, hidden in direct.items():
        while folder:
            found[folder] = found.get(folder, False) or hidden
            folder = folder.rpartition("/")[0]
    return found


def tree_items(
    files: Sequence[RepoFile], *, folder: str, recursive: bool, is_masked: Callable[[RepoFile], bool]
) -> list[Item]:
    """Return the items in a folder (empty: the root) by path; with `recursive`, also in its subfolders."""
    prefix = f"{folder}/" if folder else ""

    def is_listed(path: str) -> bool:
        return path.startswith(prefix) and (recursive or "/" not in path[len(prefix) :])

    items = [file_item(file, is_masked(file)) for file in files if is_listed(file.path)]
    folders = {path: hidden for path, hidden in _masked_folders(files, is_masked).items() if is_listed(path)}
    items += folder_items(files, folders).values()
    return sorted(items, key=lambda item: item["path"])


def path_items(
    files: Sequence[RepoFile], paths: Iterable[str], *, is_masked: Callable[[RepoFile], bool]
) -> list[Item]:
    """Return the items of the named paths in their order; leave out unknown ones."""
    by_path = {file.path: file for file in files}
    asked = dict.fromkeys(path.strip("/") for path in paths)
    masked = {path: hidden for path, hidden in _masked_folders(files, is_masked).items() if path in asked}
    folders = folder_items(files, masked)
    items = []
    for path in asked:
        if path in by_path:
            items.append(file_item(by_path[path], is_masked(by_path[path])))
        elif path in folders:
            items.append(folders[path])
    return items


def add_last_commits(items: Sequence[Item], files: Sequence[RepoFile], history: Sequence[int]) -> None:
    """Add `lastCommit` to each item: the newest commit of `history` that changed it, in two queries."""
    # A child's key is higher than its parent's: the highest revision that changed a file set its content.
    before = Window(Lag("blob"), partition_by=F("path"), order_by=F("revision").asc())
    rows = RepoFile.objects.filter(revision__in=history, path__in=[file.path for file in files]).order_by()
    changes = rows.annotate(before=before).filter(Q(before=None) | ~Q(before=F("blob")))
    changed = dict(changes.order_by("revision").values_list("path", "revision"))
    newest = dict(changed)
    for path, revision in changed.items():  # a folder is as new as the newest file in it
        end = path.rfind("/")
        while end > 0:
            newest[path[:end]] = max(newest.get(path[:end], 0), revision)
            end = path.rfind("/", 0, end)
    commits = Revision.objects.in_bulk({newest[item["path"]] for item in items})
    for item in items:
        commit = commits[newest[item["path"]]]
        item["lastCommit"] = {"id": commit.commit, "title": commit.title, "date": moment(commit.created_at)}
