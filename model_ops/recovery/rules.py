"""What happens to each tensor. The rules of `weight_diff.py` and its relatives, as a table of tasks.

Everything that those tools do silently wrong (a missing tensor, a broadcast, a foreign key) is refused here,
while nothing has been written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from model_ops.recovery.checkpoint import EMBEDDINGS, Checkpoint, Tie
from model_ops.recovery.config import has_pad_token
from model_ops.recovery.dtypes import ADDABLE, LONG_NAMES
from model_ops.recovery.errors import Refusal
from model_ops.recovery.tensors import TensorRef

_ROTARY = re.compile(r"(?:.+\.)?rotary_emb\.inv_freq")
_EMBEDDING_NAMES = frozenset(name for pair in EMBEDDINGS for name in pair)


@dataclass(frozen=True)
class TensorTask:
    """One tensor to write: `first` (the diff's, or the tuned model's) plus or minus each of `terms`.

    `fill` says what the base's rows beyond its own hold when `first` has more: `mean` or `zero`, else None.
    """

    name: str
    rule: str
    first: TensorRef
    terms: tuple[TensorRef, ...]
    fill: str | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape written."""
        return self.first.shape


@dataclass(frozen=True)
class Rules:
    """The table, and what a person should know about it.

    `dropped` names what is stored and not written: rotary buffers, and the tied twin of a stored embedding.
    """

    tasks: tuple[TensorTask, ...]
    dropped: tuple[str, ...]
    resized: tuple[str, ...]
    notes: tuple[str, ...]


def match_tensors(
    base: Checkpoint,
    first: Checkpoint,
    *,
    compat: str,
    resize_policy: str | None,
    keep_rotary: bool,
    making: bool,
) -> Rules:
    """Decide for every tensor of both sides; `making`: `first` is a tuned model to subtract from."""
    matcher = _Matcher(base, first, compat, resize_policy, making)
    rotary = {name for name in [*base.tensors, *first.tensors] if _ROTARY.fullmatch(name)}
    for name, ref in first.tensors.items():
        if name not in rotary:
            matcher.add(name, ref)
    if keep_rotary:
        for name in sorted(rotary):
            matcher.keep(name)
    matcher.check_base_only(rotary)
    written = {task.name for task in matcher.tasks}
    dropped = tuple(sorted((rotary | matcher.twins) - written))
    return Rules(tuple(matcher.tasks), dropped, tuple(matcher.resized), tuple(matcher.notes))


class _Matcher:
    def __init__(
        self, base: Checkpoint, first: Checkpoint, compat: str, resize_policy: str | None, making: bool
    ) -> None:
        self.base, self.first, self.making = base, first, making
        self.compat, self.policy = compat, resize_policy
        self.tasks: list[TensorTask] = []
        self.resized: list[str] = []
        self.notes: list[str] = []
        self.used: set[str] = set()
        self.twins: set[str] = set()

    def add(self, name: str, ref: TensorRef) -> None:
        tie = self.first.tie
        if tie and name in {tie.input, tie.output}:
            if name == tie.stored:
                self._add_tied(tie, ref)
            return
        self._task(name, "add", ref, (self._base_tensor(name, ref),))

    def _add_tied(self, tie: Tie, ref: TensorRef) -> None:
        """Both names reach the one tensor, so the peers add (and subtract) twice."""
        if self.compat == "fastchat":
            raise Refusal(
                f"The {self.first.role}'s embeddings are tied ({tie.input}, {tie.output}), which FastChat's "
                "own tools do not restore; use --compat weight_diff."
            )
        terms = (self._base_tensor(tie.input, ref), self._base_tensor(tie.output, ref))
        if terms[0].shape != terms[1].shape:
            raise Refusal(
                f"The base has {terms[0].describe()} and {terms[1].describe()}, yet they must be tied."
            )
        word = "subtracted" if self.making else "added"
        self.twins |= {tie.output} & (self.base.tensors.keys() | self.first.tensors.keys())
        self.notes.append(
            f"{tie.input} and {tie.output} are tied and written once, as {tie.input}; the base is {word} twice, as "
            "weight_diff does."
        )
        self._task(tie.input, "add_twice", ref, terms)

    def keep(self, name: str) -> None:
        """A rotary buffer: added where both have it, else carried."""
        mine, theirs = self.first.tensors.get(name), self.base.tensors.get(name)
        if mine and theirs:
            self._task(name, "add", mine, (theirs,))
        elif mine or (theirs and not self.making):
            carried = mine or theirs
            assert carried is not None  # noqa: S101 - narrows for the type checker
            self._task(name, "copy", carried, ())

    def _base_tensor(self, name: str, ref: TensorRef) -> TensorRef:
        found = self.base.find(name)
        if found is None:
            raise Refusal(f"The {self.first.role} has {ref.describe()}, but the base has no tensor {name}.")
        self.used.add(found.name)
        self.used.add(name)
        return found

    def _task(self, name: str, rule: str, ref: TensorRef, terms: tuple[TensorRef, ...]) -> None:
        for tensor in (ref, *terms):
            if tensor.dtype not in ADDABLE:
                allowed = ", ".join(LONG_NAMES.values())
                raise Refusal(f"Tensor {tensor.name} has dtype {tensor.dtype}; only {allowed} can be added.")
        if all(term.shape == ref.shape for term in terms):
            self.tasks.append(TensorTask(name, rule, ref, terms))
        else:
            self.tasks.append(self._grow(name, rule, ref, terms))

    def _grow(self, name: str, rule: str, ref: TensorRef, terms: tuple[TensorRef, ...]) -> TensorTask:
        policy, old, new = self.policy or "mean", terms[0].shape, ref.shape
        shapes = f"{name} has shape {list(new)} in the {self.first.role} but {list(old)} in the base"
        grows = len(new) == len(old) == 2 and new[1] == old[1] > 0 and new[0] > old[0] > 0
        if not grows or name not in _EMBEDDING_NAMES:
            raise Refusal(f"{shapes}; they do not belong together.")
        if policy == "error" or (self.policy is None and self.compat == "fastchat"):
            raise Refusal(
                f"{shapes}, and rows are not added under this resize policy; choose mean, zero or skip."
            )
        self._check_pad_token(shapes)
        self.resized.append(f"{name}: {old[0]} -> {new[0]} rows ({policy})")
        if policy == "skip":
            return TensorTask(name, "skip", ref, ())
        return TensorTask(name, f"{rule}_grown", ref, terms, fill=policy)

    def _check_pad_token(self, shapes: str) -> None:
        """weight_diff grows the base only when its tokenizer has no padding token, and fails otherwise."""
        if self.policy is None and not self.making and has_pad_token(self.base.folder):
            raise Refusal(
                f"{shapes}, and the base's tokenizer already has a padding token, so weight_diff would not "
                "grow it; name --resize-policy to grow it nevertheless."
            )

    def check_base_only(self, rotary: set[str]) -> None:
        """A tied base has both names, so its twin may not be missing either."""
        for name, ref in self.base.tensors.items():
            if name not in self.used and name not in rotary:
                raise Refusal(f"The base has {ref.describe()}, which is missing in the {self.first.role}.")
        tie = self.base.tie
        for name in (tie.input, tie.output) if tie else ():
            if name not in self.used:
                raise Refusal(
                    f"The base has {name} (tied to {tie.stored if tie else name}), which is missing in the "
                    f"{self.first.role}, whose configuration says that its embeddings are not tied."
                )
