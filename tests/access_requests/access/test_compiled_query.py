from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db.models import F, Value
from django.db.models.functions import Concat

from access_requests.access.compiled_query import (
    SAMPLE_NUMBER,
    SAMPLE_NUMBERS,
    SAMPLE_TEXT,
    CompiledQuery,
    columns,
    instance,
)
from access_requests.models import GatedModel
from access_requests.search import AnyOf

pytestmark = pytest.mark.django_db


def test_prepared_query_answers_as_the_queryset_does(
    make_model: Callable[..., Any], django_assert_num_queries: Any
) -> None:
    names = columns(GatedModel, but=["card"])
    asked = CompiledQuery(
        lambda text, most: GatedModel.objects.filter(repo_id=text, pk__lte=most, listed=True).values_list(
            *names
        ),
        text=SAMPLE_TEXT,
        most=SAMPLE_NUMBER,
    )
    made = [make_model("ai/tulu"), make_model("ai/other")]
    for model in made:
        with django_assert_num_queries(1):
            rows = asked(text=model.repo_id, most=10**6)
        assert rows == list(GatedModel.objects.filter(pk=model.pk).values_list(*names))
        read = instance(GatedModel, names, rows[0])
        with django_assert_num_queries(0):
            assert (read, read.card_data) == (model, model.card_data)
        with django_assert_num_queries(1):
            assert read.card == model.card
    assert asked(text="ai/tulu", most=0) == []
    assert asked(text="' OR 1=1 --", most=10**6) == []


def test_value_that_the_query_does_not_use_is_an_error() -> None:
    asked = CompiledQuery(lambda text: GatedModel.objects.values_list("pk"), text=SAMPLE_TEXT)
    with pytest.raises(ValueError, match="does not use text"):
        asked(text="x")


def test_prepared_query_makes_objects_as_the_queryset_does(
    make_model: Callable[..., Any], django_assert_num_queries: Any
) -> None:
    def build(keys: list[int], word: str) -> Any:
        rows = GatedModel.objects.filter(AnyOf(F("pk"), keys)).select_related("form", "rendered_card")
        return rows.defer("card").annotate(greeting=Concat(Value(word), F("repo_id"))).order_by("pk")

    asked = CompiledQuery(build, keys=SAMPLE_NUMBERS, word=SAMPLE_TEXT)
    first, second = make_model("ai/tulu"), make_model("ai/other")
    for models in ([first, second], [second], []):
        keys = [model.pk for model in models]
        with django_assert_num_queries(1):
            found = asked(keys=keys, word="Hello ")
            seen = [(one.card_data, one.form, one.rendered_card.summary) for one in found]
        expected = build(keys, "Hello ")
        assert found == list(expected)
        assert seen == [(one.card_data, one.form, one.rendered_card.summary) for one in expected]
        assert [one.greeting for one in found] == [f"Hello {model.repo_id}" for model in models]
        assert all(one.get_deferred_fields() == {"card"} for one in found)
        assert all((one._state.adding, one._state.db) == (False, "default") for one in found)
    assert asked.first(keys=[second.pk], word="") == second
    assert asked.first(keys=[], word="") is None


@pytest.mark.parametrize(
    "build",
    [
        lambda text: GatedModel.objects.filter(repo_id=text).prefetch_related("forms"),
        lambda text: GatedModel.objects.filter(repo_id=text).values_list("pk", flat=True),
        lambda text: GatedModel.objects.filter(repo_id=text).values("pk"),
    ],
)
def test_query_whose_results_would_differ_is_an_error(build: Callable[[str], Any]) -> None:
    with pytest.raises(ValueError, match="must be of objects"):
        CompiledQuery(build, text=SAMPLE_TEXT)(text="x")


def test_nothing_to_compare_with_is_an_error() -> None:
    asked = CompiledQuery(lambda key: GatedModel.objects.filter(pk=key), key=SAMPLE_NUMBER)
    with pytest.raises(ValueError, match="has been saved"):
        asked(key=GatedModel().pk)
