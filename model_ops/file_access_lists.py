"""Check files for an access list (`setfacl`) that lets another user, such as nginx's, read them."""

from __future__ import annotations

import os
from pathlib import Path

ACCESS_LIST = "system.posix_acl_access"


def has_access_list(path: Path) -> bool:
    """Return whether an access list names more users than the mode; False without file system support."""
    try:
        return bool(os.getxattr(path, ACCESS_LIST, follow_symlinks=False))
    except (OSError, AttributeError):  # none set, or not supported; macOS has no such call
        return False


def private_mode(path: Path) -> int:
    """Return 0600, or 0640 for a file with an access list, whose permissions the group digit limits."""
    return 0o640 if has_access_list(path) else 0o600
