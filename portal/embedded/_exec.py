"""Become one command that dies with its parent, as another user if requested.

Run as ``python -I -S _exec.py PARENT SIGNAL MODE UID GID COMMAND...``. MODE is ``plain`` (nothing changes),
``namespace`` (a user namespace in which we appear as UID, so that PostgreSQL does not see root while every
file keeps our owner) or ``switch`` (become UID for good). The death signal is set after the change of user,
which would clear it. Exit status 125: the change of user was refused.
"""

import ctypes
import os
import sys
from pathlib import Path

PR_SET_PDEATHSIG = 1
CLONE_NEWUSER = 0x10000000
REFUSED = 125


def enter_namespace(libc: ctypes.CDLL, uid: int, gid: int) -> None:
    """Map our own user and group, and no others, to `uid` and `gid` in a new user namespace."""
    outer_uid, outer_gid = os.geteuid(), os.getegid()
    if libc.unshare(CLONE_NEWUSER) != 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error), "unshare")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {outer_uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {outer_gid} 1")


def switch_user(uid: int, gid: int) -> None:
    """Become `uid`, with `gid` as the only group."""
    os.setgroups([])
    os.setgid(gid)
    os.setuid(uid)


def main(argv: list[str]) -> None:
    """Switch the user, make this process die with its parent, and exec the command."""
    parent, death_signal, mode, uid, gid, *command = argv
    linux = sys.platform == "linux"
    libc = ctypes.CDLL(None, use_errno=True)
    try:
        if mode == "namespace":
            enter_namespace(libc, int(uid), int(gid))
        elif mode == "switch":
            switch_user(int(uid), int(gid))
    except OSError as error:
        sys.stderr.write(f"cannot change the user ({mode}): {error}\n")
        sys.exit(REFUSED)
    if linux:
        libc.prctl(PR_SET_PDEATHSIG, int(death_signal), 0, 0, 0)
        if os.getppid() != int(parent):  # it died before the line above
            sys.exit(REFUSED)
    os.execvp(command[0], command)  # noqa: S606 - no shell is what we want


if __name__ == "__main__":
    main(sys.argv[1:])
