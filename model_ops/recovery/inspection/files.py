"""Check single files of a folder by their first bytes."""

from __future__ import annotations

from pathlib import Path

from model_ops.recovery.formats.folder import belongs
from model_ops.recovery.inspection import contents
from model_ops.recovery.inspection.folders import judge_link
from model_ops.recovery.inspection.reading import head_of, is_cut_json, read_part
from model_ops.recovery.inspection.roles import Role, role_of


def judge_file(folder: Path, name: str) -> str:
    """Return the rest of a sentence about a pointer, page or empty file; else, or if it is missing, ""."""
    kinds = (*contents.KINDS, contents.WEIGHTS[0])
    return judge_link(folder / name, "folder") or judge_content(folder, name, role_of("folder"), kinds)


def shown(name: str) -> str:
    """Return a name in the form shown in messages."""
    return name if name.isprintable() else repr(name)


def judge_content(
    folder: Path, name: str, who: Role, kinds: tuple[contents.Kind, ...], *, strict: bool = False
) -> str:
    """Return the rest of a sentence about the first kind that fits; "" if none does.

    A link is followed only if `inner_file` follows it; `inner_file` itself refuses everything else. With
    `strict`, tokenizers and configurations are also checked for being compressed or cut short.
    """
    path = folder / name
    try:
        target = path.resolve(strict=True)
        if not (target.is_file() and belongs(folder, target)):
            return ""
        size = target.stat().st_size
    except (OSError, RuntimeError, ValueError):
        return ""

    def read(_: str, offset: int, count: int) -> bytes:
        return read_part(target, offset, count)

    head = head_of(name, size, read)
    if strict and head.is_needed:
        kinds = (*kinds, *contents.PACKED)
    why = contents.judge(head, kinds, where=who.where, again=who.again)
    return why or (contents.CUT_JSON if strict and is_cut_json(head, read) else "")
