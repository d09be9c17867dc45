"""Entry point of `gatehouse-recover` and `python -m model_ops.recovery`; see `cli`."""

import contextlib
import gc
import os
import sys
from typing import NoReturn

from model_ops.recovery.errors import Cancelled
from model_ops.recovery.system.control import Control
from model_ops.recovery.system.signals import leave, obey

# Plans and records hold a dozen objects per tensor and no cycles. Looking for cycles after every 700 objects
# (the default) would take a third of the planning time.
_COLLECT_AFTER = 100_000
RESUMED = {"recover", "make_diff"}


def start() -> NoReturn:
    """Run the command line and end the process with its exit status."""
    status = run()
    # Exit at once: everything is closed, and unloading torch can take more than a second.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def run() -> int:
    """Run the command line; signals are handled from before its imports on."""
    # Replace closed standard streams with /dev/null, so that no message is written to the first file that is
    # opened.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    sys.stdout = sys.stdout or os.fdopen(descriptor, "w")
    sys.stderr = sys.stderr or os.fdopen(descriptor, "w")
    gc.set_threshold(_COLLECT_AFTER)
    control = Control()
    sentence = str(Cancelled()) if RESUMED.intersection(sys.argv[1:2]) else "The run was cancelled."
    obey(lambda: control.interrupt(lambda: leave(sentence)))
    from model_ops.recovery.cli import main

    return main(control=control)


if __name__ == "__main__":
    start()
