"""Handle signals for the command line: stop cleanly once bytes are written, at once before that.

One thread waits for signals, and all others block them. So nothing is interrupted in the middle of an import
or a rename, an import that hangs does not keep the process alive, and a signal after the end has no effect.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

# Signals that would end the process at once; its parent may have had some of them ignored (nohup).
ENDS = (
    signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGXCPU,
)  # fmt: skip


def obey(end: Callable[[], None]) -> None:
    """Call `end` on its own thread at each signal.

    Call this before starting threads, which inherit the signal mask.
    """
    numbers = {number for number in ENDS if signal.getsignal(number) is not signal.SIG_IGN}
    signal.pthread_sigmask(signal.SIG_BLOCK, numbers)

    def wait() -> None:
        while True:
            signal.sigwait(numbers)
            end()

    threading.Thread(target=wait, name="signals", daemon=True).start()


def leave(sentence: str) -> None:
    """End the process at once: nothing was written that the next run cannot continue from."""
    os.write(2, f"{sentence}\n".encode())
    os._exit(1)
