"""Create repositories and branches for a client; validate cards."""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from django.http import HttpRequest, JsonResponse
from django.http.response import HttpResponseBase

from access_requests.cards import CardRefused, read_card
from access_requests.cards.bounds import ANONYMOUS, SIGNED_IN
from access_requests.errors import Conflict
from access_requests.services.oauth.errors import TooMany
from access_requests.services.oauth.limits import Limit, spend
from model_ops.hub.address import revision_and_path
from model_ops.hub.body import json_object, text
from model_ops.hub.caller import Caller, caller_of
from model_ops.hub.refusals import Refused, bad_request, one_line
from model_ops.hub.rights import owned_repo, uploader
from model_ops.hub.route import hub_route, json_answer, warn
from model_ops.services.uploads.creating import create_branch, create_repository, delete_branch

CARDS_OF_PERSON = Limit("cards-person", 60, 60, "Too many cards were sent to be checked: wait a minute.")
CARDS_OF_ADDRESS = Limit(
    "cards-address", 30, 60, "Too many cards were sent to be checked from this address: wait a minute."
)
CARDS_OF_ANYBODY = Limit(
    "cards",
    120,
    60,
    "Too many cards are being checked for callers without a token: send one, or wait a minute.",
)
CARDS_OF_NEWCOMER = Limit("cards-newcomer", 2, 60, CARDS_OF_ANYBODY.sentence)  # after the limit above
VISIBILITIES = {"public": True, "private": False, "": False}
LONGEST_NAME = 200


@hub_route("POST")
def create_repo(request: HttpRequest) -> HttpResponseBase:
    """`POST /api/repos/create`; an existing id is a 409 with the address in its body, for `exist_ok`."""
    person, _ = uploader(request)
    data = json_object(request)
    if (kind := text(data, "type", longest=20) or "model") != "model":
        raise bad_request(f"Gatehouse keeps models only: {kind!r} repositories cannot be created.")
    namespace = text(data, "organization", longest=LONGEST_NAME) or person.username
    repo_id = f"{namespace}/{text(data, 'name', longest=LONGEST_NAME)}"
    listed = _is_listed(data)
    try:
        model = create_repository(repo_id=repo_id, user=person, listed=listed)
    except Conflict as error:
        answer = {"error": one_line(error.sentence), "url": request.build_absolute_uri(f"/{repo_id}")}
        return _add_error_headers(
            JsonResponse(answer, status=HTTPStatus.CONFLICT), "RepoExists", error.sentence
        )
    response = json_answer(
        {
            "url": request.build_absolute_uri(f"/{model.repo_id}"),
            "name": model.repo_id,
            "id": model.repo_id,
            "private": not model.listed,
        }
    )
    warn(
        response,
        "repository",  # the client prints one line per topic, and the commit's is still to come
        one_line(
            f"{model.repo_id} is {'listed' if model.listed else 'not listed'} and a reviewer decides who reads it; "
            f"an owner changes that in the admin: {model.address()}"
        ),
    )
    return response


def _is_listed(data: dict[str, Any]) -> bool:
    """Return True only if requested: by `visibility`, or by `private` in older clients."""
    visibility = text(data, "visibility", longest=20)
    if visibility not in VISIBILITIES:
        raise bad_request(f"visibility must be public or private, not {visibility!r}.")
    private = data.get("private")
    if private is not None and not isinstance(private, bool):
        raise bad_request("private must be true or false.")
    return VISIBILITIES[visibility] or (private is False and not visibility)


def _add_error_headers(response: JsonResponse, code: str, sentence: str) -> JsonResponse:
    response["X-Error-Code"] = code
    response["X-Error-Message"] = one_line(sentence)
    return response


@hub_route("POST", "DELETE")
def branch(request: HttpRequest, repo_id: str) -> HttpResponseBase:
    """`POST /api/models/{id}/branch/{name}` creates it, for `hf upload --revision`; `DELETE` deletes it."""
    first, more = revision_and_path(request, skip=5)
    name = f"{first}/{more}" if more else first
    repo, person, _ = owned_repo(request, repo_id)
    if request.method == "DELETE":
        delete_branch(model=repo.model, name=name, user=person)
        return json_answer({})
    start = text(json_object(request, empty=True), "startingPoint", longest=LONGEST_NAME)
    made = create_branch(model=repo.model, name=name, start=start, user=person)
    return json_answer({"name": made.name, "ref": f"refs/heads/{made.name}"})


@hub_route("POST")
def validate_yaml(request: HttpRequest) -> HttpResponseBase:
    """`POST /api/validate-yaml`: the card reader's errors and warnings, before anything is sent.

    Each call is counted for its person, or for its address and for all callers without a token, whose cards
    must also be smaller.
    """
    caller = caller_of(request)
    bounds = SIGNED_IN if caller.user else ANONYMOUS
    _count_card(caller)
    data = json_object(request, most=bounds.body)
    content = data.get("content")
    if not isinstance(content, str):
        raise bad_request("content must be the text of a README.md.")
    if (data.get("repoType") or "model") != "model":
        raise bad_request("Gatehouse keeps models only: repoType must be model.")
    try:
        read = read_card(content, most_front=bounds.front, most_nodes=bounds.nodes)
    except CardRefused as refused:
        answer = {"errors": [{"message": str(refused)}], "warnings": [], "error": one_line(str(refused))}
        return _add_error_headers(
            JsonResponse(answer, status=HTTPStatus.BAD_REQUEST), "BadCard", str(refused)
        )
    return json_answer({"errors": [], "warnings": [{"message": warning} for warning in read.warnings]})


def _count_card(caller: Caller) -> None:
    try:
        if caller.user:
            spend(CARDS_OF_PERSON, caller.user.pk)
            return
        address = caller.address or "unknown"
        spend(CARDS_OF_ADDRESS, address)
        try:
            spend(CARDS_OF_ANYBODY, "all")
        except TooMany:  # a few busy addresses must not lock out the rest
            spend(CARDS_OF_NEWCOMER, address)
    except TooMany as error:
        headers = {"Retry-After": str(error.seconds)}
        raise Refused(
            HTTPStatus.TOO_MANY_REQUESTS, "TooManyRequests", error.sentence, headers=headers
        ) from error
