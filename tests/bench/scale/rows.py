"""The rows that belong to requests: decisions, grants, deliveries, tokens, emails, downloads."""

from __future__ import annotations

import hashlib
import random
from bisect import bisect
from collections.abc import Iterator
from typing import Any

import psycopg

from access_requests.models import (
    AccessRequest,
    AccessToken,
    Decision,
    Grant,
    LicenceAcceptance,
    OutgoingMail,
)
from model_ops.models import Delivery, Download
from tests.bench.scale.clock import DAY, maybe, moment
from tests.bench.scale.copying import copy_rows, next_id
from tests.bench.scale.models import Catalogue, commit_of, repo_id_of
from tests.bench.scale.people import address_of
from tests.bench.scale.plan import (
    APPEALED,
    APPROVED,
    CHANGES,
    CLOSED,
    DECIDED,
    DRAFT,
    ENDED,
    LIVE,
    REJECTED,
    RESET,
    REVOKED,
    STATES,
    Plan,
    has_licence,
    is_auto,
    is_published,
)
from tests.bench.scale.words import WORDS, country_of, institution_of, name_of, use_of

OUTCOMES = {
    APPROVED: "approved",
    REJECTED: "rejected",
    CHANGES: "changes_requested",
    RESET: "reset",
    APPEALED: "rejected",
}
WAITING_MAILS = 25
FILES = (
    ("config.json", 24),
    ("tokenizer.json", 9500),
    ("model.safetensors", 64 * 2**20),
    ("README.md", 2400),
)
TEXT = """Hello {},

Your request #{} for {} is {}.

Get your token and the download commands, and see whether the weights are ready:

{}/{}/access

If the weights have to be made first, you get another email when they are ready.

Gatehouse at {}
"""


def copy_requests(
    owner: psycopg.Connection[Any], plan: Plan, catalogue: Catalogue, first_user: int, first: int
) -> int:
    """Write the requests with their answers."""
    names = (
        "id", "model_id", "applicant_id", "state", "form_id", "answers", "first_name", "last_name", "institution", "country",
        "intended_use", "address", "created_at", "updated_at", "submitted_at", "closed_at", "appeal", "appealed_at",
    )  # fmt: skip
    return copy_rows(owner, AccessRequest, names, _requests(plan, catalogue, first_user, first))


def _requests(plan: Plan, catalogue: Catalogue, first_user: int, first: int) -> Iterator[tuple[Any, ...]]:
    for number, state in enumerate(plan.state):
        person, model, at, decided = (
            plan.person[number],
            plan.model[number],
            plan.submitted[number],
            plan.decided[number],
        )
        name, last = name_of(person)
        institution, country, use = institution_of(person), country_of(person), use_of(number)
        answers = f'{{"f1": "{name}", "f2": "{last}", "f3": "{institution}", "f4": "{country}", "f5": "{use}", "f6": [], "f7": true}}'
        appealed = decided + 600 if state == APPEALED else 0
        yield (
            first + number, catalogue.models[model], first_user + person, STATES[state], catalogue.forms[model], answers, name, last,
            institution, country, use, f"198.51.100.{person % 250}", moment(at - 900), moment(max(at, decided, appealed)),
            None if state == DRAFT else moment(at), moment(decided) if state in CLOSED else None,
            "We have described the data now." if appealed else "", maybe(appealed),
        )  # fmt: skip


def copy_acceptances(
    owner: psycopg.Connection[Any], plan: Plan, catalogue: Catalogue, first_user: int, first: int
) -> int:
    """Write a licence acceptance for each submitted request to a model with a licence."""
    rows = (
        (
            first + n,
            first_user + plan.person[n],
            catalogue.licences[plan.model[n]],
            "en",
            catalogue.sha256,
            moment(plan.submitted[n]),
        )
        for n, state in enumerate(plan.state)
        if state != DRAFT and has_licence(plan.model[n])
    )
    begin = next_id(owner, LicenceAcceptance)
    names = ("id", "request_id", "user_id", "licence_id", "language", "sha256", "accepted_at")
    return copy_rows(owner, LicenceAcceptance, names, ((begin + n, *row) for n, row in enumerate(rows)))


