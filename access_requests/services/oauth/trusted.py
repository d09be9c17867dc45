"""Manage repositories that a person trusts: their CI jobs may read what that person may read, or one model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.db.models import QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from access_requests.access.access import live_grant
from access_requests.errors import Conflict, Invalid, NotAllowed
from access_requests.models import AccessToken, GatedModel, TrustedRepository
from access_requests.services.emails.write import queue_mail
from access_requests.services.event_log.append import append_event, recorded
from access_requests.services.locks import lock_person
from access_requests.services.oauth.issuers import REPOSITORY, dialect_of

if TYPE_CHECKING:
    from portal.accounts.models import User

MOST_TRUSTED = 50
LONGEST = 255


def trusted_by(user: User) -> QuerySet[TrustedRepository]:
    """Return the repositories that the person trusts now."""
    return TrustedRepository.objects.filter(user=user, removed_at=None).select_related("model")


def trust_repository(
    *,
    user: User,
    issuer: str,
    repository: str,
    ref: str = "",
    environment: str = "",
    workflow: str = "",
    model: GatedModel | None = None,
) -> TrustedRepository:
    """Let jobs of that repository exchange their identity for a token of this person."""
    if dialect_of(issuer) is None:
        raise Invalid(_("This portal does not know that CI service: choose one of the list."), field="issuer")
    conditions = _read_conditions(repository, ref, environment, workflow)
    with recorded():
        if not lock_person(user.pk).is_active:
            raise NotAllowed(_("Your account is disabled."))
        if model is not None and live_grant(user, model) is None:
            raise Invalid(
                _("You have no live grant of %(model)s: choose a model that you may read.")
                % {"model": model},
                field="model",
            )
        mine = TrustedRepository.objects.filter(user=user, removed_at=None)
        if mine.filter(issuer=issuer, model=model, **conditions).exists():
            raise Conflict(
                _(
                    "You already trust this repository under these conditions: "
                    "if it was deleted and made again, remove it here first."
                ),
                field="repository",
            )
        if mine.count() >= MOST_TRUSTED:
            raise Invalid(
                _("You already trust %(most)s repositories: remove one first.") % {"most": MOST_TRUSTED}
            )
        trusted = TrustedRepository.objects.create(user=user, issuer=issuer, model=model, **conditions)
        data = {"trusted": trusted.pk, "issuer": issuer} | {k: v for k, v in conditions.items() if v}
        append_event(kind="trusted.added", actor=user, model=model, data=data)
        queue_mail(
            key=f"trusted:{trusted.pk}",
            to=user.email,
            template="mails/repository_trusted.txt",
            context={"person": user, "trusted": trusted},
        )
    return trusted


def _read_conditions(repository: str, ref: str, environment: str, workflow: str) -> dict[str, str]:
    conditions = {
        "repository": _check_text("repository", repository.strip().strip("/")),
        "ref": _check_text("ref", ref.strip()),
        "environment": _check_text("environment", environment.strip()),
        "workflow": _check_text("workflow", workflow.strip().lstrip("/")),
    }
    if not REPOSITORY.fullmatch(conditions["repository"]):
        raise Invalid(_("Write the repository as OWNER/NAME, without its address."), field="repository")
    if conditions["ref"] and not conditions["ref"].startswith("refs/"):
        raise Invalid(
            _("Write the whole name, such as refs/heads/main for a branch or refs/tags/v1 for a tag."),
            field="ref",
        )
    if workflow.strip() and not conditions["workflow"]:
        raise Invalid(
            _("Write the file's path in the repository, or leave it empty for any."), field="workflow"
        )
    return conditions


def _check_text(field: str, text: str) -> str:
    if len(text) > LONGEST or not text.isprintable():
        raise Invalid(_("Write up to %(longest)s visible characters.") % {"longest": LONGEST}, field=field)
    return text


def remove_trusted(*, trusted: TrustedRepository, user: User) -> int:
    """End the trust and its tokens; return how many still worked.

    Only its person and superusers may do this.
    """
    if trusted.user_id != user.pk and not user.is_superuser:
        raise NotAllowed(_("This is trusted by someone else."))
    with recorded():
        now = timezone.now()
        if not TrustedRepository.objects.filter(pk=trusted.pk, removed_at=None).update(removed_at=now):
            return 0
        ended = AccessToken.objects.filter(
            exchange__trusted=trusted, revoked_at=None, expires_at__gt=now
        ).update(revoked_at=now, revoke_reason="its repository is not trusted any more")
        append_event(
            kind="trusted.removed",
            actor=user,
            model=trusted.model,
            data={"trusted": trusted.pk, "repository": trusted.repository, "tokens": ended},
        )
    return ended
