"""Django's sessions in the database. Every page reads one, so the query is compiled only once."""

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
    """The session store, which Django takes from the module that `SESSION_ENGINE` names."""

    def _get_session_from_db(self) -> Session | None:
        found: Session | None = None
        if self.session_key and is_storable(self.session_key):
            found = _live.first(key=self.session_key, now=timezone.now())
        if found is None:
            self._session_key = None
        return found