def copy_decisions(owner: psycopg.Connection[Any], plan: Plan, first_user: int, first: int) -> int:
    """Write the decision on each decided request."""
    rows = (
        (
            first + n, None if is_auto(plan.model[n]) else first_user + plan.reviewer[n], OUTCOMES[state],
            "use_unclear" if state in (REJECTED, APPEALED) else "",
            WORDS[n % len(WORDS)] if state in (REJECTED, CHANGES, APPEALED) else "", moment(plan.decided[n]),
        )
        for n, state in enumerate(plan.state)
        if state in DECIDED
    )  # fmt: skip
    begin = next_id(owner, Decision)
    names = ("id", "request_id", "reviewer_id", "outcome", "reason_code", "words", "decided_at")
    return copy_rows(owner, Decision, names, ((begin + n, *row) for n, row in enumerate(rows)))


def copy_grants(
    owner: psycopg.Connection[Any],
    plan: Plan,
    catalogue: Catalogue,
    first_user: int,
    first: int,
    first_grant: int,
) -> dict[str, int]:
    """Write the grants, what they wait for, and tokens for three in five of them."""
    names = (
        "id", "model_id", "user_id", "request_id", "source", "granted_by_id", "starts_at", "ends_at", "revoked_at", "revoked_by_id",
        "revoke_reason", "closed_at", "first_token_at",
    )  # fmt: skip
    grants = copy_rows(owner, Grant, names, _grants(plan, catalogue, first_user, first, first_grant))
    begin = next_id(owner, Delivery)
    deliveries = copy_rows(
        owner, Delivery, ("id", "grant_id", "state", "created_at", "told_at"),
        (
            (begin + n, first_grant + n, "ready" if ready else "waiting", moment(at), moment(at + 5) if ready else None)
            for n, at, ready in _deliveries(plan)
        ),
    )  # fmt: skip
    tokens = copy_rows(
        owner, AccessToken,
        ("id", "grant_id", "user_id", "name", "digest", "hint", "created_at", "expires_at", "revoked_at", "last_used_at",
         "last_used_address", "last_used_client"),
        _tokens(plan, first_user, first_grant, next_id(owner, AccessToken)),
    )  # fmt: skip
    return {"grants": grants, "deliveries": deliveries, "tokens": tokens}


def _grants(
    plan: Plan, catalogue: Catalogue, first_user: int, first: int, first_grant: int
) -> Iterator[tuple[Any, ...]]:
    for grant, n in enumerate(plan.granted):
        auto, fate, reviewer = is_auto(plan.model[n]), plan.fate[grant], first_user + plan.reviewer[n]
        revoked, start = fate == REVOKED, plan.decided[n]
        yield (
            first_grant + grant, catalogue.models[plan.model[n]], first_user + plan.person[n], first + n,
            "policy" if auto else "review", None if auto else reviewer, moment(start), moment(plan.ends[grant]),
            moment(plan.closed[grant]) if revoked else None, reviewer if revoked else None,
            "The project ended." if revoked else "", maybe(plan.closed[grant]), moment(start + 60) if has_token(grant) else None,
        )  # fmt: skip


def has_token(grant: int) -> bool:
    """Return whether the grant with this number, counted from 0, has a token."""
    return grant % 5 < 3


def _deliveries(plan: Plan) -> Iterator[tuple[int, int, bool]]:
    """Yield the number, start and state of each delivery.

    Live grants of models without weights are waiting.
    """
    for grant, n in enumerate(plan.granted):
        yield grant, plan.decided[n], is_published(plan.model[n]) or plan.fate[grant] != LIVE


