"""Fill a migrated, empty database, in the portal's environment.

python -m tests.bench.scale.seed REQUESTS OWNER_DSN

One process writes the event log and another everything else, following the same plan. The last line of output
is JSON: the number of rows of each kind, and how long each step took.
"""

from __future__ import annotations

import json
import multiprocessing
import sys
import time
from collections.abc import Callable
from importlib import import_module
from typing import Any

import django

django.setup()

from django.apps import apps  # noqa: E402 - needs the setup
from django.conf import settings  # noqa: E402
from django.db import connection  # noqa: E402

from access_requests.models import AccessRequest, Event, EventText, Grant  # noqa: E402
from access_requests.services.event_log.append import head  # noqa: E402
from model_ops.models import Revision  # noqa: E402
from portal.accounts.models import User  # noqa: E402
from tests.bench.scale import people, rows  # noqa: E402
from tests.bench.scale.chain import First, copy_chain  # noqa: E402
from tests.bench.scale.copying import (  # noqa: E402
    at_once,
    connect,
    next_id,
    set_sequences,
    without_indexes,
)
from tests.bench.scale.models import Catalogue, Template, add_templates, copy_models  # noqa: E402
from tests.bench.scale.plan import Plan, make_plan  # noqa: E402

Counts = dict[str, int]


class Steps:
    """How long each step took, in seconds; each is printed when it is done."""

    def __init__(self) -> None:
        self.took: dict[str, float] = {}
        self._began = time.perf_counter()

    def done(self, name: str) -> None:
        now = time.perf_counter()
        self.took[name], self._began = round(now - self._began, 1), now
        print(f"{name}: {self.took[name]} s", file=sys.stderr, flush=True)


def seed(requests: int, dsn: str) -> dict[str, Any]:
    """Write everything; return the counts and the seconds."""
    steps = Steps()
    templates, revision = add_templates()
    plan = make_plan(requests, now=int(time.time()))
    tables = [model._meta.db_table for model in apps.get_models()]
    steps.done("plan")
    with without_indexes(dsn, tables):
        with connect(dsn) as owner:
            first, catalogue = _begun(owner, plan, templates, revision)
        connection.close()
        connection.close_pool()  # type: ignore[attr-defined] - a pool does not outlive a fork
        counts: Counts = {"models": plan.sizes.models, "before": first.number}
        counts |= _both(
            lambda: {"events": _with_owner(dsn, lambda owner: copy_chain(owner, plan, first))},
            lambda: _with_owner(dsn, lambda owner: _rest(owner, plan, first, catalogue)),
        )
        steps.done("rows")
    with connect(dsn) as owner:
        set_sequences(owner, apps.get_models())
        steps.done("indexes")
        _count_beside(owner)
    steps.done("counts")
    at_once(dsn, [f"VACUUM (ANALYZE) {table}" for table in _by_size(dsn, tables)])
    steps.done("vacuum")
    return {"counts": counts, "seconds": steps.took}


def _count_beside(owner: Any) -> None:
    """Write the counters that services keep next to the rows, as the migrations do if they are missing."""
    places = import_module("access_requests.migrations.0017_fill_list_places").FILL
    numbers = import_module("model_ops.migrations.0006_download_counts").COUNT
    owner.execute(places, [0, 2**62] * 4)
    owner.execute("TRUNCATE model_ops_modeldownloads, model_ops_downloadday")
    with owner.transaction():
        owner.execute(numbers)


def _begun(
    owner: Any, plan: Plan, templates: dict[str, Template], revision: Revision
) -> tuple[First, Catalogue]:
    """Write the models, and return where all other rows begin."""
    user = next_id(owner, User)
    catalogue = copy_models(owner, plan, templates, revision, user)
    number, hash = head()
    first = First(
        event=next_id(owner, Event),
        text=next_id(owner, EventText),
        request=next_id(owner, AccessRequest),
        grant=next_id(owner, Grant),
        user=user,
        models=catalogue.models,
        number=number,
        hash=hash,
        sha256=catalogue.sha256,
    )
    return first, catalogue


def _with_owner(dsn: str, work: Callable[[Any], Any]) -> Any:
    with connect(dsn) as owner:
        return work(owner)


def _rest(owner: Any, plan: Plan, first: First, catalogue: Catalogue) -> Counts:
    user, request, grant = first.user, first.request, first.grant
    return {
        **people.copy_people(owner, plan, user),
        **people.copy_sessions(owner, plan, user),
        "requests": rows.copy_requests(owner, plan, catalogue, user, request),
        "acceptances": rows.copy_acceptances(owner, plan, catalogue, user, request),
        "decisions": rows.copy_decisions(owner, plan, user, request),
        **rows.copy_grants(owner, plan, catalogue, user, request, grant),
        "emails": rows.copy_mails(owner, plan, request, settings.GATEHOUSE_URL),
        "downloads": rows.copy_downloads(owner, plan, catalogue, user, grant),
    }


def _both(other: Callable[[], Counts], here: Callable[[], Counts]) -> Counts:
    """Run the first function in another process and the second in this one; return the counts of both."""
    fork = multiprocessing.get_context("fork")
    receiving, sending = fork.Pipe(duplex=False)
    child = fork.Process(target=lambda: sending.send(other()))
    child.start()
    sending.close()
    try:
        counted = here()
        return counted | receiving.recv()
    except EOFError:
        raise SystemExit("The process that writes the event log failed.") from None
    finally:
        child.join()


def _by_size(dsn: str, tables: list[str]) -> list[str]:
    """Return the existing tables, the largest first."""
    with connect(dsn) as owner:
        found = owner.execute(
            "SELECT relname FROM pg_class WHERE relname = ANY(%s) AND relkind = 'r' ORDER BY pg_relation_size(oid) DESC",
            [tables],
        ).fetchall()
    return [name for (name,) in found]


if __name__ == "__main__":
    print(json.dumps(seed(int(sys.argv[1]), sys.argv[2])))
