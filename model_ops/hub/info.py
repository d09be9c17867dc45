"""Describe one model: public, as on the Hub, with the ids of gated files masked."""

from __future__ import annotations

from functools import cache

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from model_ops.hub.address import revision_and_path
from model_ops.hub.fields import (
    ONE_MODEL,
    Facts,
    asked_fields,
    config_of,
    count_downloads,
    model_json,
    sibling_with_blob,
)
from model_ops.hub.listing import mask_for
from model_ops.hub.repo import Repo, open_repo
from model_ops.hub.route import hub_route, json_answer, wants
from model_ops.hub.safetensors import parameters_of
from model_ops.models import Revision
from model_ops.queries import MAIN


@hub_route("GET")
def model_info(request: HttpRequest, repo_id: str) -> HttpResponseBase:
    """`GET /api/models/{id}`: the revision that `main` points at."""
    repo = open_repo(request, repo_id)
    return _answer_info(request, repo, repo.revision(MAIN))


@hub_route("GET")
def revision_info(request: HttpRequest, repo_id: str) -> HttpResponseBase:
    """`GET /api/models/{id}/revision/{rev}`: the first request of every download."""
    name, _ = revision_and_path(request, skip=5)
    repo = open_repo(request, repo_id)
    return _answer_info(request, repo, repo.revision(name))


def _answer_info(request: HttpRequest, repo: Repo, revision: Revision) -> HttpResponseBase:
    expand = asked_fields(request)
    names = expand or ONE_MODEL
    facts = Facts(repo.model, revision, cache(lambda: repo.files(revision)))
    if repo.access.allowed:
        facts.config = cache(lambda: config_of(facts.files()))
        facts.safetensors = lambda: parameters_of(facts.files())
    if "downloads" in names:
        facts.downloads = count_downloads([repo.model])
    if "downloadsAllTime" in names:
        facts.downloads_all_time = count_downloads([repo.model], all_time=True)
    answer = model_json(facts, names, expanded=bool(expand))
    if not expand and wants(request, "blobs"):
        is_masked = mask_for(repo)
        answer["siblings"] = [sibling_with_blob(file, is_masked(file)) for file in facts.files()]
    if wants(request, "securityStatus"):
        answer["securityRepoStatus"] = {"scansDone": False, "filesWithIssues": []}  # nothing is scanned
    response = json_answer(answer)
    response["X-Repo-Commit"] = revision.commit
    return repo.add_warning(response)
