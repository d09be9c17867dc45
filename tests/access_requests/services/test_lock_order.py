"""Services run at once: whatever is drawn, none waits for ever, no rule is broken and the chain is intact."""

from __future__ import annotations

import ast
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.apps import apps
from django.db import IntegrityError, connection, transaction
from django.db.models import Count, Exists, OuterRef
from django.utils import timezone

from access_requests.access.review_lists import review_entry
from access_requests.enums import OPEN_STATES, Outcome
from access_requests.errors import Conflict
from access_requests.models import (
    AccessRequest,
    Decision,
    Event,
    EventLink,
    FollowedRepo,
    FormerId,
    GatedModel,
    Grant,
    ListPlace,
)
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.event_log.append import append_event, recorded, verify_chain
from access_requests.services.requests.decide import record_decision
from access_requests.services.tokens.issuing import MOST_TOKENS
from model_ops.services.revisions.publish import publish_revision
from tests.access_requests.services.lock_mix import SECRETS, STEPS, Mix
from tests.threads import all_at_once, impatient

CHECKOUT = Path(__file__).resolve().parents[3]
ROOMS = ("access_requests", "model_ops", "portal")
THREADS, STEPS_EACH = 8, 40
DECIDED = ("request.approved", "request.rejected", "request.changes_requested", "request.reset")


@pytest.fixture
def world(transactional_db: None, make_person: Any, make_model: Any, settings: Any, tmp_path: Path) -> None:
    """Create two models, one of which follows a remote repository, two owners, and two people who apply."""
    settings.WEIGHTS_ROOT = tmp_path / "weights"
    settings.WEIGHTS_ROOT.mkdir()
    people = {name: make_person(name) for name in ("ada", "bob", "olga", "rita")}
    for model in (make_model("ai/name-0"), make_model("ai/name-1")):
        assign_role(model=model, user=people["olga"], role="owner")
        assign_role(model=model, user=people["rita"], role="owner")
        publish_revision(model=model)
    FollowedRepo.objects.create(model=model, endpoint="https://far.example", far_id="far/away")
    SECRETS.clear()


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(1, 11))
def test_services_drawn_at_random_neither_deadlock_nor_break_a_rule(world: None, seed: int) -> None:
    done = all_at_once(THREADS, lambda number: Mix(seed * 1000 + number).run(STEPS_EACH))
    assert sum(done) > THREADS * STEPS_EACH / 10
    check_everything()


def check_everything() -> None:
    """Check the rules that must hold after any mix of steps."""
    asked = AccessRequest.objects.filter(state__in=OPEN_STATES).values("model", "applicant")
    assert not asked.annotate(open=Count("pk")).filter(open__gt=1).exists()
    live = Grant.objects.filter(closed_at=None).values("model", "user")
    assert not live.annotate(live=Count("pk")).filter(live__gt=1).exists()
    assert not Grant.objects.annotate(made=Count("tokens")).filter(made__gt=MOST_TOKENS).exists()
    names = {name.lower() for name in GatedModel.objects.values_list("repo_id", flat=True)}
    assert not names & {name.lower() for name in FormerId.objects.values_list("repo_id", flat=True)}
    decisions = Decision.objects.exclude(outcome=Outcome.REOPENED).count()
    assert Event.objects.filter(kind__in=DECIDED).count() == decisions
    for request in AccessRequest.objects.all():
        assert moves_of(request) == request.state
    check_list_places()
    whole = verify_chain()
    assert (whole.ok, whole.first_bad) == (True, None)
    numbers = list(EventLink.objects.values_list("number", flat=True))
    assert numbers == list(range(1, Event.objects.count() + 1))


def check_list_places() -> None:
    """Check that each event left its person in the right list; access that has just ended may be late."""
    ended = Grant.objects.filter(
        model=OuterRef("model"), user=OuterRef("person"), closed_at=None, ends_at__lte=timezone.now()
    )
    rows = ListPlace.objects.filter(~Exists(ended)).select_related("person", "model")
    for row in rows:
        entry = review_entry(row.person, row.model)
        assert (row.place, row.asked_at) == (entry.place or "", entry.asked_at)
    asked = AccessRequest.objects.values_list("model", "applicant").union(
        Grant.objects.values_list("model", "user")
    )
    assert set(asked) == set(ListPlace.objects.values_list("model", "person"))


def moves_of(request: AccessRequest) -> str:
    """Return the state that the logged moves lead to; check that each begins where the last one ended."""
    state = ""
    for event in Event.objects.filter(request=request, facts__has_key="to").order_by("link__number"):
        if event.kind.startswith("request."):
            assert state in {"", event.facts["from"]}, event
            state = event.facts["to"]
    return state or request.state


def test_every_step_can_be_drawn_and_most_services_are_among_them() -> None:
    assert len({one.__name__ for one in STEPS}) > 35


