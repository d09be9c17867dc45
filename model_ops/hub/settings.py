"""Let an owner change settings from a script: `update_repo_settings`."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from access_requests.enums import Gate
from access_requests.services.catalogue.edit import change_some_settings
from model_ops.hub.body import json_object
from model_ops.hub.refusals import bad_request
from model_ops.hub.repo import no_such_route, open_repo
from model_ops.hub.rights import require_owner
from model_ops.hub.route import hub_route, json_answer

# The values of each setting, and their values here; older clients send `private` for `visibility`.
GATED: dict[Any, Gate] = {"auto": Gate.AUTO, "manual": Gate.MANUAL, False: Gate.NONE}
VISIBILITY = {"public": True, "private": False}
PRIVATE = {False: True, True: False}
KNOWN: dict[str, tuple[str, dict[Any, Any]]] = {
    "gated": ("gate", GATED),
    "visibility": ("listed", VISIBILITY),
    "private": ("listed", PRIVATE),
}


@hub_route("GET", "PUT")
def change(request: HttpRequest, repo_id: str) -> HttpResponseBase:
    """`PUT /api/models/{id}/settings`: accepts `gated` and `visibility`, returns what was sent."""
    if request.method != "PUT":
        raise no_such_route(request, repo_id)
    repo = open_repo(request, repo_id)
    owner = require_owner(repo)
    sent = json_object(request)
    wanted: dict[str, Any] = {}  # the service's arguments
    for name, value in sent.items():
        if name not in KNOWN:
            raise bad_request(f"There is no setting {name[:60]!r} here: send {', '.join(KNOWN)}.")
        target, values = KNOWN[name]
        if not isinstance(value, str | bool) or value not in values:
            allowed = ", ".join(str(one).lower() for one in values)
            raise bad_request(f"{name} must be one of {allowed}.")
        if wanted.setdefault(target, values[value]) != values[value]:
            raise bad_request("visibility and private contradict each other: send one of them.")
    if wanted:
        change_some_settings(model=repo.model, actor=owner, **wanted)
    return json_answer(sent)
