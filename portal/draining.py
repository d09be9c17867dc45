"""How a web worker stops: it accepts no new connections, and answers the requests it has accepted.

- After SIGTERM, SIGHUP or the death of its master, it drains. Requests on its connections are answered, with
  `Connection: close`; idle connections are closed when their keep-alive time is over, and bodies run to their
  end, for `DRAIN` seconds at most. New connections wait in the listening socket for the other workers, or for
  the next master's.
- When the whole portal stops (SIGUSR2 from its master, see `portal.webserver`, or the end of the lifeline),
  nobody takes over: silent connections are closed at once, and others within the master's time limit.
"""

from __future__ import annotations

import os
import selectors
import signal
import threading
import time
from collections.abc import Callable
from typing import Any

from gunicorn.workers.gthread import ThreadWorker

DRAIN = 600  # seconds
STOPPING = 0.5  # seconds in which a request that is already arriving is still answered by a portal that stops
LIFELINE = "GATEHOUSE_LIFELINE"  # names a descriptor that closes when the supervisor ends


class DrainingWorker(ThreadWorker):  # type: ignore[misc]
    """`gthread`, but stopping takes as long as its clients need."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.patience = float(self.cfg.graceful_timeout)  # its master's, when everything stops
        self.stopping_at = float("inf")
        self.drains: Callable[[], object] = lambda: None  # what the application gives up when draining begins

    def init_process(self) -> None:
        """Set how long a single worker may take to stop.

        The master has forked already and keeps its own setting.
        """
        self.cfg.set("graceful_timeout", DRAIN)
        super().init_process()

    def init_signals(self) -> None:
        """Add to gunicorn's signals: SIGHUP drains, and SIGUSR2 means that the whole portal is stopping."""
        super().init_signals()
        signal.signal(signal.SIGHUP, self.handle_exit)
        signal.signal(signal.SIGUSR2, lambda *_: self.method_queue.defer(self.leave))

    def run(self) -> None:
        """Answer requests until there is a reason to stop, then finish those already accepted."""
        if descriptor := os.environ.get(LIFELINE):
            self.poller.register(int(descriptor), selectors.EVENT_READ, self._on_lifeline)
        super().run()

    def _on_lifeline(self, descriptor: int) -> None:
        """Leave: the supervisor is gone, and nothing else would end a worker that drains."""
        self.poller.unregister(descriptor)
        self.leave()

    def _cap_keepalive(self, deadline: float) -> None:
        """Begin to drain. gunicorn calls this once a worker has stopped accepting.

        Idle clients keep their time.
        """
        self.alive = False  # its master may have died instead
        self.log.info("Draining %d connections", self.nr_conns)
        self.drains()
        _end_after(DRAIN)

    def leave(self) -> None:
        """Close silent connections at once and the others soon. Idempotent."""
        if self.stopping_at < float("inf"):
            return
        self.alive = False
        self.stopping_at = time.monotonic() + STOPPING
        super()._cap_keepalive(self.stopping_at)
        _end_after(self.patience)


def _end_after(seconds: float) -> None:
    """End this process after `seconds`, whatever its threads wait for.

    The download journal has what they sent.
    """
    timer = threading.Timer(seconds, os._exit, (0,))
    timer.daemon = True
    timer.start()
