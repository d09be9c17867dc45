"""Which names of a checkpoint are one tensor, found without a model class.

weight_diff goes through a model's state dict, in which a tied tensor stands under each of its names, so it is added
(or subtracted) once for each of them. How many there are is a fact of the architecture, and whether they are tied one
of the configuration: `ties.json` holds both, observed on the models of transformers (`tests/model_ops/recovery/
ties_table.py` writes it). Of an architecture that is not in it, only what the checkpoint itself says is believed;
where that is not enough the checkpoint is refused with what to pass.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from model_ops.recovery.equal_bytes import hold_the_same
from model_ops.recovery.errors import Refusal
from model_ops.recovery.repeated_names import expanded
from model_ops.recovery.tensors import TensorRef

NONE = "none"  # what --tied says where nothing is tied
_SAID = (None, True, False)
_DEEPEST = 4  # configurations inside one another
_EMBEDDING = re.compile(r"(?:.*[._])?(?:emb|embed\w*|word_embeddings|wte|shared|lm_head)(?:\.weight)?")

Tensors = Mapping[str, TensorRef]


@dataclass(frozen=True)
class Tie:
    """Names of one tensor, in the order of a state dict; `stored` is in the files, `written` in a result."""

    names: tuple[str, ...]
    stored: str
    written: str


@dataclass(frozen=True)
class _Rule:
    """One line of the table: names that are tied if the configuration says so.

    `spellings` are the names as files and as the model spell them, `stored` is the place of the one that is saved.
    """

    spellings: tuple[tuple[str, ...], ...]
    stored: int
    prefix: str
    inner: str
    when: str
    each: str

    def is_on(self, config: Mapping[str, Any]) -> bool:
        """Return whether transformers would tie the names under this configuration."""
        table: Any = config
        for part in filter(None, self.inner.split(".")):
            table = table.get(part) if isinstance(table, dict) else None
        inner = _said(table) if self.inner else None
        cases = list(product(_SAID, _SAID if self.inner else (None,)))
        return self.when[cases.index((_said(config), inner))] == "T"

    def groups(self, tensors: Tensors, config: Mapping[str, Any]) -> list[_Group]:
        """Return the groups as the files spell them, fully written out; none where the files hold none of the names."""
        if self.each:
            lists = expanded(self.each, self.spellings[0], self.stored, tensors, config)
            return [_Group(names, stored) for names, stored in lists]
        names = max(self.spellings, key=lambda names: sum(name in tensors for name in names))
        if not any(name in tensors for name in names):
            names = next(self._behind_prefixes(tensors), ())
        return [_Group(names, names[self.stored])] if names else []

    def _behind_prefixes(self, tensors: Tensors) -> Iterator[tuple[str, ...]]:
        """Yield the names without the class's own prefix, or behind one that a wrapper put in front, if files have them."""
        for names in self.spellings:
            bare = tuple(name.removeprefix(f"{self.prefix}.") for name in names)
            if bare[self.stored] != names[self.stored] and bare[self.stored] in tensors:
                yield bare
            stored = next((name for name in tensors if name.endswith(f".{names[self.stored]}")), None)
            if stored is not None:
                yield tuple(stored.removesuffix(names[self.stored]) + name for name in names)


@dataclass(frozen=True)
class _Group:
    names: tuple[str, ...]
    stored: str


def find_ties(
    tensors: Tensors, config: Mapping[str, Any], role: str, said: str | None = None
) -> tuple[Tie, ...]:
    """Return the groups of names in `tensors` that are one tensor each.

    `said` is what --tied says, None where it is not given. Reads the bytes of names that are stored apart although
    the configuration ties them. Raises Refusal if the files do not say it; the sentence says what to pass.
    """
    if said is not None:
        return tuple(_tie_of_said(names, tensors, role) for names in parse_tied(said))
    name, rules = _rules_for(config)
    if name in _table()["unclear"] and declared_tie(config) is not False:
        raise Refusal(f"{name} ties tensors, and which ones is not known here. {_advice('NAME=NAME')}")
    found = [(rule, group) for rule in rules or () for group in rule.groups(tensors, config)]
    if rules is None or (rules and not found):
        return tuple(_guessed(tensors, config))
    ties = []
    for rule, group in found:
        if rule.is_on(config):
            ties.append(_tie(group, tensors))
        else:
            _check_whole(group, tensors, name)
    return _merged(filter(None, ties))


