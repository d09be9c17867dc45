"""Decide what happens to each tensor: the rules of `weight_diff.py` and its relatives, as a table of tasks.

Everything that those tools silently get wrong (a missing tensor, a broadcast, an unknown key) is refused
here, before anything is written.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from model_ops.recovery.checkpoints.buffers import is_buffer, is_rotary
from model_ops.recovery.checkpoints.checkpoint import Checkpoint
from model_ops.recovery.checkpoints.tie_table import keeps_buffer
from model_ops.recovery.checkpoints.ties import Tie
from model_ops.recovery.errors import Refusal
from model_ops.recovery.formats.dtypes import ADDABLE, INPUT_NAMES, WHOLE
from model_ops.recovery.formats.tensors import TensorRef
from model_ops.recovery.planning.grown_embeddings import Growing

_TIMES = {2: "twice", 3: "three times", 4: "four times"}


@dataclass(frozen=True)
class TensorTask:
    """One tensor to write: `first` (the diff's, or the tuned model's) plus or minus each of `terms`.

    `fill` says what the rows beyond the base's own hold if `first` has more: `mean` or `zero`, else None.
    `whole` is the dtype of whole numbers, which are written as they are added; None for all other values.
    """

    name: str
    rule: str
    first: TensorRef
    terms: tuple[TensorRef, ...]
    fill: str | None = None
    whole: str | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Return the shape written."""
        return self.first.shape


def times_of(rule: str) -> int | None:
    """Return how often a rule adds the base; None for a rule that does not add it or is unknown."""
    match = re.fullmatch(r"add(?:_(twice|[0-9]{1,6})(?:_times)?)?(?:_grown)?", rule)
    if match is None:
        return None
    return 2 if match[1] == "twice" else int(match[1] or 1)


