"""Steps that `bench scale` runs in the portal's environment.

python -m tests.bench.scale.work ORDER, with its arguments as JSON.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from typing import Any

import django

django.setup()

from django.conf import settings  # noqa: E402 - needs the setup
from django.db import connection  # noqa: E402
from django.test import Client  # noqa: E402
from django.test.utils import CaptureQueriesContext  # noqa: E402
from django.utils import timezone  # noqa: E402

from access_requests.access.permissions import decidable_models  # noqa: E402
from access_requests.enums import WAITING_STATES, RequestState, TokenKind  # noqa: E402
from access_requests.models import AccessRequest, AccessToken, GatedModel, Grant  # noqa: E402
from access_requests.services.catalogue.rendered_texts import render_outdated  # noqa: E402
from access_requests.services.event_log.append import verify_chain  # noqa: E402
from access_requests.services.grants import close_ended_grants  # noqa: E402
from access_requests.services.tokens.issuing import issue_person_token, issue_token  # noqa: E402
from model_ops.services.recoveries.deliver import resume_deliveries  # noqa: E402
from portal.accounts.models import User  # noqa: E402
from tests.bench.scale.models import commit_of, repo_id_of  # noqa: E402
from tests.bench.scale.people import username_of  # noqa: E402
from tests.bench.scale.plan import BUSY, REVIEWER, SUPERUSER  # noqa: E402
from tests.sign_in import sign_in  # noqa: E402

TIMES = 7
LONGEST = "30s"  # for one statement
TOKEN = "bench-scale"


def prepare() -> dict[str, Any]:
    """Sign people in and create tokens; return sessions, secrets and ids."""
    largest = GatedModel.objects.get(repo_id=repo_id_of(0))
    grant = Grant.objects.filter(model=largest, closed_at=None).select_related("user").order_by("-pk")[0]
    waits = AccessRequest.objects.filter(state__in=WAITING_STATES).order_by("-pk")
    waiting = waits.filter(model=largest).first() or waits[0]
    people = {name: User.objects.get(username=username_of(n)) for name, n in NAMED.items()} | {
        "person": grant.user
    }
    reviewer = people["reviewer"]
    AccessToken.objects.filter(name__startswith=TOKEN, user__in=people.values()).update(
        revoked_at=timezone.now()
    )
    mine = issue_token(grant=grant, user=grant.user, name=f"{TOKEN} {time.time():.0f}")
    theirs = issue_person_token(user=reviewer, kind=TokenKind.REVIEWER, name=f"{TOKEN} {time.time():.0f}")
    return {
        "sessions": {name: session_of(person) for name, person in people.items()},
        "tokens": {"person": mine.secret, "reviewer": theirs.secret},
        "repo": largest.repo_id,
        "commit": commit_of(0),
        "model": largest.pk,
        "request": waiting.pk,
        "user": grant.user.pk,
        "busy": people["busy"].pk,
        "requests": AccessRequest.objects.count(),
    }


NAMED = {"superuser": SUPERUSER, "reviewer": REVIEWER, "busy": BUSY}


def session_of(person: User) -> str:
    """Return a session cookie for the person, signed in a moment ago."""
    return str(sign_in(Client(), person, confirmed=True).cookies[settings.SESSION_COOKIE_NAME].value)


def crowd(people: int, downloads: int) -> dict[str, Any]:
    """Sign in people who are waiting or have access, and staff; create tokens for slow downloads.

    A small database may hold fewer people than asked for; the caller reuses them.
    """
    live = Grant.objects.filter(closed_at=None).select_related("user", "model").order_by("-pk")
    asked = AccessRequest.objects.select_related("applicant", "model").order_by("-pk")
    waiting = list(asked.filter(state__in=WAITING_STATES)[: max(people // 3, 50)])
    begun = asked.filter(state__in=(RequestState.DRAFT, RequestState.CHANGES_REQUESTED))[: people // 3]
    readers = list(live.filter(model__refs__revision__has_weights=True)[:downloads])
    places = [(one.applicant, one.model, "") for one in waiting[: people // 3]]
    places += [(one.applicant, one.model, "/request") for one in begun]
    places += [(one.user, one.model, "/access") for one in live[: people - len(places)]]
    AccessToken.objects.filter(name__startswith=TOKEN, grant__in=readers).update(revoked_at=timezone.now())
    return {
        "visitors": [
            {"session": session_of(person), "mine": f"/{model.repo_id}{page}"}
            for person, model, page in places
        ],
        "staff": [_staff(User.objects.get(username=username_of(n))) for n in (SUPERUSER, REVIEWER)],
        "readers": [_reader(grant, f"{TOKEN} {time.time():.0f}") for grant in readers],
        "models": [f"/{repo_id_of(n)}" for n in range(min(20, GatedModel.objects.count() - 3))],
    }


def _staff(person: User) -> dict[str, Any]:
    """Return a reviewer's session, and the pages of requests that are waiting for them."""
    waiting = AccessRequest.objects.filter(
        model__in=decidable_models(person).values("pk"), state__in=WAITING_STATES
    )
    keys = waiting.order_by("-pk").values_list("pk", flat=True)[:50]
    pages = [f"/admin/access_requests/accessrequest/{key}/change/" for key in keys]
    return {"session": session_of(person), "requests": pages}


def _reader(grant: Grant, name: str) -> dict[str, str]:
    """Return the path of the larger file in the grant's model, and a new token for it."""
    number = int(grant.model.repo_id.rpartition("-")[2])
    path = f"/{grant.model.repo_id}/resolve/{commit_of(number)}/model.safetensors"
    return {"path": path, "token": str(issue_token(grant=grant, user=grant.user, name=name).secret)}


def queries(asked: list[dict[str, Any]]) -> dict[str, Any]:
    """Return how many database queries each page makes; null if it was not answered properly in time."""
    with connection.cursor() as cursor:
        cursor.execute(f"SET statement_timeout = '{LONGEST}'")
    return {"counts": [_count(**one) for one in asked]}


def _count(method: str, path: str, headers: dict[str, str]) -> int | None:
    client = Client(headers=headers | {"Host": "127.0.0.1"}, raise_request_exception=False)
    with CaptureQueriesContext(connection) as found:
        response = client.generic(method, path)
        if response.streaming:
            for _ in response.streaming_content:
                pass
    response.close()
    return len(found) if response.status_code < 400 else None


def tasks() -> dict[str, Any]:
    """Return how many seconds periodic tasks that search large tables take with nothing to do."""
    close_ended_grants()  # items that ended since the database was filled
    resume_deliveries()
    render_outdated()
    return {
        "close_ended_grants": _seconds(close_ended_grants),
        "render_outdated": _seconds(render_outdated),
        "resume_deliveries": _seconds(resume_deliveries),
    }


def _seconds(task: Callable[[], object]) -> list[float]:
    found = []
    for _ in range(TIMES):
        began = time.perf_counter()
        task()
        found.append(time.perf_counter() - began)
    return found


def verify() -> dict[str, Any]:
    """Verify the whole chain; return how long that took."""
    began = time.perf_counter()
    report = verify_chain()
    return {"ok": report.ok, "events": report.events, "seconds": time.perf_counter() - began}


ORDERS: dict[str, Callable[..., dict[str, Any]]] = {
    one.__name__: one for one in (prepare, crowd, queries, tasks, verify)
}

if __name__ == "__main__":
    print(json.dumps(ORDERS[sys.argv[1]](**json.load(sys.stdin))))
