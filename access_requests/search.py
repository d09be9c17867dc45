"""Search in lists of millions of rows: one text for each row, folded to upper case in every script, with a trigram index.

Which letters PostgreSQL makes trigrams of depends on the database's LC_CTYPE; of ASCII it always does. So the text is
indexed with the bytes of all other letters as octal digits: 王 is 347216213. A term of other letters (王伟, 김민수) is
found anywhere in the text, however short it is, and one of three ASCII letters or digits in a row, too. A shorter one is
found where a word begins with it: PostgreSQL makes trigrams of the beginnings of words.
"""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Iterable
from typing import Any

from django.apps import apps
from django.contrib.auth import get_user_model
from django.contrib.postgres.indexes import GinIndex, OpClass
from django.db import connection, transaction
from django.db.models import BooleanField, F, Func, Q, QuerySet, TextField, Value
from django.utils.text import smart_split

COLLATION = "gatehouse_search"  # folds case in every script, whatever the database's own collation; see migration 0024
LONGEST, MOST_TERMS = 200, 8  # characters of what is searched for, and terms of it that count
MOST_PEOPLE = 1_000  # that a term may mean in a list of something else
INDEXED = 3  # letters and digits in a row that an index finds anywhere
# Upper case, its UTF-8 with bytes above 127 as three octal digits, and without backslashes. Every step is immutable.
DIGITS = f"""REPLACE(ENCODE(DECODE(REPLACE(UPPER({{}} COLLATE "{COLLATION}"), '\\', '\\\\'), 'escape'), 'escape'), '\\', '')"""


class SearchText(Func):
    """The text of a row in which terms are looked for. A change here needs the indexes again: they hold this expression."""

    arg_joiner = " || ' ' || "
    template = DIGITS.format("(' ' || %(expressions)s)")
    output_field = TextField()


class Glued(Func):
    """Texts without a blank between them: 王 and 伟 are searched for as 王伟."""

    arg_joiner = " || "
    template = "(%(expressions)s)"
    output_field = TextField()


class Pattern(Func):
    template = DIGITS.format("%(expressions)s")
    output_field = TextField()


class Like(Func):
    arg_joiner = " LIKE "
    template = "(%(expressions)s ESCAPE '!')"
    output_field = BooleanField()


class Keys(list[int]):
    """Keys of rows; `more` says that there are others that are not among them."""

    more = False


class AnyOf(Func):
    """`AnyOf(F("pk"), keys)`: one parameter, however many keys there are. `partial` says that some are missing."""

    arg_joiner = " = ANY "
    template = "(%(expressions)s)"
    output_field = BooleanField()

    def __init__(self, column: Any, keys: Iterable[int]) -> None:
        self.partial = isinstance(keys, Keys) and keys.more
        super().__init__(column, Func(Value(list(keys)), template="(%(expressions)s::bigint[])"))


NAMES = ("first_name", Glued("last_name", "first_name"), "institution")
OF_REQUEST = SearchText(*NAMES, "intended_use")
OF_PERSON = SearchText(*NAMES, "username", "email", "orcid")
BY_NAME = SearchText("first_name", Glued("last_name", "first_name"), "username")  # of what OF_PERSON holds
OF_EMAIL = SearchText("to", "subject", "key")
OF_TOKEN = SearchText("name", "hint")


def trigram_index(text: SearchText, *, name: str) -> GinIndex:
    """Return the index that serves `holds(text, ...)`."""
    return GinIndex(OpClass(text, "gin_trgm_ops"), name=name)


def terms(typed: str) -> list[str]:
    """Return what to look for: words, and quoted phrases; bounded, composed, and without what PostgreSQL cannot store."""
    plain = typed[:LONGEST].replace("\0", " ").replace("\\", " ")
    clean = unicodedata.normalize("NFC", plain)
    clean = clean.encode("utf-8", "ignore").decode()  # half of a surrogate pair
    found = (" ".join(word.strip("\"'").split()) for word in smart_split(clean))
    return [word for word in found if word][:MOST_TERMS]


def holds(text: SearchText, term: str) -> Q:
    """Return the condition that the text holds the term, whatever the case of either."""
    escaped = re.sub(r"[!%_]", r"!\g<0>", term.replace("\\", ""))
    pattern = f"%{escaped}%" if _longest_run(term) >= INDEXED else f"% {escaped}%"
    return Q(Like(text, Pattern(Value(pattern))))


def is_indexed(term: str) -> bool:
    """Whether an index can find the term: one of ASCII signs alone has no trigram."""
    return _longest_run(term) > 0


def _longest_run(term: str) -> int:
    """Letters and digits in a row, as the term is indexed: what trigrams are made of."""
    runs = re.findall(r"[A-Za-z0-9]+|[^\x00-\x7f]+", term)
    return max((len(run) if run.isascii() else INDEXED for run in runs), default=0)


def by_index(rows: QuerySet[Any], most: int) -> list[int]:
    """Return the keys of at most `most` rows in no order, found without reading the whole table.

    The planner takes a table to be read from its beginning for the better way to a few of many rows. It is wrong where
    those rows lie at the end.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        found = list(rows.order_by().values_list("pk", flat=True)[:most])
        cursor.execute("SET LOCAL enable_seqscan = on")  # the transaction may be a longer one
    return found


def some_of(found: list[int]) -> Keys:
    """Return the first `MOST_PEOPLE` of the keys; one more that was read says that there are others."""
    keys = Keys(found[:MOST_PEOPLE])
    keys.more = len(found) > MOST_PEOPLE
    return keys


def people_like(term: str, *, by_name: bool = False) -> Keys:
    """Return the keys of `MOST_PEOPLE` people at most who have the term in what is known of them, or in their names alone."""
    people = get_user_model().objects.filter(holds(OF_PERSON, term))
    if by_name:  # the index finds them by the whole text
        people = people.filter(holds(BY_NAME, term))
    return some_of(by_index(people, MOST_PEOPLE + 1) if is_indexed(term) else [])


def of_people(column: str, keys: Iterable[int]) -> Q:
    """Return the condition that a column names one of these people."""
    return Q(AnyOf(F(column), keys))


def models_like(term: str) -> Keys:
    """Return the keys of `MOST_PEOPLE` models at most whose id holds the term: a small table, read as it is."""
    models = apps.get_model("access_requests", "GatedModel").objects.filter(repo_id__icontains=term)
    return some_of(list(models.values_list("pk", flat=True)[: MOST_PEOPLE + 1]))


def is_partial(wanted: Q) -> bool:
    """Whether the condition names only some of the people or models that its terms mean."""
    return any(
        is_partial(each) if isinstance(each, Q) else getattr(each, "partial", False)
        for each in wanted.children
    )


def network_address(term: str) -> str:
    """Return the term as a network address, or "" where it is none; a zone (`fe80::1%eth0`) is stored nowhere."""
    if "%" in term:
        return ""
    try:
        return str(ipaddress.ip_address(term))
    except ValueError:
        return ""