def _merged(ties: Iterable[Tie]) -> tuple[Tie, ...]:
    """Return the ties with those of one stored tensor as one."""
    found: dict[str, Tie] = {}
    for tie in ties:
        before = found.get(tie.stored)
        names = tuple(dict.fromkeys((before.names if before else ()) + tie.names))
        found[tie.stored] = Tie(names, tie.stored, before.written if before else tie.written)
    return tuple(found.values())


def parse_tied(text: str) -> list[tuple[str, ...]]:
    """Return the groups that `--tied` names: `none`, or `NAME=NAME`, more names with `=`, more groups with `,`."""
    if text == NONE:
        return []
    groups = [tuple(group.split("=")) for group in text.split(",")]
    names = [name for group in groups for name in group]
    if any(len(group) < 2 for group in groups) or not all(names) or len(set(names)) < len(names):
        raise Refusal(
            f"--tied {text[:200]!r} is not understood; write none, or names of one tensor like"
            " lm_head.weight=model.embed_tokens.weight."
        )
    return groups


def keeps_buffer(config: Mapping[str, Any], name: str) -> bool:
    """Return whether the architecture saves a tensor of this name that looks like a buffer which others only compute."""
    class_name, _ = _rules_for(config)
    return f"{class_name} {re.sub('[0-9]+', '*', name)}" in _kept_buffers()


def embedding_names() -> frozenset[str]:
    """Return the names that embeddings have in any known architecture: what grows with a vocabulary."""
    return _embedding_names()


def declared_tie(config: Mapping[str, Any]) -> bool | None:
    """Return what a configuration and those inside it say of tying; None where they are silent or disagree."""
    found = set(_declared(config, _DEEPEST))
    return found.pop() if len(found) == 1 else None


def _declared(config: Mapping[str, Any], depth: int) -> Iterator[bool]:
    own = _said(config)
    if own is not None:
        yield own
    for inner in config.values():
        if depth and isinstance(inner, dict):
            yield from _declared(inner, depth - 1)


def _said(config: Any) -> bool | None:
    value = config.get("tie_word_embeddings") if isinstance(config, dict) else None
    return value if isinstance(value, bool) else None


@cache
def _table() -> dict[str, Any]:
    return dict(json.loads(Path(__file__).with_name("ties.json").read_text(encoding="utf-8")))


@cache
def _embedding_names() -> frozenset[str]:
    return frozenset(_table()["embeddings"])


@cache
def _kept_buffers() -> frozenset[str]:
    return frozenset(_table()["kept_buffers"])


@cache
def _rules() -> dict[str, list[_Rule]]:
    """Class name -> its rules; none for a class that ties nothing."""
    found: dict[str, list[_Rule]] = {name: [] for name in _table()["untied"]}
    for line in _table()["ties"]:
        spellings = tuple(map(tuple, line["spellings"]))
        rule = _Rule(spellings, line["stored"], line["prefix"], line["inner"], line["when"], line["each"])
        for name in line["architectures"]:
            found.setdefault(name, []).append(rule)
    return found


def _rules_for(config: Mapping[str, Any]) -> tuple[str, list[_Rule] | None]:
    """Return the class that a configuration means, and its rules; None for a class that is not known.

    weight_diff loads by the model type where `architectures` says nothing that transformers knows.
    """
    architectures = config.get("architectures")
    names = architectures if isinstance(architectures, list) else []
    by_type = _table()["by_model_type"].get(str(config.get("model_type")))
    for name in (*names[:1], by_type):
        if isinstance(name, str) and (name in _rules() or name in _table()["unclear"]):
            return name, _rules().get(name, [])
    return "this architecture", None


def _tie(group: _Group, tensors: Tensors) -> Tie | None:
    """Return the tie of a group that is on: as transformers does, without names that are stored with other values."""
    present = [name for name in group.names if name in tensors]
    stored = group.stored if group.stored in tensors else present[0]
    apart = {name for name in present if not _same(tensors[stored], tensors[name])}
    names = tuple(name for name in group.names if name not in apart)
    if len(names) < 2:
        return None
    return Tie(names, stored, group.stored if group.stored in names else stored)


def _same(one: TensorRef, other: TensorRef) -> bool:
    """Return whether two stored tensors hold the same values. Raises Refusal if their dtypes differ."""
    if one.dtype != other.dtype and one.shape == other.shape:
        raise Refusal(
            f"{one.name} and {other.name} are tied by its config.json and stored in two dtypes, {one.dtype} and"
            f" {other.dtype}. {_advice(f'{one.name}={other.name}')}"
        )
    return hold_the_same(one, other)


