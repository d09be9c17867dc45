"""Choose the user that PostgreSQL runs as.

PostgreSQL refuses to be root, and all our files may be in a folder of mode 0700.
"""

import os
import pwd
import subprocess
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

from portal.embedded.errors import StartError

Mode = Literal["plain", "namespace", "switch"]


@dataclass(frozen=True)
class Identity:
    """How a server is started: as we are, in a user namespace as `uid`, or switched to `uid` for good."""

    mode: Mode
    uid: int = 0
    gid: int = 0


PLAIN = Identity("plain")


def postgres_identity() -> Identity:
    """Return how to run PostgreSQL: as the current user; as root, in a namespace or else as ``nobody``.

    A user without a line in the password file (in a container started with a bare number) gets a namespace
    too, because ``initdb`` looks its own user up.
    """
    if os.geteuid() == 0:
        if namespace_allowed():
            return _namespace_identity()
        try:
            nobody = pwd.getpwnam("nobody")
        except KeyError:
            raise StartError(
                "PostgreSQL cannot run as root, and here is neither a user namespace nor a user named nobody:"
                " start Gatehouse as an ordinary user."
            ) from None
        return Identity("switch", nobody.pw_uid, nobody.pw_gid)
    try:
        pwd.getpwuid(os.geteuid())
    except KeyError:
        if namespace_allowed():
            return _namespace_identity()
        raise StartError(
            f"PostgreSQL needs a user that has a name, and user id {os.geteuid()} has none here:"
            " add it to the password file or set DATABASE_URL to a server of your own."
        ) from None
    return PLAIN


def _namespace_identity() -> Identity:
    """Return a user namespace with the number of the first ordinary user of the password file.

    The server gets none of that user's rights.
    """
    named = next((entry for entry in pwd.getpwall() if entry.pw_uid not in (0, os.geteuid())), None)
    if named is None:
        raise StartError("PostgreSQL cannot run as root, and the password file names no other user.")
    return Identity("namespace", named.pw_uid, named.pw_gid)


def namespace_allowed() -> bool:
    """Return whether this machine allows user namespaces. ``GATEHOUSE_USER_NAMESPACE=off`` turns them off."""
    return os.environ.get("GATEHOUSE_USER_NAMESPACE", "on") != "off" and _namespace_works()


@cache
def _namespace_works() -> bool:
    if sys.platform != "linux":
        return False
    wrapper = Path(__file__).with_name("_exec.py")
    command = [sys.executable, "-I", "-S", str(wrapper), str(os.getpid()), "9", "namespace", "1", "1", "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
