"""Exchange the identity of a CI job, signed by its CI service, for a short-lived token (RFC 8693)."""

from __future__ import annotations

import hashlib
from datetime import timedelta
from typing import Any

import jwt
from django.conf import settings
from django.db import IntegrityError, transaction
from django.utils import timezone

from access_requests.access.access import live_grant
from access_requests.access.catalogue import find_model
from access_requests.enums import TokenKind, TokenOrigin
from access_requests.errors import RuleError
from access_requests.models import GatedModel, Grant, TokenExchange, TrustedRepository
from access_requests.services import tokens
from access_requests.services.event_log.append import append_event, recorded
from access_requests.services.oauth import limits
from access_requests.services.oauth.errors import OAuthError
from access_requests.services.oauth.issuers import NEEDED, Job, check_claims, dialect_of, read_job
from access_requests.services.oauth.keys import key_of
from access_requests.services.tokens.issuing import usable_grant, write_token

TOKEN_LIFE = timedelta(minutes=60)
ALGORITHMS = ("RS256", "ES256")  # never "none", never a shared secret
LEEWAY = 30  # seconds by which clocks may differ
LONGEST_IDENTITY = 16_384  # characters
LONGEST_LIFE = timedelta(hours=24)


def exchange_identity(*, identity: str, resource: str, address: str | None) -> tokens.Issued:
    """Return a 60-minute token for a job of a trusted repository; `resource` names the person or the model.

    Raises `OAuthError`. Each attempt counts against its address before anything is looked up; a successful one is given back.
    """
    limits.spend(limits.FAILED_EXCHANGES_OF_ADDRESS, address)
    claims = verified_claims(identity)
    try:
        job = read_job(claims)
    except RuleError as error:
        raise OAuthError("invalid_grant", error.sentence) from error
    issued = _issue_token(claims, job, resource=resource, address=address)
    limits.give_back(limits.FAILED_EXCHANGES_OF_ADDRESS, address)
    return issued


def verified_claims(identity: str) -> dict[str, Any]:
    """Return the claims of an identity that a known issuer signed for this portal and that is valid now."""
    issuer, kid, algorithm = _read_unverified(identity)
    key = key_of(issuer, kid=kid, algorithm=algorithm)
    try:
        claims: dict[str, Any] = jwt.decode(
            identity,
            key,
            algorithms=[algorithm],
            issuer=issuer,
            audience=settings.GATEHOUSE_URL,
            leeway=LEEWAY,
            options={"require": list(NEEDED), "strict_aud": True},
        )
    except jwt.InvalidAudienceError as error:
        raise _identity_error(
            f"is for another audience: ask your CI service for {settings.GATEHOUSE_URL}"
        ) from error
    except jwt.ExpiredSignatureError as error:
        raise _identity_error("has ended: ask your CI service for a new one") from error
    except (jwt.PyJWTError, ValueError, TypeError, OverflowError, RecursionError) as error:
        raise _identity_error(f"is not valid ({error})") from error
    try:
        check_claims(claims)
    except RuleError as error:
        raise OAuthError("invalid_grant", error.sentence) from error
    if claims["exp"] - claims["iat"] > LONGEST_LIFE.total_seconds():
        raise _identity_error("lives for more than a day")
    return claims


def _identity_error(why: str) -> OAuthError:
    return OAuthError("invalid_grant", f"The CI job's identity {why}.")


def _read_unverified(identity: str) -> tuple[str, str, str]:
    """Return issuer, key id and algorithm as the token claims them: good only for finding the key."""
    if len(identity) > LONGEST_IDENTITY:
        raise _identity_error("is too long")
    try:
        header = jwt.get_unverified_header(identity)
        claims = jwt.decode(identity, options={"verify_signature": False})
    except (jwt.PyJWTError, ValueError, TypeError, RecursionError) as error:
        raise _identity_error("is not a JSON web token") from error
    issuer, kid, algorithm = claims.get("iss"), header.get("kid"), header.get("alg")
    if not isinstance(issuer, str) or dialect_of(issuer) is None:
        raise _identity_error(f"comes from {str(issuer)[:200]}, which this portal does not trust")
    if algorithm not in ALGORITHMS:
        raise _identity_error(
            f"is signed with {str(algorithm)[:40]}: only {' and '.join(ALGORITHMS)} are taken"
        )
    if not isinstance(kid, str) or "crit" in header or "b64" in header:
        raise _identity_error("has a header that is not understood")
    return issuer, kid, str(algorithm)


