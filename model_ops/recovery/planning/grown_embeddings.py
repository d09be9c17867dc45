"""Apply the resize policy to embeddings whose number of rows differs between the base and the other side."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from model_ops.recovery.checkpoints.checkpoint import Checkpoint
from model_ops.recovery.checkpoints.tie_table import embedding_names
from model_ops.recovery.checkpoints.ties import names_of
from model_ops.recovery.errors import Refusal
from model_ops.recovery.formats.config import has_pad_token
from model_ops.recovery.formats.tensors import TensorRef


class Growing:
    """The policy, and what was grown or cut under it (one line each in `resized`)."""

    def __init__(self, base: Checkpoint, role: str, compat: str, policy: str | None, *, making: bool) -> None:
        self.base, self.role, self.compat, self.policy, self.making = base, role, compat, policy, making
        self.resized: list[str] = []
        self._rows: dict[str, tuple[int, int]] = {}
        self._embeddings = embedding_names() | names_of(base.ties)

    def grow(
        self, name: str, ref: TensorRef, terms: tuple[TensorRef, ...]
    ) -> tuple[str | None, tuple[TensorRef, ...]]:
        """Return (what new rows hold, the terms) for a tensor whose shape is not the base's.

        Without terms it is kept.

        Raises Refusal if the shapes are not compatible or the policy does not say what to do.
        """
        old, new = terms[0].shape, ref.shape
        shapes = f"{name} has shape {list(new)} in the {self.role} but {list(old)} in the base"
        if (
            not self._is_embedding(name)
            or len(new) != 2
            or len(old) != 2
            or new[1] != old[1]
            or 0 in new + old
        ):
            raise Refusal(f"{shapes}; they do not belong together.")
        policy = self._choose_policy(shapes, old[0], new[0])
        self.resized.append(f"{name}: {old[0]} -> {new[0]} rows ({policy})")
        self._rows[name] = (old[0], new[0])
        if policy == "skip":
            return None, ()
        if policy == "cut":
            return None, tuple(_first_rows(term, new[0]) for term in terms)
        return policy, terms

    def _is_embedding(self, name: str) -> bool:
        return name in self._embeddings or any(name.endswith(f".{known}") for known in self._embeddings)

    def _choose_policy(self, shapes: str, old: int, new: int) -> str:
        if new < old and self.policy != "cut":
            raise Refusal(
                f"{shapes}, {old - new} more rows, as in a base with a padded vocabulary. If the"
                f" first {new} rows were used to make the diff, pass --resize-policy cut."
            )
        if new >= old and self.policy == "cut":
            raise Refusal(
                f"{shapes}, so there is nothing to cut; choose another --resize-policy: mean, zero or skip."
            )
        if self.policy == "error" or (self.policy is None and self.compat == "fastchat"):
            raise Refusal(
                f"{shapes}, and rows are not added under this resize policy; Vicuna v0, LLaVA and most of FastChat's"
                " relatives added rows of zeros to the base: --resize-policy zero (mean and skip are the others)."
            )
        # weight_diff grows the base only if its tokenizer has no padding token, and fails otherwise.
        if self.policy is None and not self.making and has_pad_token(self.base.folder):
            raise Refusal(
                f"{shapes}, and the base's tokenizer already has a padding token, so weight_diff would not "
                "grow it; name --resize-policy to grow it nevertheless."
            )
        return self.policy or "mean"

    def check_together(self, tasks: Sequence[tuple[str, TensorRef, tuple[TensorRef, ...]]]) -> None:
        """Refuse an input embedding and an output with different numbers of rows, which no model can load."""
        if not self._rows:
            return
        grown, (old, new) = next(iter(self._rows.items()))
        for name, ref, _ in tasks:
            if len(ref.shape) != 2 or not self._is_embedding(name):
                continue
            there = self.base.find(name)
            before, after = self._rows.get(name, (there.shape[0] if there else 0, ref.shape[0]))
            if before == old and after != new:
                raise Refusal(
                    f"{grown} has {new} rows in the {self.role} and {name} has {after}, while both have {old} in the"
                    " base; no model loads two vocabularies. Ask the diff's publisher for a complete one."
                )


def first_rows_alone(base: Checkpoint, first: Checkpoint) -> Checkpoint:
    """Return the base with its embeddings cut to the other side's rows, as `cut` makes a diff from it."""
    embeddings = embedding_names() | names_of(base.ties)
    tensors, notes = dict(base.tensors), list(base.notes)
    for name, ref in base.tensors.items():
        other = first.find(name) if name in embeddings else None
        if other and len(ref.shape) == len(other.shape) == 2 and other.shape[0] < ref.shape[0]:
            tensors[name] = _first_rows(ref, other.shape[0])
            notes.append(f"Of {name} the base's first {other.shape[0]} of {ref.shape[0]} rows are taken.")
    return replace(base, tensors=tensors, notes=tuple(notes))


def _first_rows(ref: TensorRef, rows: int) -> TensorRef:
    """Return the first rows of a matrix."""
    return replace(ref, nbytes=ref.nbytes // ref.shape[0] * rows, shape=(rows, *ref.shape[1:]))
