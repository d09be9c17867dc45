"""The table of tied names (`ties.json`): which names transformers ties, and under which configuration."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from itertools import product
from pathlib import Path
from typing import Any

from model_ops.recovery.checkpoints.repeated_names import expanded
from model_ops.recovery.formats.tensors import TensorRef

_SAID = (None, True, False)

Tensors = Mapping[str, TensorRef]


@dataclass(frozen=True)
class Rule:
    """One line of the table: names that are tied if the configuration says so.

    `spellings` are the names as files and as the model spell them; `stored` is the position of the one that
    is saved.
    """

    spellings: tuple[tuple[str, ...], ...]
    stored: int
    prefix: str
    inner: str
    when: str
    each: str

    def is_on(self, config: Mapping[str, Any]) -> bool:
        """Return whether transformers ties the names under this configuration."""
        table: Any = config
        for part in filter(None, self.inner.split(".")):
            table = table.get(part) if isinstance(table, dict) else None
        inner = said_of(table) if self.inner else None
        cases = list(product(_SAID, _SAID if self.inner else (None,)))
        return self.when[cases.index((said_of(config), inner))] == "T"

    def groups(self, tensors: Tensors, config: Mapping[str, Any]) -> list[Group]:
        """Return the groups, written out in full and as the files spell them.

        There are none if the files hold none of the names.
        """
        if self.each:
            lists = expanded(self.each, self.spellings[0], self.stored, tensors, config)
            return [Group(names, stored, is_repeated=True) for names, stored in lists]
        names = max(self.spellings, key=lambda names: sum(name in tensors for name in names))
        if any(name in tensors for name in names):
            return [Group(names, names[self.stored])]
        # without the class's own prefix, or after a prefix that a wrapper added
        for names in self.spellings:
            saved = names[self.stored]
            bare = tuple(name.removeprefix(f"{self.prefix}.") for name in names)
            if bare[self.stored] != saved and bare[self.stored] in tensors:
                return [Group(bare, bare[self.stored])]
            found = next((name for name in tensors if name.endswith(f".{saved}")), None)
            if found is not None:
                return [Group(tuple(found.removesuffix(saved) + name for name in names), found)]
        return []


@dataclass(frozen=True)
class Group:
    """The names of one tensor as the files spell them; `stored` is the one that is saved."""

    names: tuple[str, ...]
    stored: str
    is_repeated: bool = False  # written out for each layer


def class_named(config: Mapping[str, Any]) -> str:
    """Return the class that a configuration names first, "" if it names none."""
    architectures = config.get("architectures")
    name = architectures[0] if isinstance(architectures, list) and architectures else ""
    return name if isinstance(name, str) else ""


def said_of(config: Any) -> bool | None:
    """Return what one configuration itself says about tying; None if it says nothing."""
    value = config.get("tie_word_embeddings") if isinstance(config, dict) else None
    return value if isinstance(value, bool) else None


def keeps_buffer(config: Mapping[str, Any], name: str) -> bool:
    """Return whether the architecture saves this tensor, which others treat as a computed buffer."""
    return f"{class_named(config)} {re.sub('[0-9]+', '*', name)}" in tie_table()["kept_buffers"]


@cache
def tie_table() -> dict[str, Any]:
    """Return `ties.json`; `tests/model_ops/recovery/ties_table.py` explains its parts."""
    return dict(json.loads(Path(__file__).with_name("ties.json").read_text(encoding="utf-8")))


@cache
def embedding_names() -> frozenset[str]:
    """Return the names that embeddings have in any known architecture; these grow with a vocabulary."""
    return frozenset(tie_table()["embeddings"])


@cache
def rules_by_class() -> dict[str, list[Rule]]:
    """Return class name -> its rules; the list is empty for a class that ties nothing."""
    found: dict[str, list[Rule]] = {name: [] for name in tie_table()["untied"]}
    for line in tie_table()["ties"]:
        spellings = tuple(map(tuple, line["spellings"]))
        rule = Rule(spellings, line["stored"], line["prefix"], line["inner"], line["when"], line["each"])
        for name in line["architectures"]:
            found.setdefault(name, []).append(rule)
    return found


@cache
def tied_names() -> frozenset[str]:
    """Return every name of an embedding or an output that any known architecture ties."""
    lines = [line for line in tie_table()["ties"] if not line["each"]]
    names = {name for line in lines for spelling in line["spellings"] for name in spelling}
    return frozenset(name for name in names if name in embedding_names() or "shared" in name)


@cache
def usual_pairs() -> dict[str, list[str]]:
    """Return stored name -> the names it is tied to, commonest first, for names that are always a pair."""
    others: dict[str, Counter[str]] = {}
    as_other, more = Counter[str](), set()
    for line in tie_table()["ties"]:
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
