"""Who a token is, and whether it may read: whoami-v2 and auth-check."""

from __future__ import annotations

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from access_requests.permissions import is_owner
from model_ops.hub.caller import caller_of
from model_ops.hub.refusals import Refused
from model_ops.hub.repo import open_repo
from model_ops.hub.route import hub_route, json_answer, moment


@hub_route("GET")
def whoami(request: HttpRequest) -> HttpResponseBase:
    """`GET /api/whoami-v2`: the public user name; the e-mail address stays here."""
    caller = caller_of(request)
    person = caller.person()
    answer = {
        "type": "user",
        "id": str(person.pk),
        "name": person.username,
        "fullname": person.get_full_name(),
        "isPro": False,
        "avatarUrl": "",
        "orgs": [],
    }
    if caller.token:
        token = caller.token
        facts = {"displayName": token.name, "role": "read", "createdAt": moment(token.created_at)}
        answer["auth"] = {"type": "access_token", "accessToken": facts}
    return json_answer(answer)


@hub_route("GET")
def auth_check(request: HttpRequest, repo_id: str, write: bool = False) -> HttpResponseBase:
    """`GET /api/models/{id}/auth-check[/write]`: 200 or the gate's refusal."""
    repo = open_repo(request, repo_id)
    repo.require_access()
    if write and not is_owner(repo.caller.user, repo.model):
        status = 403 if repo.caller.user else 401
        sentence = f"Only an owner may write to {repo.model.repo_id}; see {repo.model.address()}"
        raise Refused(status, "GatedRepo", sentence, warning="access")
    return HttpResponse("OK", content_type="text/plain; charset=utf-8")
