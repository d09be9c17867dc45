"""gunicorn's settings wherever it runs the portal (`-c python:portal.webserver`), except for the address."""

from __future__ import annotations

import gc
import os
import signal
from typing import Any

from django.apps import apps
from django.urls import get_resolver

from portal.environment import database_connections, web_processes

PROCESSES = "GATEHOUSE_WEB_PROCESSES"
# New objects: a page creates tens of thousands, and took a tenth longer with the 700 of Python 3.11.
COLLECT_AFTER = 10_000


def on_starting(server: Any) -> None:
    """Set how many processes share the database's connections, before they are forked."""
    os.environ[PROCESSES] = str(workers)


def when_ready(server: Any) -> None:
    """Tell the workers when everything stops, and not only they: no successor will take their clients."""
    stop = server.stop

    def stop_all(graceful: bool = True) -> None:
        server.kill_workers(signal.SIGUSR2)
        stop(graceful)

    server.stop = stop_all


def post_worker_init(worker: Any) -> None:
    """Import everything and exclude it from garbage collections, each of which would delay pages by 40 ms."""
    if apps.ready:
        get_resolver().url_patterns  # noqa: B018 - imports the views
    gc.collect()
    gc.freeze()
    gc.set_threshold(COLLECT_AFTER, 10, 10)


workers = web_processes(database_connections())
worker_class = "portal.webworker.Worker"
threads = 80  # 56 bodies (GATEHOUSE_MOST_BODIES) and 24 for everything else: see portal.database.budget
keepalive = 75  # seconds that an idle connection stays open: longer than clients pause, so that none asks while it closes
graceful_timeout = (
    30  # seconds from a stop of everything to the kill; a single worker has portal.draining.DRAIN
)
control_socket_disable = True
forwarded_allow_ips = forwarder_headers = ""
