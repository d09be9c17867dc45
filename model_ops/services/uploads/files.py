"""Hold a branch's files while the operations of a commit change them."""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, MutableMapping

from model_ops.services.store.git_objects import StoredFile


class Files(MutableMapping[str, StoredFile]):
    """Files by path, with sorted names, so that a folder is found without reading its neighbours."""

    def __init__(self, files: Iterable[StoredFile]) -> None:
        self._files = {file.path: file for file in files}
        self._names = sorted(self._files)

    def __getitem__(self, path: str) -> StoredFile:
        return self._files[path]

    def __setitem__(self, path: str, file: StoredFile) -> None:
        if path not in self._files:
            insort(self._names, path)
        self._files[path] = file

    def __delitem__(self, path: str) -> None:
        del self._files[path]
        del self._names[bisect_left(self._names, path)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)

    def delete_folder(self, folder: str) -> int:
        """Delete all files in the folder; return how many."""
        first = bisect_left(self._names, f"{folder}/")
        end = bisect_left(self._names, f"{folder}0", first)  # "0" comes right after the slash
        for path in self._names[first:end]:
            del self._files[path]
        del self._names[first:end]
        return end - first