def _issue_token(claims: dict[str, Any], job: Job, *, resource: str, address: str | None) -> tokens.Issued:
    issuer = claims["iss"]
    with recorded():
        trusted, model = _trusted_for(issuer, job, resource)
        issued = _new_token(trusted, model, job)
        digest = hashlib.sha256(f"{issuer}\n{claims['jti']}".encode()).hexdigest()
        try:
            with transaction.atomic():
                exchange = TokenExchange.objects.create(
                    trusted=trusted, token=issued.token, identity=digest, address=address, claims=job.shown
                )
        except IntegrityError as error:
            raise _identity_error(
                "was exchanged before: do it once in a job and keep the token, "
                "export HF_TOKEN=$(HF_OIDC_RESOURCE=... hf auth token)"
            ) from error
        TrustedRepository.objects.filter(pk=trusted.pk).update(
            last_used_at=timezone.now(), repository_id=job.repository_id
        )
        append_event(
            kind="trusted.exchanged",
            actor=trusted.user,
            model=model,
            grant=issued.token.grant,
            data={"trusted": trusted.pk, "exchange": exchange.pk, "token": issued.token.pk, **job.shown},
        )
    return issued


def _trusted_for(issuer: str, job: Job, resource: str) -> tuple[TrustedRepository, GatedModel | None]:
    """Return the trust that covers this job and resource, and the model to which the token is limited."""
    found = TrustedRepository.objects.select_for_update(no_key=True, of=("self",)).filter(
        issuer=issuer, repository__iexact=job.repository, removed_at=None, user__is_active=True
    )
    rows = [
        row
        for row in found.select_related("user", "model").order_by("pk")
        if row.ref in {"", job.ref}
        and row.environment in {"", job.environment}
        and row.workflow in {"", job.workflow}
    ]
    name = resource.removeprefix("models/")
    model = find_model(name) if "/" in name else None
    if "/" not in name:
        rows = [row for row in rows if row.user.username.lower() == name.lower()]
    elif model is None:
        rows = []
    else:  # the trust must cover this model, and its person must be able to read it
        rows = [row for row in rows if row.model_id in {None, model.pk} and live_grant(row.user, model)]
    if not rows:
        raise OAuthError("invalid_target", _why_not_trusted(job, resource))
    # The first exchange fixes the repository's number: a later one with the same name is different.
    rows = [row for row in rows if row.repository_id in {"", job.repository_id}]
    if not rows:
        raise OAuthError(
            "invalid_target",
            f"{job.repository} is another repository than the one that was trusted under this name: "
            f"remove it and trust it again at {settings.GATEHOUSE_URL}/me/trusted",
        )
    if model is None:
        rows = [row for row in rows if row.model_id is None] or rows
    if len({row.user_id for row in rows}) > 1:
        raise OAuthError(
            "invalid_target", "Several people trust this repository: set HF_OIDC_RESOURCE to one user name."
        )
    if model is None and len({row.model_id for row in rows}) > 1:
        raise OAuthError(
            "invalid_target",
            "This repository is trusted for several models: set HF_OIDC_RESOURCE to NAMESPACE/NAME.",
        )
    return rows[0], model or rows[0].model


def _why_not_trusted(job: Job, resource: str) -> str:
    facts = [("repository", job.repository), ("ref", job.ref), ("environment", job.environment)]
    facts.append(("workflow", job.workflow))
    told = ", ".join(f"{name} {value}" for name, value in facts if value)
    return (
        f"Nobody trusts this job for {resource[:100]!r} ({told}): "
        f"the person whose access it uses adds it at {settings.GATEHOUSE_URL}/me/trusted"
    )


def _new_token(trusted: TrustedRepository, model: GatedModel | None, job: Job) -> tokens.Issued:
    """Make a token: for one model a token of the grant, which expires with it, else one of the person."""
    expires_at, name = timezone.now() + TOKEN_LIFE, f"CI of {job.repository}"[:100]
    if model is None:
        return tokens.issue_person_token(
            user=trusted.user, kind=TokenKind.USER, name=name, expires_at=expires_at, origin=TokenOrigin.OIDC
        )
    grant: Grant | None = live_grant(trusted.user, model)
    if grant is None:
        raise OAuthError(
            "invalid_target", f"{trusted.user.username} has no access to {model} now: see {model.address()}"
        )
    return write_token(
        actor=trusted.user,
        user=trusted.user,
        grant=usable_grant(grant, trusted.user),
        name=name,
        expires_at=expires_at,
        origin=TokenOrigin.OIDC,
    )
