"""Build a model's JSON as the Hub does: one function per field, so that `expand` is a look-up."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.http import HttpRequest

from access_requests.models import GatedModel
from model_ops.hub.listing import Item, file_item
from model_ops.hub.refusals import bad_request
from model_ops.hub.route import moment
from model_ops.models import ModelDownloads, RepoFile, Revision
from model_ops.services.store.content import config_facts

OMIT = object()


@dataclass
class Facts:
    """What the fields are made from; the lists are only read if a field needs them."""

    model: GatedModel
    revision: Revision | None
    files: Callable[[], Sequence[RepoFile]]
    downloads: Mapping[int, int] = field(default_factory=dict)
    downloads_all_time: Mapping[int, int] = field(default_factory=dict)
    config: Callable[[], Mapping[str, Any]] = dict  # read from config.json, for callers who may read it
    safetensors: Callable[[], Mapping[str, Any]] = dict  # likewise, counted from the weights' headers

    def card(self, key: str) -> Any:
        return self.model.card_data.get(key) or OMIT


def gated(model: GatedModel) -> str | bool:
    return model.gate if model.is_gated else False


def tags(card: Mapping[str, Any]) -> list[str]:
    """Return the card's tags with the Hub's: library, task, languages, data sets, base models, licence."""

    def texts(key: str) -> list[str]:
        value = card.get(key)
        return [
            str(one)
            for one in (value if isinstance(value, list) else [value])
            if isinstance(one, str) and one
        ]

    found = [*texts("library_name"), *texts("tags"), *texts("pipeline_tag"), *texts("language")]
    for key, prefix in (("datasets", "dataset"), ("base_model", "base_model"), ("license", "license")):
        found += [f"{prefix}:{text}" for text in texts(key)]
    return list(dict.fromkeys(found))


# `expand` only accepts these names (the client's own list).
FIELDS: dict[str, Callable[[Facts], Any]] = {
    "author": lambda facts: facts.model.namespace,
    "baseModels": lambda facts: OMIT,
    "cardData": lambda facts: facts.model.card_data,
    "childrenModelCount": lambda facts: OMIT,
    "config": lambda facts: facts.config(),
    "createdAt": lambda facts: moment(facts.model.created_at),
    "disabled": lambda facts: False,
    "downloads": lambda facts: facts.downloads.get(facts.model.pk, 0),
    "downloadsAllTime": lambda facts: facts.downloads_all_time.get(facts.model.pk, 0),
    "evalResults": lambda facts: OMIT,
    "gated": lambda facts: gated(facts.model),
    "gguf": lambda facts: OMIT,
    "inference": lambda facts: OMIT,
    "inferenceProviderMapping": lambda facts: [],
    "lastModified": lambda facts: moment(
        max(facts.model.created_at, facts.revision.created_at) if facts.revision else facts.model.created_at
    ),
    "library_name": lambda facts: facts.card("library_name"),
    "likes": lambda facts: 0,
    "mask_token": lambda facts: OMIT,
    "model-index": lambda facts: facts.card("model-index"),
    "pipeline_tag": lambda facts: facts.card("pipeline_tag"),
    "private": lambda facts: not facts.model.listed,
    "resourceGroup": lambda facts: OMIT,
    "safetensors": lambda facts: facts.safetensors() or OMIT,
    "sha": lambda facts: facts.revision.commit if facts.revision else None,
    "siblings": lambda facts: [{"rfilename": file.path} for file in facts.files()],
    "spaces": lambda facts: [],
    "tags": lambda facts: tags(facts.model.card_data),
    "transformersInfo": lambda facts: OMIT,
    "trendingScore": lambda facts: 0,
    "usedStorage": lambda facts: sum({file.blob_id: file.blob.size for file in facts.files()}.values()),
    "widgetData": lambda facts: facts.card("widget"),
}
ONE_MODEL = [
    "author",
    "sha",
    "lastModified",
    "createdAt",
    "private",
    "gated",
    "disabled",
    "downloads",
    "likes",
    "library_name",
    "pipeline_tag",
    "tags",
    "model-index",
    "widgetData",
    "cardData",
    "config",
    "siblings",
    "spaces",
    "usedStorage",
]
IN_A_LIST = [
    "author",
    "createdAt",
    "private",
    "gated",
    "downloads",
    "likes",
    "trendingScore",
    "library_name",
    "pipeline_tag",
    "tags",
]
FULL = ["sha", "lastModified", "siblings"]


def model_json(facts: Facts, names: Iterable[str], *, expanded: bool = False) -> Item:
    """Return the fields by name; an expanded answer has only these and the id."""
    repo_id = facts.model.repo_id
    answer: Item = {"_id": hashlib.sha256(str(facts.model.pk).encode()).hexdigest()[:24], "id": repo_id}
    if not expanded:
        answer["modelId"] = repo_id
    values = {name: FIELDS[name](facts) for name in names}
    return answer | {name: value for name, value in values.items() if value is not OMIT}


def asked_fields(request: HttpRequest) -> list[str]:
    """Return the names in `expand=` and `expand[]=`; refuse an unknown name and list the known ones."""
    asked = [*request.GET.getlist("expand"), *request.GET.getlist("expand[]")]
    if unknown := [name for name in asked if name not in FIELDS]:
        raise bad_request(f"expand does not know {unknown[0][:60]!r}; it knows {', '.join(FIELDS)}.")
    return asked


def sibling_with_blob(file: RepoFile, masked: bool) -> Item:
    item = file_item(file, masked)
    sibling = {"rfilename": file.path, "size": item["size"], "blobId": item["oid"]}
    if lfs := item.get("lfs"):
        sibling["lfs"] = {"sha256": lfs["oid"], "size": lfs["size"], "pointerSize": lfs["pointerSize"]}
    return sibling


def config_of(files: Iterable[RepoFile]) -> dict[str, Any]:
    """Return what the Hub shows of the model's config.json; the caller must be allowed to read it."""
    return next((config_facts(file.blob) for file in files if file.path == "config.json"), {})


def count_downloads(models: Iterable[GatedModel], *, all_time: bool = False) -> dict[int, int]:
    """Return the bodies sent per model, all of them or those of the last 30 days, in one query."""
    rows = ModelDownloads.objects.filter(model__in=list(models))
    return dict(rows.values_list("model", "all_time" if all_time else "recent"))
