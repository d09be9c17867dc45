"""The remote's panel on a request's page: who asked there, what the remote says, and what is reported to it."""

from __future__ import annotations

from typing import Any

from allauth.account.models import EmailAddress
from django.db.models import QuerySet
from django.http import HttpRequest
from django.template.loader import render_to_string
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _

from access_requests.access.permissions import models_with_role
from access_requests.admin.following import sides_of
from access_requests.models import AccessRequest, RemotePerson, RemoteRequest
from access_requests.services.following.drift import LONGEST_REASON, with_standing


def far_side(request: AccessRequest, http_request: HttpRequest) -> str:
    """Return the panel of an imported request; for others, a hint at imported people with that address."""
    remote = (
        with_standing(RemoteRequest.objects.filter(request=request)).select_related("followed__model").first()
    )
    if remote is None:
        return same_address(request, http_request)
    context = {
        **sides_of(remote),
        "person": remote.person,
        "answers": [(label, shown(value)) for label, value in remote.other_answers.items()],
        "holders": holders(remote.person),
        "longest": LONGEST_REASON,
    }
    return render_to_string("admin/access_requests/remoterequest/panel.html", context, request=http_request)


def shown(value: Any) -> str:
    """Return an answer as text."""
    if isinstance(value, bool):
        return _("yes") if value else _("no")
    return "\n".join(map(str, value)) if isinstance(value, list) else str(value)


def holders(person: RemotePerson) -> QuerySet[EmailAddress]:
    """Return confirmed addresses here that match the remote's: a hint, not proof of the same person."""
    known: QuerySet[EmailAddress] = EmailAddress.objects.all()
    if not person.email:
        return known.none()
    return known.filter(email__iexact=person.email, verified=True).select_related("user")


def same_address(request: AccessRequest, http_request: HttpRequest) -> SafeString | str:
    own = EmailAddress.objects.filter(user=request.applicant, verified=True).values_list("email", flat=True)
    people = RemotePerson.objects.filter(
        email__in=[address.lower() for address in own],
        remote_requests__followed__model__in=models_with_role(http_request.user),
    )
    found = people.select_related("user").distinct()
    if not found:
        return ""
    context = {"people": found}
    return render_to_string("admin/access_requests/remoterequest/hint.html", context, request=http_request)
