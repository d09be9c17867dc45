"""Find events to report to the remote. Decisions are events no matter what made them: admin, API, clock or command."""

from __future__ import annotations

from typing import Any

from access_requests.enums import FarStatus, FollowState
from access_requests.models import Event, RemoteRequest
from access_requests.services.following.drift import plan_push, settle

# The state on the remote that follows from an event of a request or of its grant.
TOLD = {
    "request.approved": FarStatus.ACCEPTED,
    "request.rejected": FarStatus.REJECTED,
    "request.reset": FarStatus.RESET,
    "request.reopened": FarStatus.PENDING,
    "grant.created": FarStatus.ACCEPTED,
    "grant.prolonged": FarStatus.ACCEPTED,
    "grant.revoked": FarStatus.RESET,
    "grant.expired": FarStatus.RESET,
}
SETTLED = {"request.withdrawn"}  # we cannot withdraw anything on the remote: a difference is shown as drift


def on_event(sender: type[Event], instance: Event, created: bool, raw: bool = False, **_: Any) -> None:
    """Plan a push in the transaction of the event: decision and push are both written, or neither."""
    if not created or raw or instance.kind not in TOLD.keys() | SETTLED:
        return
    rows = RemoteRequest.objects.select_related("followed")
    if instance.request_id is not None:
        remote = rows.filter(request=instance.request_id).first()
    elif instance.grant is not None:
        person, model = instance.grant.user_id, instance.model_id
        remote = rows.filter(person__user=person, followed__model=model).first()
    else:
        return
    if remote is None or remote.followed.state == FollowState.ENDED:
        return
    if instance.kind in SETTLED:
        settle(remote.pk)
        return
    words = str(instance.data.get("words") or instance.data.get("reason") or "")
    status = TOLD[instance.kind]
    plan_push(
        remote,
        status,
        words=words if status in {FarStatus.REJECTED, FarStatus.RESET} else "",
        actor_name=instance.actor_name,
    )
