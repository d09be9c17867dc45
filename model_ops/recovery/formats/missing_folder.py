"""Explain why a path is not a folder, and guess which folder was meant."""

from __future__ import annotations

import re
from pathlib import Path

_REPO = re.compile(
    r"(?:hf:|(?:https?:/{1,2})?(?:www\.)?(?:huggingface\.co|hf\.co)/)?"
    r"(?P<id>[A-Za-z0-9][A-Za-z0-9_.-]{0,95}/(?P<name>[A-Za-z0-9][A-Za-z0-9_.-]{0,95}))"
    r"(?:@[\w./-]+|/(?:tree|blob|resolve)/\S*)?/?"
)
_ARCHIVES = (".zip", ".tar", ".tgz", ".gz", ".7z", ".rar", ".zst", ".xz", ".bz2")


def why_missing(path: Path | str, role: str) -> str:
    """Return one or two sentences about a path that is not a folder."""
    text = str(path)
    missing = f"The {role} folder {text!r} does not exist or cannot be read."
    try:
        folder = Path(text)
        if folder.is_file():
            if folder.suffix.lower() in _ARCHIVES:
                return f"The {role} {str(folder)!r} is a packed file. Unpack it, then name the folder that the weights are in."
            return f"The {role} {str(folder)!r} is a file. Name the folder that it is in: {str(folder.parent)!r}."
        if "~" in text and folder.expanduser().is_dir():
            return f"{missing} Write the path in full: {str(folder.expanduser())!r}."
        # a sibling folder whose name differs only in case, outer spaces or quotes
        wanted = folder.name.strip(" '\"").casefold()
        others = sorted(folder.parent.iterdir())[:10_000] if wanted and folder.parent.is_dir() else []
        for other in others:
            if other.name.casefold() == wanted and other.is_dir():
                return f"{missing} There is {other.name!r} beside it; check the name."
    except (OSError, RuntimeError, ValueError):
        return missing
    found = _REPO.fullmatch(text)
    if found:
        return (
            f"{missing} If it is a repository on the Hugging Face Hub, download it first: `hf download {found['id']} "
            f"--local-dir {found['name']}`, then name that folder."
        )
    return missing
