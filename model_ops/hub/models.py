"""Serve the catalogue to clients: `list_models`, `hf models ls`."""

from __future__ import annotations

from typing import Any

from django.db.models import F, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce, Lower
from django.http import HttpRequest, QueryDict
from django.http.response import HttpResponseBase

from access_requests.access.access import codes_for
from access_requests.access.catalogue import visible_models
from access_requests.enums import AccessCode, Gate
from access_requests.models import GatedModel
from access_requests.storable_text import is_storable
from model_ops.hub.caller import Caller, caller_of
from model_ops.hub.fields import (
    FULL,
    IN_A_LIST,
    Facts,
    asked_fields,
    config_of,
    count_downloads,
    model_json,
)
from model_ops.hub.paging import link, page_of
from model_ops.hub.refusals import bad_request, one_line
from model_ops.hub.route import hub_route, json_answer, wants, warn
from model_ops.models import Ref, RepoFile, Revision
from model_ops.queries import MAIN

MOST_WORDS = 20  # and the same number of tags: each is a condition on every model
PAGE = 100  # models; clients follow the link to the rest
OF_MAIN = {"sha", "lastModified", "siblings", "usedStorage", "config"}  # fields that need the revision
BY_ID = Lower("repo_id")
DOWNLOADS = Coalesce(F("download_numbers__recent"), 0)
SORTS: dict[str, Any] = {
    "createdAt": F("created_at"),
    "lastModified": Coalesce(
        Subquery(Ref.objects.filter(model=OuterRef("pk"), name=MAIN).values("revision__created_at")),
        F("created_at"),
    ),
    "downloads": DOWNLOADS,
    "likes": None,  # no model has any
    "trendingScore": DOWNLOADS,
    "id": None,
}
# The keys of a card that become tags, and the prefix of each tag.
TAGGED = {
    "library_name": "", "tags": "", "pipeline_tag": "", "language": "",
    "datasets": "dataset:", "base_model": "base_model:", "license": "license:",
}  # fmt: skip


@hub_route("GET", limited=True)
def list_models(request: HttpRequest) -> HttpResponseBase:
    """`GET /api/models?search&author&filter&gated&sort&limit&full&cardData&expand`.

    The database filters, sorts and selects the page, in a constant number of queries; the data for fields is
    read only for the models on the page.
    """
    expand, caller = asked_fields(request), caller_of(request)
    found = _matching_models(request.GET, visible_models(caller.user))
    sort = request.GET.get("sort", "trendingScore")
    if sort not in SORTS:
        raise bad_request(f"sort does not know {sort[:60]!r}; it knows {', '.join(SORTS)}.")
    if (key := SORTS[sort]) is None:
        found = found.order_by(BY_ID)
    else:  # highest or newest first, equal ones by id
        rising = request.GET.get("direction") == "1"
        found = found.order_by(key.asc() if rising else key.desc(), BY_ID)
    models, following = page_of(request, found.defer("card"), size=PAGE)
    names = expand or IN_A_LIST + FULL * wants(request, "full") + ["cardData"] * wants(request, "cardData")
    names += ["config"] * wants(request, "config")
    page = _page_facts(models, names)
    if "config" in names:
        _read_configs(page, caller)
    response = json_answer([model_json(facts, names, expanded=bool(expand)) for facts in page])
    link(response, following)
    if caller.problem:
        warn(response, "token", one_line(caller.problem))
    return response


def _matching_models(query: QueryDict, models: QuerySet[GatedModel]) -> QuerySet[GatedModel]:
    """Return the models that match the whole query; text that no row can store matches none."""
    search, author = query.get("search", ""), query.get("author", "")
    wanted = {text for name in ("filter", "pipeline_tag", "library") for text in query.getlist(name)}
    tags = {tag for text in wanted for tag in text.split(",")}
    if not is_storable("".join([search, author, *tags])) or "/" in author or "" in tags:
        return models.none()
    words = search.split()
    if max(len(words), len(tags)) > MOST_WORDS:
        raise bad_request(f"A search takes {MOST_WORDS} words and {MOST_WORDS} tags at most.")
    fits = [Q(repo_id__icontains=word) for word in words]
    for tag in sorted(tags):  # match cards from which `fields.tags` makes it: alone under a key or in a list
        has_tag = Q()
        for key, prefix in TAGGED.items():
            text = tag.removeprefix(prefix)
            if tag.startswith(prefix) and text:
                has_tag |= Q(card_data__contains={key: text}) | Q(card_data__contains={key: [text]})
        fits.append(has_tag)
    if author:
        fits.append(Q(repo_id__istartswith=f"{author}/"))
    found, gate = models.filter(*fits), query.get("gated", "")
    if not gate:
        return found
    if gate.lower() in {"true", "false"}:
        return found.filter(gate=Gate.NONE) if gate.lower() == "false" else found.exclude(gate=Gate.NONE)
    return found.filter(gate=gate) if gate in {Gate.MANUAL, Gate.AUTO} else found.none()


def _page_facts(models: list[GatedModel], names: list[str]) -> list[Facts]:
    """Return the data for the fields of one page's models; read only what a field needs."""
    mains: dict[int, Revision] = {}
    if OF_MAIN & set(names):
        refs = Ref.objects.filter(model__in=models, name=MAIN).select_related("revision")
        mains = {ref.model_id: ref.revision for ref in refs}
    downloads = count_downloads(models) if "downloads" in names else {}
    page = [Facts(model, mains.get(model.pk), tuple, downloads) for model in models]
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
    return page


def _read_configs(page: list[Facts], caller: Caller) -> None:
    """Add the config of each model that this caller may read, with one query for all config.json files.

    The rule is the same as in `access_of`: a grant's token reads its own model and the open ones.
    """
    codes = codes_for(caller.user, [facts.model for facts in page])
    own = caller.token.grant.model_id if caller.token and caller.token.grant else None
    may = {AccessCode.GRANTED, AccessCode.STAFF} if own is None else {AccessCode.GRANTED}
    readable = {
        key
        for key, code in codes.items()
        if code == AccessCode.OPEN_MODEL or (code in may and own in (None, key))
    }
    revisions = {f.revision.pk: f for f in page if f.revision and f.model.pk in readable}
    rows = RepoFile.objects.filter(revision__in=revisions, path="config.json").select_related("blob")
    for file in rows:
        revisions[file.revision_id].config = lambda file=file: config_of([file])  # type: ignore[misc]