def _check_whole(group: _Group, tensors: Tensors, class_name: str) -> None:
    """Refuse a checkpoint that lacks what its configuration says is a tensor of its own."""
    missing = [name for name in group.names if name not in tensors]
    if missing:
        there = next(name for name in group.names if name in tensors)
        raise Refusal(
            f"it has {there} but no {missing[0]}, and {class_name} does not tie the two under its config.json, so"
            f" loading it would fill {missing[0]} with random numbers. If they are one tensor, set"
            f" tie_word_embeddings to true in config.json. {_advice(f'{missing[0]}={there}')}"
        )


def _tie_of_said(names: tuple[str, ...], tensors: Tensors, role: str) -> Tie:
    present = [name for name in names if name in tensors]
    if not present:
        raise Refusal(f"--tied names {names[0]}, and neither it nor its other names are in the {role}.")
    for name in present[1:]:
        if not hold_the_same(tensors[present[0]], tensors[name]):
            raise Refusal(
                f"--tied says that {present[0]} and {name} are one tensor, and the {role} stores them with"
                " different values."
            )
    return Tie(names, present[0], present[0])


def _guessed(tensors: Tensors, config: Mapping[str, Any]) -> Iterator[Tie]:
    """Yield the ties of an architecture that the table does not know, if the checkpoint leaves no doubt."""
    declared = declared_tie(config)
    if declared is False:
        return
    pairs = _usual_pairs()
    sources = [name for name in tensors if name in pairs]
    if not sources:
        _check_no_lone_embedding(tensors, config)
    for source in sources:
        target = next((name for name in pairs[source] if name in tensors), None)
        if target and not hold_the_same(tensors[source], tensors[target]):
            continue
        if not declared:
            how = "stores them alike" if target else "stores one of them"
            raise _unknown(source, target or pairs[source][0], how)
        yield Tie((source, target or pairs[source][0]), source, source)


@cache
def _usual_pairs() -> dict[str, list[str]]:
    """Return stored name -> its other one, the commonest first, of names that are two in all known architectures."""
    others: dict[str, Counter[str]] = {}
    as_other, more = Counter[str](), set()
    for line in _table()["ties"]:
        for names in line["spellings"] if not line["each"] else ():
            stored = names[line["stored"]]
            rest = dict.fromkeys((name for name in names if name != stored), len(line["architectures"]))
            others.setdefault(stored, Counter()).update(rest)
            as_other.update(rest)
            more |= {stored} if len(rest) > 1 else set()
    return {
        stored: [name for name, _ in count.most_common()]
        for stored, count in others.items()
        if stored not in more and count.total() > as_other[stored]
    }


def _check_no_lone_embedding(tensors: Tensors, config: Mapping[str, Any]) -> None:
    """Refuse one embedding without anything of its shape: an output that is tied to it, or none at all?"""
    sizes = set(_vocabulary_sizes(config, _DEEPEST))
    tables = [ref for ref in tensors.values() if len(ref.shape) == 2]
    found = [ref for ref in tables if ref.shape[0] in sizes] or [
        ref for ref in tables if _EMBEDDING.fullmatch(ref.name) and ref.shape[0] > ref.shape[1]
    ]
    if len(found) == 1:
        raise _unknown(found[0].name, "OUTPUT_NAME", "stores one embedding and no output of its shape")


def _vocabulary_sizes(config: Mapping[str, Any], depth: int) -> Iterator[int]:
    for name, value in config.items():
        if name == "vocab_size" and type(value) is int:
            yield value
        elif depth and isinstance(value, dict):
            yield from _vocabulary_sizes(value, depth - 1)


def _unknown(source: str, target: str, what: str) -> Refusal:
    return Refusal(
        f"nothing says whether {source} and {target} are one tensor: its architecture is not known here, its"
        f" config.json does not say, and it {what}. {_advice(f'{target}={source}')}"
    )


def _advice(example: str) -> str:
    return f"Pass --tied {example} if they are tied, --tied {NONE} if nothing is."


def names_of(ties: Iterable[Tie]) -> frozenset[str]:
    """Return every name of the ties."""
    return frozenset(name for tie in ties for name in tie.names)
