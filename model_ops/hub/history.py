"""List refs and commits of a model. Both are public, like the tree."""

from __future__ import annotations

from django.db.models import Q
from django.http import HttpRequest
from django.http.response import HttpResponseBase

from model_ops.hub.address import revision_and_path
from model_ops.hub.listing import Item
from model_ops.hub.paging import link, page_of
from model_ops.hub.repo import open_repo
from model_ops.hub.route import hub_route, json_answer, moment, wants
from model_ops.models import Ref, Revision
from model_ops.queries import shown_refs

COMMITS_PAGE = 50  # as on the Hub


@hub_route("GET")
def refs(request: HttpRequest, repo_id: str) -> HttpResponseBase:
    """`GET /api/models/{id}/refs`; only owners see branches without a published revision."""
    repo = open_repo(request, repo_id)
    seen = Q() if repo.sees_held else shown_refs()
    named = Ref.objects.filter(seen, model=repo.model).select_related("revision").order_by("name")
    answer: dict[str, list[Item]] = {"branches": [], "converts": [], "tags": []}
    for ref in named:
        kind, folder = ("tags", "tags") if ref.is_tag else ("branches", "heads")
        item = {"name": ref.name, "ref": f"refs/{folder}/{ref.name}", "targetCommit": ref.revision.commit}
        answer[kind].append(item)
    if wants(request, "include_prs"):
        answer["pullRequests"] = []
    return json_answer(answer)


@hub_route("GET")
def commits(request: HttpRequest, repo_id: str) -> HttpResponseBase:
    """`GET /api/models/{id}/commits/{rev}`, newest first: the revision and its ancestors."""
    name, _ = revision_and_path(request, skip=5)
    repo = open_repo(request, repo_id)
    revision = repo.revision(name)
    history = repo.history(revision)
    page, following = page_of(request, history, size=COMMITS_PAGE)
    known = Revision.objects.in_bulk(page)
    formatted = "formatted" in [*request.GET.getlist("expand"), *request.GET.getlist("expand[]")]
    items: list[Item] = []
    for commit in (known[key] for key in page):
        item: Item = {
            "id": commit.commit,
            "title": commit.title,
            "message": commit.message,
            "date": moment(commit.created_at),
            "authors": [{"user": commit.author}],
        }
        if formatted:
            item["formatted"] = {"title": commit.title, "message": commit.message}
        items.append(item)
    response = json_answer(items)
    response["X-Total-Count"] = str(len(history))
    link(response, following)
    return response
