"""The seeder's orders for tokens and licences."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from django.utils import timezone

from access_requests.enums import TokenKind
from access_requests.models import AccessToken, GatedModel, Grant, OutgoingMail
from access_requests.services import tokens
from access_requests.services.catalogue.demand_licence import accept_licences
from access_requests.services.catalogue.edit import add_licence
from access_requests.services.catalogue.gated_models import LicenceText
from portal.accounts.models import User


def token(
    name: str,
    kind: str = "user",
    repo_id: str = "",
    networks: list[str] | None = None,
    ended: bool = False,
    called: str = "made to order",
) -> dict[str, Any]:
    """Issue a token for a person, or for their grant of `repo_id`; with `ended` it has already expired."""
    user = User.objects.get(username=name)
    wishes: dict[str, Any] = {"user": user, "name": called, "networks": networks or ()}
    if repo_id:
        issued = tokens.issue_token(grant=Grant.objects.get(user=user, model__repo_id=repo_id), **wishes)
    else:
        issued = tokens.issue_person_token(kind=TokenKind(kind), **wishes)
    if ended:
        AccessToken.objects.filter(pk=issued.token.pk).update(expires_at=timezone.now() - timedelta(hours=1))
    return {"token": issued.secret, "pk": issued.token.pk}


def last_use(pk: int) -> dict[str, Any]:
    found = AccessToken.objects.get(pk=pk)
    return {"address": found.last_used_address, "client": found.last_used_client}


def demand(repo_id: str, text: str) -> dict[str, Any]:
    """Add a licence text that every holder must accept."""
    model = GatedModel.objects.get(repo_id=repo_id)
    added = add_licence(model=model, licence=LicenceText("tiny_license.txt", "en", text), must_accept=True)
    return {"licence": added.licence.pk, "asked": added.asked}


def accept(name: str, repo_id: str, licence: int) -> dict[str, Any]:
    model, user = GatedModel.objects.get(repo_id=repo_id), User.objects.get(username=name)
    return {"accepted": len(accept_licences(model=model, user=user, shown=[licence]))}


def mails_to(address: str) -> list[str]:
    return list(OutgoingMail.objects.filter(to=address).values_list("subject", flat=True))


TOKEN_ORDERS = {order.__name__: order for order in (token, last_use, demand, accept, mails_to)}
