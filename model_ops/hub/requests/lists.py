"""Serve the four lists of a model's requests and the report to reviewers and owners with a reviewer token."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from itertools import islice

from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from access_requests.access.list_pages import AT_ONCE, Wanted, everybody, page_of
from access_requests.access.review_lists import listed_entries, order
from access_requests.enums import Place
from model_ops.hub.paging import link
from model_ops.hub.requests.entries import list_item, report_item
from model_ops.hub.requests.words import bad_field, reviewed
from model_ops.hub.route import hub_route, json_answer

LIMITS = (10, 1000)  # as on the Hub; the default is the maximum
LONGEST_NAME = 250


@hub_route("GET", limited=True)
def request_list(request: HttpRequest, repo_id: str, place: str) -> HttpResponseBase:
    """`GET /api/models/{id}/user-access-request/{pending|accepted|rejected|reset}?limit&after&before&q`.

    The longest waiting come first. The next page begins after the last entry of this one, so that nothing is
    left out if entries are decided, and leave the list, while a script goes through it.
    """
    repo, _ = reviewed(request, repo_id)
    least, most = LIMITS
    text = request.GET.get("limit", "") or str(most)
    if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
        raise bad_field("limit", f"must be a whole number from {least} to {most}.")
    limit, cursor = int(text), None
    if last := request.GET.get("cursor", ""):
        when, _, number = last.rpartition("~")
        if not (number.isascii() and number.isdigit() and len(number) < 19):
            raise bad_field("cursor", "take it from the Link header of the previous page.")
        cursor = _parse_moment(when, "cursor"), int(number)
    beginning = request.GET.get("q", "")
    if len(beginning) > LONGEST_NAME or not beginning.isprintable():
        raise bad_field("q", f"must be the beginning of a user name, at most {LONGEST_NAME} characters.")
    wanted = Wanted(beginning, _read_moment(request, "after"), _read_moment(request, "before"))
    found = page_of(repo.model, Place(place), wanted, behind=cursor, most=limit + 1)
    page = found[:limit]
    response = json_answer([list_item(entry) for entry in listed_entries(page)])
    if len(found) > limit:
        # Absolute, on the origin that this client used, as for every paged list here.
        query = request.GET.copy()
        at, person = order(page[-1])
        query["cursor"] = f"{at.isoformat()}~{person}"
        path = request.get_full_path().partition("?")[0]
        link(response, request.build_absolute_uri(f"{path}?{query.urlencode()}"))
    return response


@hub_route("GET", limited=True)
def report(request: HttpRequest, repo_id: str) -> HttpResponseBase:
    """`GET /{id}/user-access-report`: everyone in any of the lists, as a file."""
    repo, _ = reviewed(request, repo_id)
    people, lines = everybody(repo.model), []
    while page := list(
        islice(people, AT_ONCE)
    ):  # keep requests and grants of only one page of people in memory
        lines += [json.dumps(report_item(entry)) for entry in listed_entries(page, answers=False)]
    response = HttpResponse(f"[{', '.join(lines)}]", content_type="application/json")
    name = f"user-access-report-{repo.model.namespace}-{repo.model.name}.json"
    response["Content-Disposition"] = f"attachment; filename={name}"
    return response


def _read_moment(request: HttpRequest, name: str) -> datetime | None:
    text = request.GET.get(name, "")
    return _parse_moment(text, name) if text else None


def _parse_moment(text: str, name: str) -> datetime:
    try:
        at = datetime.fromisoformat(text)
        return at if at.tzinfo else at.replace(tzinfo=UTC)
    except ValueError as error:
        raise bad_field(name, "must be a date and time such as 2026-01-31T12:00:00.000Z.") from error
