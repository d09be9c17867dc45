"""Search lists of millions of rows: each row has one text, in upper case, with a trigram index.

PostgreSQL always makes trigrams of ASCII letters; for others it depends on the database's LC_CTYPE. So the
text is indexed with the bytes of all other letters as octal digits: 王 is 347216213. A term in another script
(王伟, 김민수) is found anywhere in the text, however short it is, and so is a term with three ASCII letters or
digits in a row. A shorter one is found only at the beginning of a word, which PostgreSQL makes trigrams of as
well.
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

COLLATION = "gatehouse_search"  # folds case in every script under any database collation; see migration 0024
LONGEST, MOST_TERMS = 200, 8  # characters of what a person types, and terms in it, that are used
MOST_PEOPLE = 1_000  # people or models that one term of another list's search may stand for
INDEXED = 3  # letters and digits in a row that an index finds anywhere
# Upper case, as UTF-8 with bytes above 127 as three octal digits, and no backslashes. Every step is immutable.
DIGITS = f"""REPLACE(ENCODE(DECODE(REPLACE(UPPER({{}} COLLATE "{COLLATION}"), '\\', '\\\\'), 'escape'), 'escape'), '\\', '')"""


class SearchText(Func):
    """The text of a row that is searched.

    If it changes, rebuild the indexes, which contain this expression.
    """

    arg_joiner = " || ' ' || "
    template = DIGITS.format("(' ' || %(expressions)s)")
    output_field = TextField()


class Glued(Func):
    """Texts joined without a space: 王 and 伟 are found as 王伟."""

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
    """Keys of rows; `more` says whether there are others."""

    more = False


class AnyOf(Func):
    """`AnyOf(F("pk"), keys)`: one parameter for any number of keys. `partial`: some keys are missing."""

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
    """Return the words and quoted phrases to look for: at most `MOST_TERMS`, normalized, and safe to store."""
    plain = typed[:LONGEST].replace("\0", " ").replace("\\", " ")
    clean = unicodedata.normalize("NFC", plain)
    clean = clean.encode("utf-8", "ignore").decode()  # half of a surrogate pair
    found = (" ".join(word.strip("\"'").split()) for word in smart_split(clean))
    return [word for word in found if word][:MOST_TERMS]


def holds(text: SearchText, term: str) -> Q:
    """Return the condition that the text contains the term, ignoring case."""
    escaped = re.sub(r"[!%_]", r"!\g<0>", term.replace("\\", ""))
    pattern = f"%{escaped}%" if _longest_run(term) >= INDEXED else f"% {escaped}%"
    return Q(Like(text, Pattern(Value(pattern))))


def is_indexed(term: str) -> bool:
    """Return whether an index can find the term; one of ASCII punctuation alone has no trigrams."""
    return _longest_run(term) > 0


def _longest_run(term: str) -> int:
    """Return the length of the longest run of letters and digits, as indexed; trigrams are made of these."""
    runs = re.findall(r"[A-Za-z0-9]+|[^\x00-\x7f]+", term)
    return max((len(run) if run.isascii() else INDEXED for run in runs), default=0)


def by_index(rows: QuerySet[Any], most: int) -> list[int]:
    """Return the keys of at most `most` rows, in any order, without reading the whole table.

    For a few of many rows the planner prefers to scan the table from its beginning, which is slow if those
    rows are at the end.
    """
    with transaction.atomic(), connection.cursor() as cursor:
        cursor.execute("SET LOCAL enable_seqscan = off")
        found = list(rows.order_by().values_list("pk", flat=True)[:most])
        cursor.execute("SET LOCAL enable_seqscan = on")  # the transaction may be a longer one
    return found


def some_of(found: list[int]) -> Keys:
    """Return the first `MOST_PEOPLE` of the keys; one more than that shows that there are others."""
    keys = Keys(found[:MOST_PEOPLE])
    keys.more = len(found) > MOST_PEOPLE
    return keys


def people_like(term: str, *, by_name: bool = False) -> Keys:
    """Return keys of at most `MOST_PEOPLE` people whose details (with `by_name`, names) contain the term."""
    people = get_user_model().objects.filter(holds(OF_PERSON, term))
    if by_name:  # the index finds them by the whole text
        people = people.filter(holds(BY_NAME, term))
    return some_of(by_index(people, MOST_PEOPLE + 1) if is_indexed(term) else [])


def of_people(column: str, keys: Iterable[int]) -> Q:
    """Return the condition that a column refers to one of these people."""
    return Q(AnyOf(F(column), keys))


def models_like(term: str) -> Keys:
    """Return the keys of at most `MOST_PEOPLE` models whose id contains the term; scans the small table."""
    models = apps.get_model("access_requests", "GatedModel").objects.filter(repo_id__icontains=term)
    return some_of(list(models.values_list("pk", flat=True)[: MOST_PEOPLE + 1]))


def is_partial(wanted: Q) -> bool:
    """Return whether the condition covers only some of the people or models that match its terms."""
    return any(
        is_partial(each) if isinstance(each, Q) else getattr(each, "partial", False)
        for each in wanted.children
    )


def network_address(term: str) -> str:
    """Return the term as a network address, or "" if it is not one; no zone (`fe80::1%eth0`) is ever stored."""
    if "%" in term:
        return ""
    try:
        return str(ipaddress.ip_address(term))
    except ValueError:
        return ""