def test_of_eight_decisions_at_once_one_is_made(world: None, submit: Callable[..., Any]) -> None:
    model = GatedModel.objects.order_by("pk")[0]
    people = apps.get_model("accounts", "User").objects
    ada, olga = people.get(username="ada"), people.get(username="olga")
    request = submit(ada, model)

    def decide(number: int) -> str:
        outcome = [Outcome.APPROVED, Outcome.RESET][number % 2]
        try:
            record_decision(request=request, reviewer=olga, outcome=outcome)
        except Conflict:
            return ""
        return str(outcome)

    made = [one for one in all_at_once(8, decide) if one]
    assert [str(one.outcome) for one in request.decisions.all()] == made
    assert len(made) == 1


def test_decisions_on_one_model_do_not_wait_for_each_other(
    world: None, make_person: Any, submit: Callable[..., Any]
) -> None:
    """A decision that is written but not committed holds up no other decision and no event."""
    model = GatedModel.objects.order_by("pk")[0]
    olga = apps.get_model("accounts", "User").objects.get(username="olga")
    first, second = submit(make_person("cleo"), model), submit(make_person("dora"), model)
    written, done = threading.Event(), threading.Event()

    def hold(number: int) -> None:
        if number == 0:
            with transaction.atomic():
                record_decision(request=first, reviewer=olga, outcome=Outcome.APPROVED)
                written.set()
                assert done.wait(60)
        else:
            assert written.wait(60)
            try:
                with impatient():
                    record_decision(request=second, reviewer=olga, outcome=Outcome.APPROVED)
                    with recorded():
                        append_event(kind="test.event", actor=olga, model=model, request=first)
            finally:
                done.set()

    all_at_once(2, hold)
    assert Decision.objects.count() == 2
    check_everything()


def test_chain_is_not_held_while_a_foreign_key_waits_for_a_deleted_row(world: None) -> None:
    """The deleting transaction waits for the chain; one that waits for the deleted row must not hold it."""
    model = GatedModel.objects.create(repo_id="ai/gone", card="")
    deleted, committing = threading.Event(), threading.Event()

    def work(number: int) -> str:
        return (
            delete_model(model, deleted, committing)
            if number == 0
            else name_model(model, deleted, committing)
        )

    assert all_at_once(2, work) == ["deleted", "refused"]
    assert verify_chain().ok


def delete_model(model: GatedModel, deleted: threading.Event, committing: threading.Event) -> str:
    with recorded():
        with connection.cursor() as cursor:
            cursor.execute("DELETE FROM access_requests_gatedmodel WHERE id = %s", [model.pk])
        append_event(kind="test.deleted")
        deleted.set()
        assert committing.wait(60)
        while not someone_waits():
            continue
    return "deleted"


def name_model(model: GatedModel, deleted: threading.Event, committing: threading.Event) -> str:
    assert deleted.wait(60)
    try:
        with recorded():
            append_event(kind="test.named")
            FormerId.objects.create(model_id=model.pk, repo_id="ai/never")
            committing.set()
    except IntegrityError:
        return "refused"
    return "named"


def someone_waits() -> bool:
    """Return whether another connection to this database waits for a lock."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted AND pid <> pg_backend_pid()")
        (count,) = cursor.fetchone()
    return bool(count)


# --- how the source locks rows ---

# (file, function) -> why it locks a row FOR UPDATE, which makes the foreign keys of new rows wait.
LOCKED_WHOLE = {("model_ops/services/uploads/holding.py", "_lock_to_delete"): "the rows are deleted"}
# `update_or_create` locks its row FOR UPDATE, so it may write only rows that no other row refers to.
WRITTEN_SO = {"Ref", "ModelRole", "UploadRule", "SmokeRun", "OwnerLink", "RenderedCard"}


def calls(name: str) -> Iterator[tuple[str, str, ast.Call]]:
    """Return (file, enclosing function, call) for every call of a method with this name."""
    for room in ROOMS:
        for file in sorted((CHECKOUT / room).rglob("*.py")):
            for outer in ast.walk(ast.parse(file.read_text())):
                if isinstance(outer, ast.FunctionDef):
                    for node in ast.walk(outer):
                        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == name:
                            yield str(file.relative_to(CHECKOUT)), outer.name, node


def test_rows_are_locked_so_that_foreign_keys_do_not_wait() -> None:
    found = list(calls("select_for_update"))
    assert len(found) > 20
    whole = {
        (file, function)
        for file, function, call in found
        if not any(word.arg == "no_key" and ast.literal_eval(word.value) for word in call.keywords)
    }
    assert whole == set(LOCKED_WHOLE)


def test_nothing_refers_to_rows_that_are_locked_whole_by_update_or_create() -> None:
    written = {ast.unparse(call.func).split(".")[0] for _file, _function, call in calls("update_or_create")}
    assert written == WRITTEN_SO
    for model in apps.get_models():
        if model.__name__ in WRITTEN_SO:
            assert not list(model._meta.related_objects), model
