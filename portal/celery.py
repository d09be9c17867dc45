"""The Celery application of the whole project."""

import os
from typing import Any

from celery import Celery
from celery.signals import celeryd_init, worker_init, worker_process_init

from portal.database import kinds
from portal.private import die_with

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

app = Celery("gatehouse", task_cls="portal.database.task:Task")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["portal", "access_requests", "model_ops"])
_master = 0


@celeryd_init.connect
def be_a_worker(**_: Any) -> None:
    """Apply a worker's database limits.

    Other programs that load this module, such as commands, have their own.
    """
    kinds.become(kinds.WORKER)


@worker_init.connect
def remember_master(**_: Any) -> None:
    """Remember the worker's main process, and start its signs of life."""
    global _master
    from portal.signs import Signing  # the cache needs settings

    _master = os.getpid()
    app.steps["consumer"].add(Signing)


@worker_process_init.connect
def end_with_master(**_: Any) -> None:
    """Make a process of the pool end when the worker's main process does, even by `kill -9`."""
    if _master and os.getpid() != _master:
        die_with(_master)
