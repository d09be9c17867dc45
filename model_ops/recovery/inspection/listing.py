"""Check a repository by its list of files, before fetching any of them."""

from __future__ import annotations

from collections.abc import Iterable

from model_ops.recovery.inspection.formats import adapter, find_format
from model_ops.recovery.inspection.roles import role_of
from model_ops.recovery.inspection.weights import find_weights, judge_shards


def judge_listing(paths: Iterable[str], role: str) -> str:
    """Return a sentence that says why nothing can be recovered from these files; "" if it may work."""
    who, known = role_of(role), list(paths)
    top = [path for path in known if "/" not in path]
    if find_weights(top):
        return ""
    if why := judge_shards(top):
        return f"{who.name} {why}"
    if why := adapter(top, lambda _: b""):
        return f"{who.name} {why.format(role=who.wanted)}"
    below = sorted({path.rpartition("/")[0] for path in known if find_weights([path.rpartition("/")[2]])})
    if below:
        return (
            f"{who.name} has its weights in the folder {below[0]!r} of the repository, and only the top folder is read. "
            "Download it with `hf download`, then name that folder."
        )
    folders = {path.split("/", 1)[0] + "/" for path in known if "/" in path}
    if found := find_format([*top, *sorted(folders)]):
        kind, name = found
        return f"{who.name} {kind.says.format(file=name.rstrip('/'))}"
    return ""
