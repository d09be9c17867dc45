"""One checkpoint folder: the tensors it holds, where they are, and which names are tied."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from model_ops.recovery.checkpoints.ties import Tie, find_ties
from model_ops.recovery.errors import Refusal
from model_ops.recovery.formats.config import read_config
from model_ops.recovery.formats.folder import inner_file, open_folder
from model_ops.recovery.formats.safetensors import read_safetensors
from model_ops.recovery.formats.tensors import TensorRef
from model_ops.recovery.formats.torch_zip import read_torch_zip
from model_ops.recovery.inspection.folder import inspect_folder
from model_ops.recovery.inspection.notes import quantised_note
from model_ops.recovery.inspection.roles import Found
from model_ops.recovery.inspection.tensors import check_tensors

_READERS: dict[str, Callable[[Path], dict[str, TensorRef]]] = {
    "safetensors": read_safetensors,
    "bin": read_torch_zip,
}
MAX_TENSORS = 500_000
MAX_NAME = 500  # characters


@dataclass(frozen=True)
class Checkpoint:
    """What the headers of a folder say.

    `files` are the names of its weight files in order, `notes` are for its owner.
    """

    folder: Path
    role: str
    format: str
    files: tuple[str, ...]
    tensors: dict[str, TensorRef]
    config: dict[str, Any]
    ties: tuple[Tie, ...] = ()
    notes: tuple[str, ...] = ()

    def find(self, name: str) -> TensorRef | None:
        """Return the tensor with this name, even if it is stored under another of its names."""
        if name in self.tensors:
            return self.tensors[name]
        tie = self.tie_of(name)
        return self.tensors[tie.stored] if tie else None

    def tie_of(self, name: str) -> Tie | None:
        """Return the tie that a name belongs to."""
        return self._ties_by_name.get(name)

    @cached_property
    def _ties_by_name(self) -> dict[str, Tie]:
        return {name: tie for tie in self.ties for name in tie.names}

    @property
    def dtypes(self) -> tuple[str, ...]:
        """Return the dtypes found, sorted."""
        return tuple(sorted({ref.dtype for ref in self.tensors.values()}))


def read_checkpoint(path: Path | str, role: str) -> Checkpoint:
    """Parse every header of a folder. Messages call the folder by its `role` (base, diff, tuned)."""
    folder = open_folder(path, role)
    try:
        found = inspect_folder(folder, role, shown=str(path))
        kind = found.weights.kind
        tensors = _read_files(folder, found.listed, _READERS[kind], found.weights.index)
        check_tensors(tensors, role)
        config = read_config(folder)
    except Found:
        raise
    except Refusal as refusal:
        sentence = str(refusal)
        # only a word like "The" becomes lower case; names of files and tensors stay as they are
        if sentence.split(" ", 1)[0] in {"The", "Tensor", "Entries"}:
            sentence = sentence[0].lower() + sentence[1:]
        raise Refusal(f"The {role} cannot be used: {sentence}") from refusal
    except OSError as error:
        raise Refusal(f"The {role} folder {str(path)!r} cannot be read: {error.strerror}.") from error
    notes = (*found.notes, *filter(None, [quantised_note(config, role)]))
    return Checkpoint(folder, role, kind, tuple(found.listed), tensors, config, notes=notes)


def with_ties(checkpoint: Checkpoint, *, said: str | None, other: Checkpoint) -> Checkpoint:
    """Return the checkpoint with its ties. Without a config.json of its own, the other side's is used.

    Raises Refusal if the files do not say which names are tied.
    """
    config = checkpoint.config or other.config
    try:
        return replace(checkpoint, ties=find_ties(checkpoint.tensors, config, checkpoint.role, said))
    except Refusal as refusal:
        raise Refusal(f"The {checkpoint.role} cannot be used: {refusal}") from refusal


def _read_files(
    folder: Path,
    files: dict[str, set[str] | None],
    read: Callable[[Path], dict[str, TensorRef]],
    index: str,
) -> dict[str, TensorRef]:
    tensors: dict[str, TensorRef] = {}
    for file, expected in files.items():
        found = read(inner_file(folder, file))
        if expected is not None and (missing := expected - found.keys()):
            raise Refusal(
                f"The index puts {min(missing)[:200]!r} into {file}, but it is not there. Download {index} again together "
                "with the weights."
            )
        # transformers reads every tensor of a file, other loaders only the listed ones
        if expected is not None and (extra := found.keys() - expected):
            raise Refusal(
                f"{file} holds {min(extra)[:200]!r}, which the index does not list there, and loaders differ in whether they read "
                f"it. Delete {index} if the tensor belongs to the model; else take the tensor out of the file."
            )
        if twice := tensors.keys() & found.keys():
            raise Refusal(f"Tensor {min(twice)[:200]!r} is in more than one file.")
        tensors.update(found)
        if len(tensors) > MAX_TENSORS:
            raise Refusal(f"{folder.name} holds more than {MAX_TENSORS} tensors, which are not read.")
    if not tensors:
        raise Refusal(f"{folder.name} holds no tensors.")
    for name in tensors:
        if not name or len(name) > MAX_NAME or not name.isprintable():
            raise Refusal(f"a tensor has the name {name[:200]!r}, which is not a short printable text.")
    return tensors