@dataclass(frozen=True)
class Rules:
    """The table, and what a person should know about it.

    `dropped` names what is stored but not written: buffers, and the other names of a tied tensor.
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
    diff_only: str | None,
    making: bool,
) -> Rules:
    """Return the rules for every tensor of both sides.

    With `making`, `first` is a tuned model to subtract from.
    """
    growing = Growing(base, first.role, compat, resize_policy, making=making)
    matcher = _Matcher(base, first, compat, growing, diff_only, making)
    # All buffers on either side, except those on both sides that the architecture saves.
    found = {ref.name for ref in (*base.tensors.values(), *first.tensors.values()) if is_buffer(ref)}
    config, both = first.config or base.config, base.tensors.keys() & first.tensors.keys()
    buffers = {name for name in found if name not in both or not keeps_buffer(config, name)}
    for name, ref in first.tensors.items():
        if name not in buffers:
            matcher.add(name, ref)
    for name in sorted(filter(is_rotary, buffers)) if keep_rotary else ():
        matcher.keep(name)
    matcher.check_base_only(buffers)
    growing.check_together([(task.name, task.first, task.terms) for task in matcher.tasks])
    written = {task.name for task in matcher.tasks}
    dropped = tuple(sorted((buffers | matcher.others) - written))
    return Rules(tuple(matcher.tasks), dropped, tuple(growing.resized), tuple(matcher.notes))


class _Matcher:
    def __init__(
        self,
        base: Checkpoint,
        first: Checkpoint,
        compat: str,
        growing: Growing,
        diff_only: str | None,
        making: bool,
    ) -> None:
        self.base, self.first, self.making = base, first, making
        self.compat, self.growing, self.diff_only = compat, growing, diff_only
        self.tasks: list[TensorTask] = []
        self.notes: list[str] = []
        self.used: set[str] = set()
        self.others: set[str] = set()

    def add(self, name: str, ref: TensorRef) -> None:
        """Add the task for a tensor of the diff or the tuned model."""
        tie = self.first.tie_of(name)
        if tie is None and self.diff_only == "copy" and self.base.find(name) is None:
            self.notes.append(f"{name} is only in the {self.first.role} and is taken as it is.")
            self._add_task(name, "copy", ref, ())
        elif tie is None:
            self._add_task(name, "add", ref, (self._base_tensor(name, ref),))
        elif name == tie.stored:
            self._add_tied_task(tie, ref)

    def _add_tied_task(self, tie: Tie, ref: TensorRef) -> None:
        """Each name reaches the one tensor, so the peers add (and subtract) once for each."""
        others = [name for name in tie.names if name != tie.written]
        if self.compat == "fastchat":
            raise Refusal(
                f"The {self.first.role}'s embeddings are tied ({tie.written}, {', '.join(others)}), which FastChat's "
                "own tools do not restore; use --compat weight_diff."
            )
        terms = tuple(self._base_tensor(name, ref) for name in tie.names)
        for term in terms[1:]:
            if term.shape != terms[0].shape:
                raise Refusal(
                    f"The base has {terms[0].describe()} and {term.describe()}, yet they must be tied."
                )
        self.others |= set(others) & (self.base.tensors.keys() | self.first.tensors.keys())
        count = len(terms)
        times = _TIMES.get(count, f"{count} times")
        self.notes.append(
            f"{' and '.join([tie.written, *others])} are tied and written once, as {tie.written}; the base is "
            f"{'subtracted' if self.making else 'added'} {times}, as weight_diff does."
        )
        rule = "add_twice" if count == 2 else f"add_{count}_times"
        self._add_task(tie.written, rule, ref, terms)

    def keep(self, name: str) -> None:
        """Keep a rotary buffer: added if both sides have it, else copied."""
        mine, theirs = self.first.tensors.get(name), self.base.tensors.get(name)
        if mine and theirs:
            self._add_task(name, "add", mine, (theirs,))
        elif mine or (theirs and not self.making):
            carried = mine or theirs
            assert carried is not None  # noqa: S101 - narrows for the type checker
            self._add_task(name, "copy", carried, ())

    def _base_tensor(self, name: str, ref: TensorRef) -> TensorRef:
        found = self.base.find(name)
        if found is None:
            advice = f" If it was added to the model, --diff-only copy takes it from the {self.first.role}."
            helps = self.diff_only != "copy" and self.first.tie_of(name) is None
            raise Refusal(
                f"The {self.first.role} has {ref.describe()}, but the base has no tensor {name}.{advice if helps else ''}"
            )
        self.used.add(found.name)
        self.used.add(name)
        return found

    def _add_task(self, name: str, rule: str, ref: TensorRef, terms: tuple[TensorRef, ...]) -> None:
        odd = next((tensor for tensor in (ref, *terms) if tensor.dtype not in ADDABLE), None)
        if odd and not (odd.dtype in WHOLE and all(term.dtype == ref.dtype for term in terms)):
            allowed = ", ".join(INPUT_NAMES.values())
            raise Refusal(
                f"Tensor {odd.name} has dtype {odd.dtype}; only {allowed}, and whole numbers of one dtype, can be added."
            )
        fill, whole = None, ref.dtype if ref.dtype in WHOLE else None
        if any(term.shape != ref.shape for term in terms):
            if whole:
                raise Refusal(
                    f"{name} holds whole numbers and has other shapes in base and {self.first.role}."
                )
            fill, terms = self.growing.grow(name, ref, terms)
            rule = "skip" if not terms else f"{rule}_grown" if fill else rule
        self.tasks.append(TensorTask(name, rule, ref, terms, fill=fill, whole=whole))

    def check_base_only(self, buffers: set[str]) -> None:
        """Refuse what only the base has.

        A tied base has all its names, so none of them may be missing either.
        """
        for name, ref in self.base.tensors.items():
            if name not in self.used and name not in buffers:
                raise Refusal(f"The base has {ref.describe()}, which is missing in the {self.first.role}.")
        for tie in self.base.ties:
            for name in tie.names:
                if name not in self.used:
                    raise Refusal(
                        f"The base has {name} (tied to {tie.stored}), which is missing in the {self.first.role}, "
                        "whose configuration says that its embeddings are not tied."
                    )
