"""The database filters and sorts the list of models in the same way as the fields' Python definitions."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from access_requests.models import GatedModel
from model_ops.hub.fields import tags
from model_ops.hub.models import MOST_WORDS, PAGE
from model_ops.models import ModelDownloads

pytestmark = pytest.mark.django_db

CARDS: list[dict[str, Any]] = [
    {},
    {"tags": ["a", "license:mit"], "library_name": "transformers"},
    {"tags": "a", "license": "mit", "datasets": ["a", "b"]},
    {"language": ["en", "de"], "pipeline_tag": "text-generation", "tags": [1, None, {"a": "b"}]},
    {"base_model": "ai/base", "datasets": "a", "tags": {"a": "a"}},
    {"library_name": ["transformers", ""], "language": "en", "license": ["mit"]},
]
ASKED = [
    "a", "b", "license:mit", "mit", "dataset:a", "dataset:b", "en", "de", "text-generation", "base_model:ai/base",
    "transformers", "1", "dataset:", "none", "license:", "A",
]  # fmt: skip


@pytest.fixture
def models(make_model: Callable[..., Any]) -> list[GatedModel]:
    made = [make_model(f"ai/model-{number}") for number in range(len(CARDS))]
    for model, card in zip(made, CARDS, strict=True):
        GatedModel.objects.filter(pk=model.pk).update(card_data=card)
    return made


def ids(**query: Any) -> list[str]:
    answer = Client().get("/api/models", query)
    assert answer.status_code == 200
    return [item["id"] for item in answer.json()]


def test_filter_finds_the_models_that_have_the_tags(models: list[GatedModel]) -> None:
    for wanted in [(tag,) for tag in ASKED] + list(itertools.combinations(ASKED[:6], 2)):
        expected = [
            model.repo_id for model, card in zip(models, CARDS, strict=True) if set(wanted) <= set(tags(card))
        ]
        assert ids(filter=list(wanted), sort="id") == expected, wanted
        assert ids(filter=",".join(wanted), sort="id") == expected, wanted


def test_odd_words_find_nothing(models: list[GatedModel]) -> None:
    for query in (
        {"filter": ""}, {"filter": "a\0"}, {"search": "\0"}, {"author": "ai/model-1"}, {"author": "a%"},
        {"search": "model%1"}, {"search": "model_1"}, {"gated": "none"}, {"gated": "TRUES"},
    ):  # fmt: skip
        assert ids(**query) == [], query
    assert len(ids(author="AI")) == len(ids(search="Model AI/")) == len(models)


@pytest.mark.parametrize("name", ["search", "filter"])
def test_too_many_words_or_tags_are_refused(models: list[GatedModel], name: str) -> None:
    words = [f"w{number}" for number in range(MOST_WORDS + 1)]
    joined = (" " if name == "search" else ",").join
    assert ids(**{name: joined(words[:-1])}) == []
    assert ids(**{name: joined(["ai", *["ai"] * (MOST_WORDS - 1)])}) == (ids() if name == "search" else [])
    for asked in ({name: joined(words)}, {name: words} if name == "filter" else {name: joined(words)}):
        refused = Client().get("/api/models", asked)
        assert refused.status_code == 400
        assert "20 words and 20 tags at most" in refused.json()["error"]


def test_most_downloaded_come_first_and_equals_by_id(models: list[GatedModel]) -> None:
    for number, recent in ((4, 7), (2, 9), (5, 7)):
        ModelDownloads.objects.create(model=models[number], recent=recent, all_time=100 - recent)
    expected = [models[number].repo_id for number in (2, 4, 5, 0, 1, 3)]
    assert ids() == ids(sort="downloads") == expected
    assert ids(sort="downloads", direction="1") == [models[n].repo_id for n in (0, 1, 3, 4, 5, 2)]
    assert ids(sort="likes") == [model.repo_id for model in models]
    answer = Client().get("/api/models", {"expand": ["downloads", "downloadsAllTime"]}).json()
    assert [(item["downloads"], item["downloadsAllTime"]) for item in answer[:2]] == [(9, 91), (7, 93)]


def test_pages_hold_every_model_once(models: list[GatedModel], make_person: Callable[..., Any]) -> None:
    GatedModel.objects.bulk_create(
        GatedModel(repo_id=f"more/model-{number}", card="", listed=number % 2 == 0)
        for number in range(2 * PAGE)
    )
    seen: list[str] = []
    address = "/api/models?limit=999"
    while address:
        answer = Client().get(address)
        seen += [item["id"] for item in answer.json()]
        found = answer.headers.get("Link", "")
        address = found[1 : found.index(">")].removeprefix("http://testserver") if found else ""
    listed = GatedModel.objects.filter(listed=True).values_list("repo_id", flat=True)
    assert sorted(seen) == sorted(listed)


@pytest.mark.parametrize(
    "query", ["", "?full=true&cardData=true", "?sort=lastModified", "?filter=a", "?search=model"]
)
def test_list_asks_as_much_of_a_thousand_models_as_of_ten(
    models: list[GatedModel], make_person: Callable[..., Any], query: str
) -> None:
    client = Client()
    client.force_login(make_person("ada"), backend="django.contrib.auth.backends.ModelBackend")

    def queries() -> int:
        with CaptureQueriesContext(connection) as asked:
            assert client.get(f"/api/models{query}").status_code == 200
        return len(asked)

    def add(first: int, last: int) -> None:
        GatedModel.objects.bulk_create(
            GatedModel(
                repo_id=f"more/model-{number}", card="", card_data={"tags": ["a"]}, listed=number % 3 > 0
            )
            for number in range(first, last)
        )

    add(0, 10)
    few = queries()
    add(10, 1000)
    assert queries() == few
