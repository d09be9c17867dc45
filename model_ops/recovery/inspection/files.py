"""Judge one file of a folder by its first bytes."""

from __future__ import annotations

from pathlib import Path

from model_ops.recovery.folder import belongs
from model_ops.recovery.inspection import contents
from model_ops.recovery.inspection.folders import judge_link
from model_ops.recovery.inspection.reading import head_of, read_part
from model_ops.recovery.inspection.roles import Role, role_of


def judge_file(folder: Path, name: str) -> str:
    """What follows the name of a file that is a pointer, a page or empty; "" for any other, and where there is none."""
    kinds = (*contents.KINDS, contents.WEIGHTS[0])
    return judge_link(folder / name, "folder") or judge_content(folder, name, role_of("folder"), kinds)


def shown(name: str) -> str:
    """A name for a sentence."""
    return name if name.isprintable() else repr(name)


def judge_content(folder: Path, name: str, who: Role, kinds: tuple[contents.Kind, ...]) -> str:
    """What follows a file's name about the first kind that fits; "" where none does.

    A link's target is looked at only where `inner_file` would open it; what is no file of the folder is refused there.
    """
    path = folder / name
    try:
        target = path.resolve(strict=True)
        if not (target.is_file() and belongs(folder, target)):
            return ""
        size = target.stat().st_size
    except (OSError, RuntimeError, ValueError):
        return ""
    head = head_of(name, size, lambda _, offset, count: read_part(target, offset, count))
    return contents.judge(head, kinds, where=who.where, again=who.again)
