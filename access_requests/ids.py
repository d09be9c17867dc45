"""Patterns for the Hub's ids, to use with `fullmatch`.

The recovery engine has its own and imports none of these.
"""

from __future__ import annotations

import re

_NAME = "[A-Za-z0-9_.-]{1,96}"
NAME = re.compile(_NAME)  # a namespace, or a repository in it
REPO_ID = re.compile(f"{_NAME}/{_NAME}")
REMOTE_ID = re.compile(f"(?:{_NAME}/)?{_NAME}")  # on another Hub, where a few repositories have no namespace
GIT_ID = re.compile("[0-9a-f]{40}")  # a commit or a file
SHA256 = re.compile("[0-9a-f]{64}")


def is_remote_id(text: str) -> bool:
    """Return whether this can be the id of a repository on another Hub."""
    return REMOTE_ID.fullmatch(text) is not None and ".." not in text and "--" not in text
