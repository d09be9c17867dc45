"""Create what the lives need and report what became of them, in a process with the portal's environment.

python -m tests.chaos.lives_seed seed|report, with JSON on standard input; the answer is one line of JSON.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

import django

django.setup()

from django.conf import settings  # noqa: E402
from django.test import Client  # noqa: E402

from access_requests.enums import MailState  # noqa: E402
from access_requests.models import AccessRequest, Decision, Event, Grant, OutgoingMail  # noqa: E402
from access_requests.services.event_log.append import verify_chain  # noqa: E402
from model_ops import tasks  # noqa: E402
from model_ops.enums import DeliveryState, RecoveryState  # noqa: E402
from model_ops.models import Blob, Delivery, Recovery, Revision  # noqa: E402
from model_ops.services.catalogue.add_model import add_model_with_weights  # noqa: E402
from model_ops.services.recoveries.weights import prepare_weights  # noqa: E402
from model_ops.services.store.blobs import blob_path  # noqa: E402
from portal.accounts.models import User  # noqa: E402
from tests.sign_in import sign_in  # noqa: E402

CARD = "---\nlicense: other\nextra_gated_fields:\n  Why: text\n---\n# Lives\n"


def seed(pairs: list[str], people: int) -> dict[str, Any]:
    """Add a model for each pair, and return the sessions of this many people and of a reviewer."""
    models = []
    for number, pair in enumerate(pairs):
        prepared = prepare_weights(base=f"{pair}/base", diff=f"{pair}/diff", options={"dtype": "bfloat16"})
        models.append(
            add_model_with_weights(repo_id=f"lives/model-{number}", prepared=prepared, card=CARD)[0]
        )
    boss = User.objects.create_user("boss@lives.example", "boss", password="x", is_superuser=True)
    users = [User.objects.create_user(f"p{n}@lives.example", f"p{n}", password="x") for n in range(people)]
    return {
        "models": [model.repo_id for model in models],
        "reviewer": session_of(boss),
        "people": [session_of(user) for user in users],
    }


def session_of(user: User) -> str:
    client = sign_in(Client(), user, confirmed=True)
    return str(client.cookies[settings.SESSION_COOKIE_NAME].value)


def report() -> dict[str, Any]:
    """Count everything."""
    chain = verify_chain()
    blobs = {path for pk in Blob.objects.values_list("pk", flat=True) if (path := blob_path(pk))}
    return {
        "chain": chain.ok,
        "requests": counted(AccessRequest.objects.values_list("state", flat=True)),
        "requests each": counted(AccessRequest.objects.values_list("applicant__username", flat=True)),
        "decisions each": counted(Decision.objects.values_list("request__applicant__username", flat=True)),
        "grants each": counted(Grant.objects.values_list("user__username", flat=True)),
        "events": counted(Event.objects.values_list("kind", flat=True)),
        "deliveries": counted(Delivery.objects.values_list("state", flat=True)),
        "recoveries": counted(Recovery.objects.values_list("state", flat=True)),
        "weight revisions": Revision.objects.filter(has_weights=True).count(),
        "emails": counted(OutgoingMail.objects.values_list("state", flat=True)),
        "emails sent": OutgoingMail.objects.filter(state=MailState.SENT).count(),
        "blobs": sorted(str(path) for path in blobs),
        "settled": not OutgoingMail.objects.filter(state=MailState.WAITING).exists()
        and not Delivery.objects.exclude(state=DeliveryState.READY).exists()
        and Delivery.objects.count() == Grant.objects.count()
        and not Recovery.objects.exclude(state=RecoveryState.READY).exists(),
    }


def clean() -> dict[str, Any]:
    """Clean up as the portal does every hour and when a recovery worker starts."""
    tasks.clean_uploads.run()
    return {}


def counted(values: Any) -> dict[str, int]:
    return {str(value): number for value, number in sorted(Counter(values).items())}


ORDERS: dict[str, Callable[..., dict[str, Any]]] = {one.__name__: one for one in (seed, report, clean)}

if __name__ == "__main__":
    sys.stdout.write(json.dumps(ORDERS[sys.argv[1]](**json.load(sys.stdin))) + "\n")