def _tokens(plan: Plan, first_user: int, first_grant: int, begin: int) -> Iterator[tuple[Any, ...]]:
    count = 0
    for grant, n in enumerate(plan.granted):
        if not has_token(grant):
            continue
        start, ends, closed = plan.decided[n] + 60, plan.ends[grant], plan.closed[grant]
        digest = hashlib.sha256(f"token {grant}".encode()).hexdigest()
        used = min(start + grant % 90 * DAY, (closed or plan.now) - 1)
        yield (
            begin + count, first_grant + grant, first_user + plan.person[n], "token", digest, f"gth_{digest[:4]}…{digest[-4:]}",
            moment(start), moment(ends), moment(closed) if plan.fate[grant] not in (LIVE, ENDED) else None,
            moment(max(used, start)), f"203.0.113.{grant % 250}", "huggingface_hub/1.2.0",
        )  # fmt: skip
        count += 1


def copy_mails(owner: psycopg.Connection[Any], plan: Plan, first: int, url: str) -> int:
    """Write an email for each submitted request, sent long ago, and a few that are due tomorrow."""
    names = (
        "id",
        "key",
        "to",
        "subject",
        "text",
        "state",
        "attempts",
        "last_error",
        "created_at",
        "next_try_at",
        "sent_at",
    )
    return copy_rows(owner, OutgoingMail, names, _mails(plan, first, next_id(owner, OutgoingMail), url))


def _mails(plan: Plan, first: int, begin: int, url: str) -> Iterator[tuple[Any, ...]]:
    numbers = [number for number, state in enumerate(plan.state) if state != DRAFT]
    for count, number in enumerate(numbers):
        waits = count >= len(numbers) - WAITING_MAILS
        at = plan.decided[number] or plan.submitted[number]
        what, model = STATES[plan.state[number]].replace("_", " "), repo_id_of(plan.model[number])
        text = TEXT.format(name_of(plan.person[number])[0], first + number, model, what, url, model, url)
        yield (
            begin + count, f"bench:{first + number}", address_of(plan.person[number]), f"Your request for {model} is {what}", text,
            "waiting" if waits else "sent", 5 if waits else 1, "TimeoutError: timed out" if waits else "", moment(at),
            moment(plan.now + DAY) if waits else moment(at), None if waits else moment(at + 4),
        )  # fmt: skip


def copy_downloads(
    owner: psycopg.Connection[Any], plan: Plan, catalogue: Catalogue, first_user: int, first_grant: int
) -> int:
    """Write the download log in chronological order; popular models are downloaded more."""
    names = (
        "id", "request_id", "mode", "state", "model_id", "grant_id", "user_id", "commit", "path", "bytes_asked", "bytes_sent", "status",
        "seconds", "address", "client", "started_at",
    )  # fmt: skip
    return copy_rows(
        owner, Download, names, _downloads(plan, catalogue, first_user, first_grant, next_id(owner, Download))
    )


def _downloads(
    plan: Plan, catalogue: Catalogue, first_user: int, first_grant: int, begin: int
) -> Iterator[tuple[Any, ...]]:
    """Yield downloads, each through a grant of the previous year that had already begun."""
    chance = random.Random(4)
    starts = sorted((plan.decided[n], grant) for grant, n in enumerate(plan.granted))
    if not starts:
        return
    begins = [start for start, _ in starts]
    first, span, total = starts[0][0], plan.now - 60 - starts[0][0], plan.sizes.downloads
    commits = [commit_of(model) for model in range(plan.sizes.models)]
    low = 0
    for number in range(total):
        at = first + 1 + span * number // total
        high = bisect(begins, at)
        while low < high - 1 and begins[low] < at - 365 * DAY:
            low += 1
        grant = starts[low + int((high - low) * chance.random())][1]
        n = plan.granted[grant]
        path, size = FILES[number % len(FILES)]
        ended = number % 40 == 3
        yield (
            begin + number, f"{number:032x}", "own", "partial" if ended else "complete", catalogue.models[plan.model[n]],
            first_grant + grant, first_user + plan.person[n], commits[plan.model[n]], path, size, size // 3 if ended else size,
            200, 0.01 + size / 1e8, f"203.0.113.{number % 250}", "huggingface_hub/1.2.0; python/3.12", moment(at),
        )  # fmt: skip
