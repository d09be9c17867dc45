"""The catalogue for clients: `list_models`, `hf models ls`."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from django.http import HttpRequest
from django.http.response import HttpResponseBase

from access_requests.enums import AccessCode
from access_requests.models import GatedModel
from access_requests.queries import codes_for, visible_models
from model_ops.hub.caller import Caller, caller_of
from model_ops.hub.fields import (
    FULL,
    IN_A_LIST,
    Facts,
    asked_fields,
    config_of,
    count_downloads,
    gated,
    model_json,
    tags,
)
from model_ops.hub.listing import Item
from model_ops.hub.paging import link, page_of
from model_ops.hub.refusals import bad_request, one_line
from model_ops.hub.route import hub_route, json_answer, wants, warn
from model_ops.models import Ref, RepoFile, Revision
from model_ops.queries import MAIN

SORTS: dict[str, Callable[[Facts], Any]] = {
    "createdAt": lambda facts: facts.model.created_at,
    "lastModified": lambda facts: facts.revision.created_at if facts.revision else facts.model.created_at,
    "downloads": lambda facts: facts.downloads.get(facts.model.pk, 0),
    "likes": lambda facts: 0,
    "trendingScore": lambda facts: facts.downloads.get(facts.model.pk, 0),
    "id": lambda facts: facts.model.repo_id.lower(),
}


@hub_route("GET", limited=True)
def list_models(request: HttpRequest) -> HttpResponseBase:
    """`GET /api/models?search&author&filter&gated&sort&limit&full&cardData&expand`; a constant number of queries."""
    expand, caller = asked_fields(request), caller_of(request)
    models = [model for model in visible_models(caller.user).defer("card") if _matches(request, model)]
    page, following = page_of(request, _sorted(request, _facts(models)))
    names = expand or IN_A_LIST + FULL * wants(request, "full") + ["cardData"] * wants(request, "cardData")
    names += ["config"] * wants(request, "config")
    _read_more(page, names)
    if "config" in names:
        _read_configs(page, caller)
    response = json_answer([_item(facts, names, bool(expand)) for facts in page])
    link(response, following)
    if caller.problem:
        warn(response, "token", one_line(caller.problem))
    return response


def _item(facts: Facts, names: list[str], expanded: bool) -> Item:
    return model_json(facts, names, expanded=expanded)


def _matches(request: HttpRequest, model: GatedModel) -> bool:
    query = request.GET
    search, author = query.get("search", "").lower(), query.get("author", "").lower()
    wanted = {text for name in ("filter", "pipeline_tag", "library") for text in query.getlist(name)}
    return (
        all(word in model.repo_id.lower() for word in search.split())
        and (not author or model.namespace.lower() == author)
        and _gate_matches(query.get("gated", ""), model)
        and {tag for text in wanted for tag in text.split(",")} <= set(tags(model.card_data))
    )


def _gate_matches(asked: str, model: GatedModel) -> bool:
    if asked.lower() in {"", "true", "false"}:
        return not asked or model.is_gated == (asked.lower() == "true")
    return gated(model) == asked


def _facts(models: list[GatedModel]) -> list[Facts]:
    refs = Ref.objects.filter(model__in=models, name=MAIN).select_related("revision")
    mains: dict[int, Revision] = {ref.model_id: ref.revision for ref in refs}
    downloads = count_downloads(models)
    return [Facts(model, mains.get(model.pk), tuple, downloads) for model in models]


def _sorted(request: HttpRequest, facts: list[Facts]) -> list[Facts]:
    name = request.GET.get("sort", "trendingScore")
    if name not in SORTS:
        raise bad_request(f"sort does not know {name[:60]!r}; it knows {', '.join(SORTS)}.")
    rising = request.GET.get("direction") == "1" or name == "id"
    by_id = sorted(facts, key=SORTS["id"])
    return sorted(by_id, key=SORTS[name], reverse=not rising)


def _read_more(page: Iterable[Facts], names: list[str]) -> None:
    """Files and all-time counts of one page's models, where a field needs them."""
    page = list(page)
    if {"siblings", "usedStorage"} & set(names):
        by_revision: dict[int, list[RepoFile]] = {}
        revisions = [facts.revision for facts in page if facts.revision]
        for file in RepoFile.objects.filter(revision__in=revisions).select_related("blob").order_by("path"):
            by_revision.setdefault(file.revision_id, []).append(file)
        for facts in page:
            files = by_revision.get(facts.revision.pk, []) if facts.revision else []
            facts.files = lambda files=files: files  # type: ignore[misc]
    if "downloadsAllTime" in names:
        counts = count_downloads([facts.model for facts in page], all_time=True)
        for facts in page:
            facts.downloads_all_time = counts


def _read_configs(page: Iterable[Facts], caller: Caller) -> None:
    """Of the models that this caller may read, by one query for all their config.json."""
    readable = _readable([facts.model for facts in page], caller)
    revisions = {f.revision.pk: f for f in page if f.revision and f.model.pk in readable}
    rows = RepoFile.objects.filter(revision__in=revisions, path="config.json").select_related("blob")
    for file in rows:
        revisions[file.revision_id].config = lambda file=file: config_of([file])  # type: ignore[misc]


def _readable(models: list[GatedModel], caller: Caller) -> set[int]:
    """As `access_of` for each of them; a grant's token reads its own model and the open ones."""
    codes = codes_for(caller.user, models)
    own = caller.token.grant.model_id if caller.token and caller.token.grant else None
    may = {AccessCode.GRANTED, AccessCode.STAFF} if own is None else {AccessCode.GRANTED}
    return {
        key
        for key, code in codes.items()
        if code == AccessCode.OPEN_MODEL or (code in may and own in (None, key))
    }
