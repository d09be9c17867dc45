"""Refuse Xet: clients that have it installed ask for a token and do not fall back by themselves."""

from __future__ import annotations

from http import HTTPStatus

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from model_ops.hub.refusals import Refused
from model_ops.hub.repo import open_repo
from model_ops.hub.route import hub_route

SENTENCE = (
    "Gatehouse takes uploads over plain HTTP, not over Xet: set HF_HUB_DISABLE_XET=1 before Python or hf starts, "
    "then upload again."
)


@hub_route("GET")
def write_token(request: HttpRequest, repo_id: str) -> HttpResponseBase:
    """`GET /api/models/{id}/xet-write-token/{rev}`."""
    open_repo(request, repo_id)
    raise Refused(HTTPStatus.BAD_REQUEST, "XetNotServed", SENTENCE, warning="upload")
