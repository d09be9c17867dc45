"""The Celery application of the whole project."""

import os
from typing import Any

from celery import Celery
from celery.signals import beat_embedded_init, beat_init, celeryd_init

from portal.database import kinds

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "portal.settings")

app = Celery("gatehouse")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["portal", "access_requests", "model_ops"])


@celeryd_init.connect
def be_a_worker(**_: Any) -> None:
    """Workers have a worker's limits at the database; what else loads this module, such as a command, has its own."""
    kinds.become(kinds.WORKER)


@beat_embedded_init.connect
@beat_init.connect
def beat_at_once(**_: Any) -> None:
    """The first sign of life is due when beat starts, not an interval later."""
    app.send_task("portal.tasks.heartbeat", expires=15)
