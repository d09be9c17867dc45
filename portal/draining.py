"""How a web worker stops: it takes no new connection, and answers what it has accepted.

- SIGTERM, SIGHUP and the death of its master: it drains. What comes on its connections is answered, with `Connection:
  close`; idle ones are closed when their keep-alive time is over, and bodies run to their end, for `DRAIN` seconds at
  most. New connections wait in the listening socket for the workers beside it, or for the next master's.
- A stop of the whole portal, as SIGUSR2 from its master (`portal.webserver`) or the end of the lifeline: nobody takes
  over, so silent clients are let go at once, and others within the master's patience.
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
STOPPING = 0.5  # seconds in which a request that is on its way to a stopping portal is still answered
LIFELINE = "GATEHOUSE_LIFELINE"  # names a descriptor that ends with the supervisor


class DrainingWorker(ThreadWorker):  # type: ignore[misc]
    """`gthread`, whose stopping lasts as long as its clients need."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.patience = float(self.cfg.graceful_timeout)  # of its master, where everything stops
        self.stopping_at = float("inf")
        self.drains: Callable[[], object] = lambda: None  # what the application gives up then

    def init_process(self) -> None:
        """Set how long a worker by itself may take; the master has forked, and keeps its own setting."""
        self.cfg.set("graceful_timeout", DRAIN)
        super().init_process()

    def init_signals(self) -> None:
        """As gunicorn's, and SIGHUP drains, and SIGUSR2 says that the whole portal stops."""
        super().init_signals()
        signal.signal(signal.SIGHUP, self.handle_exit)
        signal.signal(signal.SIGUSR2, lambda *_: self.method_queue.defer(self.leave))

    def run(self) -> None:
        """Answer until there is a reason to stop, and then what has been accepted."""
        if descriptor := os.environ.get(LIFELINE):
            self.poller.register(int(descriptor), selectors.EVENT_READ, self._on_lifeline)
        super().run()

    def _on_lifeline(self, descriptor: int) -> None:
        """Leave: the supervisor is gone, and with it whatever else would end a worker that drains."""
        self.poller.unregister(descriptor)
        self.leave()

    def _cap_keepalive(self, deadline: float) -> None:
        """Begin to drain; gunicorn calls this once a worker has stopped to accept. Idle clients keep their time."""
        self.alive = False  # its master may have died instead
        self.log.info("Draining %d connections", self.nr_conns)
        self.drains()
        _end_after(DRAIN)

    def leave(self) -> None:
        """Let go of silent clients at once and of others soon. Idempotent."""
        if self.stopping_at < float("inf"):
            return
        self.alive = False
        self.stopping_at = time.monotonic() + STOPPING
        super()._cap_keepalive(self.stopping_at)
        _end_after(self.patience)


def _end_after(seconds: float) -> None:
    """End this process then, whatever its threads wait for; the journal of downloads has what they sent."""
    timer = threading.Timer(seconds, os._exit, (0,))
    timer.daemon = True
    timer.start()
