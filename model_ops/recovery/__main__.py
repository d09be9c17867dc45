"""`gatehouse-recover` and `python -m model_ops.recovery`: see `cli`."""

import contextlib
import gc
import os
import sys
from typing import NoReturn

from model_ops.recovery.errors import Cancelled
from model_ops.recovery.system.control import Control
from model_ops.recovery.system.signals import leave, obey

# Plans and records hold a dozen objects a tensor and no cycles: looking for some after every 700 of them (the default)
# takes a third of planning.
_COLLECT_AFTER = 100_000
RESUMED = {"recover", "make_diff"}


def start() -> NoReturn:
    """Run the command line and end the process with its exit status."""
    status = run()
    # End at once: everything is closed, and taking torch apart may last longer than a second.
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(status)


def run() -> int:
    """The command line; signals are obeyed from before its imports on."""
    # Open /dev/null in place of closed standard streams, so that no message ends up in the first file that is opened.
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
