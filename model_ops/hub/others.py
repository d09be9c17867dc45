"""Answer client calls that are not about models: quietly, or with a refusal code that clients understand."""

from __future__ import annotations

from http import HTTPStatus

from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase

from access_requests.ids import REPO_ID
from model_ops.hub import refusals
from model_ops.hub.refusals import Refused
from model_ops.hub.repo import no_such_route
from model_ops.hub.route import hub_route, json_answer

ROBOTS = "User-agent: *\nDisallow: /api/\nDisallow: /accounts/\nDisallow: /admin/\nDisallow: /*/resolve/\nDisallow: /*/raw/\n"
ANY = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")


@hub_route("GET")
def agent_harnesses(request: HttpRequest) -> HttpResponseBase:
    """Return an empty list of coding tools, the client's own default; every client asks once a day."""
    return json_answer({"standardEnvVars": [], "harnesses": {}})


@hub_route("GET", "POST")
def telemetry(request: HttpRequest) -> HttpResponseBase:
    """Accept telemetry and store nothing."""
    return HttpResponse()


@hub_route("GET", counted=False)
def robots(request: HttpRequest) -> HttpResponseBase:
    return HttpResponse(ROBOTS, content_type="text/plain; charset=utf-8")


@hub_route("GET")
def nothing_of_that_kind(request: HttpRequest) -> HttpResponseBase:
    """Return an empty list of data sets, spaces or kernels."""
    return json_answer([])


@hub_route(*ANY)
def unknown_repo(request: HttpRequest, repo_id: str) -> HttpResponseBase:
    """Refuse one-part ids and repositories of other kinds."""
    raise refusals.no_repo(repo_id)


@hub_route("GET", counted=False)
def page_of_the_hub(request: HttpRequest, repo_id: str) -> HttpResponseBase:
    """Redirect addresses of pages that clients print (`blob`, `tree`, `commit`) to the model's page."""
    if not REPO_ID.fullmatch(repo_id):
        raise refusals.no_repo(repo_id)
    return HttpResponseRedirect(f"/{repo_id}")


@hub_route(*ANY)
def unserved_of_model(request: HttpRequest, repo_id: str) -> HttpResponseBase:
    raise no_such_route(request, repo_id)


@hub_route(*ANY)
def unserved(request: HttpRequest) -> HttpResponseBase:
    sentence = f"Gatehouse does not serve {request.path_info[:200]}."
    raise Refused(HTTPStatus.NOT_FOUND, "NotServed", sentence)
