from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from access_requests.models import GatedModel
from access_requests.prepared import SAMPLE_NUMBER, SAMPLE_TEXT, Prepared, columns, instance

pytestmark = pytest.mark.django_db


def test_prepared_query_answers_as_the_queryset_does(
    make_model: Callable[..., Any], django_assert_num_queries: Any
) -> None:
    names = columns(GatedModel, but=["card"])
    asked = Prepared(
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
    asked = Prepared(lambda text: GatedModel.objects.values_list("pk"), text=SAMPLE_TEXT)
    with pytest.raises(ValueError, match="does not use text"):
        asked(text="x")
