"""Steps that `./dev.py bench decisions` runs in the portal's environment.

python -m tests.bench.decisions_work ORDER
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

import django

django.setup()

from django.db import connections  # noqa: E402
from django.utils import timezone  # noqa: E402

from access_requests.enums import Outcome, RequestState  # noqa: E402
from access_requests.models import AccessRequest, GatedModel, RemoteRequest  # noqa: E402
from access_requests.services.catalogue.gated_models import add_model  # noqa: E402
from access_requests.services.catalogue.roles import assign_role  # noqa: E402
from access_requests.services.event_log.append import append_event, recorded, verify_chain  # noqa: E402
from access_requests.services.following.managing import follow as begin_to_follow  # noqa: E402
from access_requests.services.requests.decide import record_decision  # noqa: E402
from portal.accounts.models import User  # noqa: E402

CARD = "---\nextra_gated_fields:\n  Why: text\n---\n# Bench\n"
Work = Callable[[int], None]


def seed(count: int) -> dict[str, Any]:
    """Add a model with this many people's waiting requests, a reviewer, and a second model to follow with."""
    reviewer = User.objects.create_user("rita@bench.example", "rita")
    models = [add_model(repo_id=f"bench/{name}", card=CARD) for name in ("here", "near")]
    for model in models:
        assign_role(model=model, user=reviewer, role="reviewer")
    people = User.objects.bulk_create(
        [User(email=f"p{n}@bench.example", username=f"p{n}", password="!") for n in range(count)], 5000
    )
    now = timezone.now()
    made = AccessRequest.objects.bulk_create(
        [
            AccessRequest(
                model=models[0], applicant=person, form=models[0].form, answers={"f1": "To study it."},
                state=RequestState.SUBMITTED, submitted_at=now, first_submitted_at=now,
            )
            for person in people
        ],
        5000,
    )  # fmt: skip
    return {"requests": [request.pk for request in made]}


def decide(how: str, number: int, requests: list[int]) -> dict[str, Any]:
    """Approve these requests, shared among this many connections."""
    return at_once(how, number, requests, _approve)


def append(how: str, number: int, count: int) -> dict[str, Any]:
    """Append this many unrelated events, each in a transaction."""
    return at_once(how, number, list(range(count)), _append)


def _approve(pk: int) -> None:
    reviewer = User.objects.get(username="rita")
    record_decision(request=AccessRequest.objects.get(pk=pk), reviewer=reviewer, outcome=Outcome.APPROVED)


def _append(number: int) -> None:
    with recorded():
        append_event(kind="bench.event", by="bench", data={"size": number})


def at_once(how: str, number: int, items: list[int], work: Work) -> dict[str, Any]:
    """Share the items among processes or threads; return items a second, and the longest in seconds.

    All start together. Each does one item first, so that templates are loaded and connections open when the
    clock starts. This process has made no query yet, because a pool of connections does not survive a fork.
    """
    warm, items = items[:number], items[number:]
    kind: Any = multiprocessing.get_context("fork") if how == "processes" else threading
    barrier = kind.Barrier(number + 1)
    longest: Any = multiprocessing.Array("d", number, lock=False) if how == "processes" else [0.0] * number

    def run(place: int) -> None:
        try:
            work(warm[place])
            connections.close_all()
        except BaseException:
            barrier.abort()
            raise
        work_on = items[place::number]
        barrier.wait()
        for item in work_on:
            started = time.perf_counter()
            work(item)
            connections.close_all()  # back to the pool, as after a request: threads outnumber connections
            longest[place] = max(longest[place], time.perf_counter() - started)
        connections.close_all()

    workers = [
        (kind.Process if how == "processes" else kind.Thread)(target=run, args=(place,))
        for place in range(number)
    ]
    for worker in workers:
        worker.start()
    barrier.wait()
    started = time.perf_counter()
    for worker in workers:
        worker.join()
    seconds = time.perf_counter() - started
    if how == "processes" and any(worker.exitcode for worker in workers):
        raise SystemExit("a process failed")
    return {"rate": len(items) / seconds, "longest": max(longest)}


def follow(endpoint: str, far_id: str) -> dict[str, Any]:
    """Follow the repository; the portal's worker polls it shortly."""
    begin_to_follow(model=GatedModel.objects.get(repo_id="bench/near"), endpoint=endpoint, far_id=far_id)
    return {}


def decide_beside(requests: list[int], imported: int, most: float) -> dict[str, Any]:
    """Decide requests one after another, a few each second, until the import ends or time is up."""
    longest, made, until = 0.0, 0, time.monotonic() + most
    for pk in requests:
        started = time.perf_counter()
        _approve(pk)
        longest, made = max(longest, time.perf_counter() - started), made + 1
        if made % 10 == 0 and (RemoteRequest.objects.count() >= imported or time.monotonic() > until):
            break
        time.sleep(0.05)
    return {"longest decision": longest, "decisions": made, "imported": RemoteRequest.objects.count()}


def verify() -> dict[str, Any]:
    """Return whether the chain is whole."""
    report = verify_chain()
    return {"ok": report.ok, "events": report.events}


ORDERS: dict[str, Callable[..., dict[str, Any]]] = {
    one.__name__: one for one in (seed, decide, append, follow, decide_beside, verify)
}

if __name__ == "__main__":
    print(json.dumps(ORDERS[sys.argv[1]](**json.load(sys.stdin))))
