"""Files that an operator opened to a further user by an access list (`setfacl`), such as nginx's."""

from __future__ import annotations

import os
from pathlib import Path

ACCESS_LIST = "system.posix_acl_access"


def has_access_list(path: Path) -> bool:
    """Whether the file names more users than its mode does; False where the file system knows no such lists."""
    try:
        return bool(os.getxattr(path, ACCESS_LIST, follow_symlinks=False))
    except (OSError, AttributeError):  # none set or none possible; macOS has no such call
        return False


def private_mode(path: Path) -> int:
    """0600, or 0640 for a file with an access list, whose readers the middle digit bounds."""
    return 0o640 if has_access_list(path) else 0o600
