"""Sessions in the database, as Django keeps them; every page reads one, so that the query is compiled once."""

from __future__ import annotations

from django.contrib.sessions.backends import db
from django.contrib.sessions.models import Session
from django.utils import timezone

from access_requests.access.compiled_query import SAMPLE_MOMENT, SAMPLE_TEXT, CompiledQuery
from access_requests.storable_text import is_storable

_live = CompiledQuery(
    lambda key, now: Session.objects.filter(session_key=key, expire_date__gt=now),
    key=SAMPLE_TEXT,
    now=SAMPLE_MOMENT,
)


class SessionStore(db.SessionStore):
    """`SESSION_ENGINE` names this module, and Django takes this class from it."""

    def _get_session_from_db(self) -> Session | None:
        found: Session | None = None
        if self.session_key and is_storable(self.session_key):
            found = _live.first(key=self.session_key, now=timezone.now())
        if found is None:
            self._session_key = None
        return found
