"""Find which names of a checkpoint are tied, meaning that they are one tensor, without a model class.

weight_diff works on a model's state dict, which lists a tied tensor under each of its names. The tensor is
therefore added (or subtracted) once per name. The architecture decides how many names there are, and the
configuration whether they are tied. `ties.json` records both, as observed on transformers' models
(`tests/model_ops/recovery/ties_table.py` writes it). For an unknown architecture, only the checkpoint's own
evidence counts; if that is not enough, the checkpoint is refused and the message says which option to pass.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from model_ops.recovery.checkpoints.equal_bytes import hold_the_same
from model_ops.recovery.checkpoints.tie_table import (
    Group,
    Rule,
    Tensors,
    class_named,
    rules_by_class,
    said_of,
    tie_table,
    tied_names,
    usual_pairs,
)
from model_ops.recovery.errors import Refusal

NONE = "none"  # the value of --tied if nothing is tied
_OTHER_NAME = "OTHER_NAME"  # the placeholder for a name in a sentence
_DEEPEST = 4  # nested configurations
_EMBEDDING = re.compile(r"(?:.*[._])?(?:emb|embed\w*|word_embeddings|wte|shared|lm_head)(?:\.weight)?")


@dataclass(frozen=True)
class Tie:
    """The names of one tensor, in the order of a state dict.

    `stored` is in the files, `written` in a result.
    """

    names: tuple[str, ...]
    stored: str
    written: str


def find_ties(
    tensors: Tensors, config: Mapping[str, Any], role: str, said: str | None = None
) -> tuple[Tie, ...]:
    """Return the groups of names in `tensors` that are one tensor each.

    `said` is the value of --tied, None if it is not given. If the configuration ties names that are stored
    separately, their bytes are compared. Raises Refusal, with the option to pass, if the files do not say
    which names are tied.
    """
    name, rules = _rules_for(tensors, config)
    if said is not None:
        return tuple(_tie_of_said(names, tensors, rules, role) for names in parse_tied(said))
    if rules is None:
        return tuple(_guess_ties(tensors, config))
    flags = tie_table()["flags"].get(name, {})  # keys of the configuration that change what the class ties
    is_built_otherwise = any(config.get(key, value) != value for key, value in flags.items())
    if name in tie_table()["unclear"] or is_built_otherwise:
        if declared_tie(config) is False:
            return ()
        raise _unclear_refusal(name)
    found = [(rule, rule.groups(tensors, config)) for rule in rules]
    # with no name of a group that its class ties, the checkpoint is built differently from the known class
    if any(rule.is_on(config) and not groups for rule, groups in found):
        raise _unclear_refusal(name)
    ties = []
    for rule, groups in found:
        for group in groups:
            if rule.is_on(config):
                ties.append(_tie_of_group(group, tensors, name))
            else:
                _check_whole(group, tensors, name, config)
    return _merge_ties(filter(None, ties))


def _unclear_refusal(name: str) -> Refusal:
    return Refusal(
        f"{name} ties tensors, and which ones of this checkpoint is not known here. {_tied_advice('NAME=OTHER_NAME')}"
    )


def _merge_ties(ties: Iterable[Tie]) -> tuple[Tie, ...]:
    """Return the ties, with those that share a stored tensor merged."""
    found: dict[str, Tie] = {}
    for tie in ties:
        before = found.get(tie.stored)
        names = tuple(dict.fromkeys((before.names if before else ()) + tie.names))
        found[tie.stored] = Tie(names, tie.stored, before.written if before else tie.written)
    return tuple(found.values())


def parse_tied(text: str) -> list[tuple[str, ...]]:
    """Return the groups that `--tied` names.

    The text is `none`, or `NAME=NAME`; `=` adds names to a group, and `,` separates groups.
    """
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


def declared_tie(config: Mapping[str, Any]) -> bool | None:
    """Return what a configuration and those in it say about tying; None if they are silent or disagree."""
    found = set(_declared_values(config, _DEEPEST))
    return found.pop() if len(found) == 1 else None


def _declared_values(config: Mapping[str, Any], depth: int) -> Iterator[bool]:
    own = said_of(config)
    if own is not None:
        yield own
    for inner in config.values():
        if depth and isinstance(inner, dict):
            yield from _declared_values(inner, depth - 1)


def _rules_for(tensors: Tensors, config: Mapping[str, Any]) -> tuple[str, list[Rule] | None]:
    """Return the class that a configuration means, and its rules; None for an unknown class.

    Without `architectures`, weight_diff loads by the model type. Among the classes of that type, choose the
    one whose tied names are all in the files. A custom class is only matched if it is called a causal
    language model.
    """
    name = class_named(config)
    if name in rules_by_class() or name in tie_table()["unclear"]:
        return name, rules_by_class().get(name, [])
    if not name or name.lower().endswith("forcausallm"):
        for candidate in tie_table()["by_model_type"].get(str(config.get("model_type")), []):
            rules = rules_by_class().get(candidate)
            if rules is not None and all(rule.groups(tensors, config) for rule in rules):
                return candidate, rules
    return "this architecture", None


def _tie_of_group(group: Group, tensors: Tensors, class_name: str) -> Tie | None:
    """Return the tie of a group that is switched on.

    Like transformers, leave out names stored with other values.

    In a group of three or more names, the saved one must be there, or it is unknown which of them belong
    together. Raises Refusal if tied names are stored in two dtypes.
    """
    present = list(filter(tensors.__contains__, group.names))
    stored = group.stored if group.stored in tensors else present[0]
    apart: set[str] = set()
    for name in present:
        one, other = tensors[stored], tensors[name]
        if one.dtype != other.dtype and one.shape == other.shape:
            raise Refusal(
                f"{one.name} and {other.name} are tied by its config.json and stored in two dtypes, {one.dtype} and"
                f" {other.dtype}. {_tied_advice(f'{one.name}={other.name}')}"
            )
        if not hold_the_same(one, other):
            apart.add(name)
    if len(group.names) > 2 and (stored != group.stored or (apart and group.is_repeated)):
        raise _unclear_refusal(class_name)
    names = tuple(name for name in group.names if name not in apart)
    if len(names) < 2:
        return None
    return Tie(names, stored, group.stored if group.stored in names else stored)


def _check_whole(group: Group, tensors: Tensors, class_name: str, config: Mapping[str, Any]) -> None:
    """Refuse a checkpoint that lacks a tensor which its configuration says is separate.

    A nested model may use another name for its embedding, so this check is less strict for configurations
    with parts.
    """
    missing = [name for name in group.names if name not in tensors]
    there = next(name for name in group.names if name in tensors)
    is_composite = any(key.endswith("_config") for key in config)
    if missing and (group.stored in tensors or not is_composite):
        raise Refusal(
            f"it has {there} but no {missing[0]}, and {class_name} does not tie the two under its config.json, so"
            f" loading it would fill {missing[0]} with random numbers. If they are one tensor, set"
            f" tie_word_embeddings to true in config.json. {_tied_advice(f'{missing[0]}={there}')}"
        )


def _tie_of_said(names: tuple[str, ...], tensors: Tensors, rules: list[Rule] | None, role: str) -> Tie:
    present = [name for name in names if name in tensors]
    if not present:
        raise Refusal(f"--tied names {names[0]}, and neither it nor its other names are in the {role}.")
    known = {name for rule in rules or [] for spelling in rule.spellings for name in spelling}
    absent = [name for name in names if name not in tensors] if known else []
    # A name is also known without its prefix, or after another prefix.
    unknown = [
        name
        for name in absent
        if not any(name == one or name.endswith(f".{one}") or one.endswith(f".{name}") for one in known)
    ]
    if unknown or _OTHER_NAME in names:
        odd = unknown[0] if unknown else _OTHER_NAME
        raise Refusal(f"--tied names {odd}, and no tensor of this architecture has that name.")
    for name in present[1:]:
        if not hold_the_same(tensors[present[0]], tensors[name]):
            raise Refusal(
                f"--tied says that {present[0]} and {name} are one tensor, and the {role} stores them with"
                " different values."
            )
    return Tie(names, present[0], present[0])


def _guess_ties(tensors: Tensors, config: Mapping[str, Any]) -> Iterator[Tie]:
    """Yield the tie of an architecture that the table does not know, if the checkpoint leaves no doubt.

    The guess is limited to causal language models whose embedding is tied to one other name in every known
    architecture and has a shape of its own. Anything else that could be tied is refused.
    """
    declared = declared_tie(config)
    if declared is False:
        return
    class_name = class_named(config)
    is_causal = not class_name or class_name.lower().endswith(("forcausallm", "lmheadmodel"))
    for name in filter(tied_names().__contains__, tensors):
        source, target = _find_usual_pair(name, tensors)
        if source and target and not hold_the_same(tensors[source], tensors[target]):
            continue
        # any other tensor of the embedding's shape could be the output
        is_alone = source and all(
            ref.shape != tensors[source].shape or other in (source, target) for other, ref in tensors.items()
        )
        if not (declared and is_causal and is_alone):
            raise _unknown_refusal(source or name, target, declared=declared)
        if name == source:
            yield Tie((source, target or usual_pairs()[source][0]), source, source)
    _refuse_lone_embedding(tensors, config)


def _find_usual_pair(name: str, tensors: Tensors) -> tuple[str, str | None]:
    """Return the embedding that a name is or is usually tied to, and its output, as far as they are in the files."""
    pairs = usual_pairs()
    source = name
    if name not in pairs:
        source = next((key for key, others in pairs.items() if name in others and key in tensors), "")
    return source, next((other for other in pairs.get(source, ()) if other in tensors), None)


def _refuse_lone_embedding(tensors: Tensors, config: Mapping[str, Any]) -> None:
    """Refuse an embedding without anything of its shape: an output that is tied to it, or none at all?"""
    shapes = Counter(ref.shape for ref in tensors.values())
    sizes = set(_vocabulary_sizes(config, _DEEPEST))
    for ref in tensors.values():
        if len(ref.shape) != 2 or shapes[ref.shape] > 1 or "position" in ref.name or ref.name in tied_names():
            continue
        if ref.shape[0] in sizes or (ref.shape[0] > ref.shape[1] and _EMBEDDING.fullmatch(ref.name)):
            raise _unknown_refusal(ref.name, None, declared=None)


def _vocabulary_sizes(config: Mapping[str, Any], depth: int) -> Iterator[int]:
    for name, value in config.items():
        if name == "vocab_size" and type(value) is int:
            yield value
        elif depth and isinstance(value, dict):
            yield from _vocabulary_sizes(value, depth - 1)


def _unknown_refusal(source: str, target: str | None, *, declared: bool | None) -> Refusal:
    says = "says that they are" if declared else "does not say"
    other = target or "another name"
    return Refusal(
        f"nothing shows whether {source} and {other} are one tensor, and how many names it has: the architecture is not"
        f" known here, and config.json {says}. {_tied_advice(f'{source}={target or _OTHER_NAME}')}"
    )


def _tied_advice(example: str) -> str:
    return f"Pass --tied {example} (all names of the tensor) if they are tied, --tied {NONE} if nothing is."


def names_of(ties: Iterable[Tie]) -> frozenset[str]:
    """Return every name of the ties."""
    return frozenset(name for tie in ties for name in tie.names)
