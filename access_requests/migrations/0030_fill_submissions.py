"""Give each request that was ever submitted its submission 1 with one event, one transaction per batch.

The events are hashed here as format 2 defines it (docs/event-log.md), so that this migration does not change with the code.
Appeals that a reviewer had opened become appeals again.
"""

import hashlib
import json
import secrets
from datetime import UTC

from django.contrib.postgres.operations import ValidateConstraint
from django.db import migrations, models, transaction
from django.db.models import Exists, F, OuterRef
from django.utils import timezone

from access_requests.indexing import AddIndex

BATCH = 1_000  # requests
FACTS = {"at", "from", "licences", "to"}  # of the keys used here: kept in the event's row
COPIED = ("first_name", "last_name", "institution", "country")  # from the profile, if the form did not ask


def fill(apps, schema_editor):
    """Fill in missing submissions. If interrupted, it continues where it stopped."""
    AccessRequest, Submission = (
        apps.get_model("access_requests", name) for name in ("AccessRequest", "Submission")
    )
    recorded = Submission.objects.filter(request=OuterRef("pk"))
    asked = AccessRequest.objects.filter(~Exists(recorded), submitted_at__isnull=False)
    # One that was made for access given without a request was never submitted.
    asked = asked.exclude(answers={}, created_at__gt=F("submitted_at"), remote=None)
    last = 0
    while True:
        with transaction.atomic():
            rows = list(
                asked.filter(pk__gt=last)
                .order_by("pk")
                .select_for_update(no_key=True, of=("self",))
                .select_related("form")[:BATCH]
            )
            if not rows:
                return
            _record(apps, rows)
            last = rows[-1].pk


def _record(apps, requests):
    """Write the events, texts and submissions of these locked requests."""
    AccessRequest, Decision, Event, EventText, LicenceAcceptance, Submission = (
        apps.get_model("access_requests", name)
        for name in (
            "AccessRequest", "Decision", "Event", "EventText", "LicenceAcceptance", "Submission",
        )
    )  # fmt: skip
    accepted = {}
    for request, sha256 in (
        LicenceAcceptance.objects.filter(request__in=requests).order_by("pk").values_list("request", "sha256")
    ):
        accepted.setdefault(request, []).append(sha256)
    events, texts, opened = [], [], []
    for request in requests:
        data = _data_of(request, accepted.get(request.pk, []))
        if request.state == "in_review" and request.appealed_at is not None:
            opened.append(request.pk)
            data |= {"from": "in_review", "to": "appealed"}
        event, of_event = _event_of(Event, EventText, request, data)
        events.append(event)
        texts.append(of_event)
    Event.objects.bulk_create(events)
    for event, of_event in zip(events, texts, strict=True):
        for text in of_event:
            text.event_id = event.pk
    EventText.objects.bulk_create([text for of_event in texts for text in of_event])
    submissions = Submission.objects.bulk_create(
        Submission(request=request, number=1, form_id=request.form_id, event=event, at=request.submitted_at)
        for request, event in zip(requests, events, strict=True)
    )
    if opened:
        AccessRequest.objects.filter(pk__in=opened).update(state="appealed")
    first = {submission.request_id: submission.pk for submission in submissions}
    decided = Decision.objects.filter(request__in=requests, decided_at__gte=F("request__submitted_at"))
    changed = list(decided.only("pk", "request_id"))
    for decision in changed:
        decision.submission_id = first[decision.request_id]
    Decision.objects.bulk_update(changed, ["submission"])


def _data_of(request, licences):
    roles = {field.get("role") for field in request.form.schema.get("fields", [])}
    copied = {role: str(getattr(request, role) or "") for role in COPIED if role not in roles}
    if "full_name" in roles:
        copied = {role: value for role, value in copied.items() if not role.endswith("_name")}
    return {
        "submission": 1,
        "form": request.form_id,
        "at": request.submitted_at.astimezone(UTC).isoformat(timespec="microseconds"),
        "licences": licences,
        **{f"answer.{key}": answer for key, answer in request.answers.items()},
        **{f"profile.{role}": value for role, value in copied.items() if value},
        **({"address": request.address} if request.address else {}),
    }


def _event_of(Event, EventText, request, data):
    """Return the event and its texts, not saved; everything that may name a person is a text."""
    facts, texts = {}, []
    for name, value in data.items():
        if name in FACTS or value is None or isinstance(value, bool | int):
            facts[name] = value
        else:
            texts.append(EventText(name=name, salt=secrets.token_bytes(16), text=_canonical(value)))
    event = Event(
        format=2,
        at=timezone.now(),
        kind="request.recorded",
        writer="system",
        model_id=request.model_id,
        request_id=request.pk,
        facts=facts,
        digests={text.name: hashlib.sha256(text.salt + text.text.encode()).hexdigest() for text in texts},
    )
    content = {
        "format": 2,
        "at": event.at.astimezone(UTC).isoformat(timespec="microseconds"),
        "kind": event.kind,
        "actor": None,
        "writer": event.writer,
        "model": event.model_id,
        "request": event.request_id,
        "grant": None,
        "data": facts,
        "texts": event.digests,
    }
    event.digest = hashlib.sha256(_canonical(content).encode()).hexdigest()
    return event, texts


def _canonical(value):
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


class Migration(migrations.Migration):
    atomic = False  # each batch commits

    dependencies = [("access_requests", "0029_submissions")]

    operations = [
        migrations.RunPython(fill, migrations.RunPython.noop),
        ValidateConstraint(model_name="accessrequest", name="request_claimed_has_date"),
        ValidateConstraint(model_name="accessrequest", name="request_held_is_open_with_reason"),
        AddIndex(
            "accessrequest",
            models.Index(
                fields=["assignee"],
                condition=models.Q(("assignee__isnull", False)),
                name="request_of_assignee",
            ),
        ),
        AddIndex(
            "accessrequest",
            models.Index(
                fields=["predecessor"],
                condition=models.Q(("predecessor__isnull", False)),
                name="request_of_predecessor",
            ),
        ),
    ]
