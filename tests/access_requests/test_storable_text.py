"""Which text the database accepts, checked against PostgreSQL itself."""

from __future__ import annotations

import pytest
from django.db import DataError, connection, transaction

from access_requests.storable_text import drop_unstorable, is_storable, replace_unstorable

TAKEN = ["", "plain", "\x01\x1f\x7f", "\u202e\ufeff\uffff", "名 \U0001f600"]
NOT_TAKEN = ["\0", "a\0b", "\ud800", "\udfff", "\udbff\udc00"]


def stored(text: str) -> str:
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SELECT %s::text", [text])
        return str(cursor.fetchone()[0])


@pytest.mark.django_db
@pytest.mark.parametrize("text", TAKEN)
def test_text_that_the_database_takes_stays_as_it_is(text: str) -> None:
    assert is_storable(text)
    assert stored(text) == drop_unstorable(text) == replace_unstorable(text) == text


@pytest.mark.django_db
@pytest.mark.parametrize("text", NOT_TAKEN)
def test_text_that_the_database_refuses_is_made_fit(text: str) -> None:
    assert not is_storable(text)
    with pytest.raises((DataError, UnicodeEncodeError)):
        stored(text)
    assert stored(drop_unstorable(text)) == "".join(c for c in text if c in "ab")
    assert stored(replace_unstorable(text)) == "".join(c if c in "ab" else "\ufffd" for c in text)
