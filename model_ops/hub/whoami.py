"""Identify a token, and check whether it may read: whoami-v2 and auth-check."""

from __future__ import annotations

from typing import Any

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from access_requests.access.catalogue import namespaces_of
from access_requests.enums import TokenKind
from model_ops.hub.caller import caller_of
from model_ops.hub.refusals import Refused
from model_ops.hub.repo import open_repo
from model_ops.hub.rights import require_owner
from model_ops.hub.route import hub_route, json_answer, moment


@hub_route("GET")
def whoami(request: HttpRequest) -> HttpResponseBase:
    """`GET /api/whoami-v2`: the public user name, without the email address."""
    caller = caller_of(request)
    person = caller.person()
    answer: dict[str, Any] = {
        "type": "user",
        "id": str(person.pk),
        "name": person.username,
        "fullname": person.get_full_name(),
        "isPro": False,
        "avatarUrl": "",
        "orgs": [
            {
                "type": "org",
                "id": name,
                "name": name,
                "fullname": full_name,
                "isEnterprise": False,
                "avatarUrl": "",
                "roleInOrg": {"owner": "admin", "reviewer": "read"}[role],
            }
            for name, (full_name, role) in namespaces_of(person).items()
        ],
    }
    if caller.token:
        token = {
            "displayName": caller.token.name,
            "role": "write" if caller.token.kind == TokenKind.REVIEWER else "read",
            "createdAt": moment(caller.token.created_at),
        }
        answer["auth"] = {"type": "access_token", "accessToken": token}
        if caller.token.expires_at:
            answer["auth"]["expiresAt"] = moment(caller.token.expires_at)
    return json_answer(answer)


@hub_route("GET")
def auth_check(request: HttpRequest, repo_id: str, write: bool = False) -> HttpResponseBase:
    """`GET /api/models/{id}/auth-check[/write]`: 200, or a refusal that says why."""
    repo = open_repo(request, repo_id)
    repo.require_access()
    if write:
        try:
            require_owner(repo)
        except Refused as refused:
            refused.code = "GatedRepo"  # for which `auth_check` has a separate error
            raise
    return HttpResponse("OK", content_type="text/plain; charset=utf-8")
