"""Run a module with private files and with memory that the user's other processes cannot read.

`python portal/private.py MODULE ARGUMENTS...` is `python -m MODULE ARGUMENTS...` after `keep_private()`; it
can be used with `-P` too.
"""

import ctypes
import os
import runpy
import signal
import sys

PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4
OWNER_ALONE = 0o077  # the umask


def keep_private() -> None:
    """Set the umask; on Linux, close `/proc/PID/environ` and `mem` of this process and its forks to its user.

    A program that a fork runs by `exec` starts readable again (prctl(2), PR_SET_DUMPABLE). Root can still
    read everything.
    """
    os.umask(OWNER_ALONE)
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def die_with(parent: int) -> None:
    """On Linux, have the kernel kill this process when the thread that forked it ends, as it does with `parent`."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
        if os.getppid() != parent:  # it died before the line above
            os.kill(os.getpid(), signal.SIGKILL)


def main(module: str, *arguments: str) -> None:
    """Run `module` as `python -m` does.

    Without `-P`, Python puts this file's folder, with our own `celery.py`, first on the path; replace it with
    the current folder.
    """
    keep_private()
    if not sys.flags.safe_path:
        sys.path[0] = os.getcwd()  # noqa: PTH109 - pathlib would be imported from this path
    sys.argv = [module, *arguments]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
