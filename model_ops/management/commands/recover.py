"""`manage.py recover REPO_ID`"""

from __future__ import annotations

from typing import Any

from django.core.management.base import CommandParser

from access_requests.errors import Conflict
from access_requests.management.operator import Answer, OperatorCommand, known_model
from model_ops.enums import RecoveryState
from model_ops.queries import current_recovery
from model_ops.services.recoveries.weights import start_recovery

SAYS = {
    RecoveryState.PLANNED: "is queued: a worker takes it as soon as one is free.",
    RecoveryState.RUNNING: "is running already.",
    RecoveryState.READY: "is ready: there is nothing to do.",
}


class Command(OperatorCommand):
    help = "Queues the recovery of a model's weights without waiting for a grant; retries one that failed."

    def options(self, parser: CommandParser) -> None:
        parser.add_argument("repo_id", metavar="REPO_ID")

    def answer(self, *, repo_id: str, **options: Any) -> Answer:
        model = known_model(repo_id)
        recovery = current_recovery(model)
        if recovery is None:
            raise Conflict(f"{model} has no weights to recover: name them with update_model.")
        recovery = start_recovery(recovery=recovery)
        data = {"model": model.repo_id, "recovery": recovery.pk, "state": recovery.state}
        return Answer(data, f"Recovery {recovery.pk} of {model} {SAYS[RecoveryState(recovery.state)]}")
