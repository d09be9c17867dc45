"""What signals mean to the command line: an end, in order once bytes are written, where it stands before.

One thread waits for them, and everywhere else they are blocked. So nothing is interrupted in the middle of an import
or of a rename, an import that hangs does not keep the process alive, and a signal after the end changes nothing.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

# Those that would end the process where it stands; who started it may have had some of them ignored (nohup).
ENDS = (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU,
)  # fmt: skip


def obey(end: Callable[[], None]) -> None:
    """Call `end` on its own thread at each signal. To be called before there are other threads, which take over the mask."""
    numbers = {number for number in ENDS if signal.getsignal(number) is not signal.SIG_IGN}
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)

    def wait() -> None:
        while True:
            signal.sigwait(numbers)
            end()

    threading.Thread(target=wait, name="signals", daemon=True).start()


def leave(sentence: str) -> None:
    """End the process where it stands: nothing was written that the next run cannot take up."""
    os.write(2, f"{sentence}\n".encode())
    os._exit(1)
