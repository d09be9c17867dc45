"""Decide whether a sign-in is recent.

Changes to how an account is protected (email, password, second factors) need an explicit confirmation. For
tokens, machines and trusted repositories a full sign-in is enough, so that nobody signs in and is asked again
straight away.
"""

from __future__ import annotations

import time

from allauth.account import app_settings
from allauth.account.authentication import AUTHENTICATION_METHODS_SESSION_KEY, get_authentication_records
from allauth.usersessions.models import UserSession
from django.contrib.auth import update_session_auth_hash
from django.http import HttpRequest

from access_requests.addresses import whole_network
from portal.accounts.models import User

ACCOUNT_APPS = {"allauth.account", "allauth.mfa"}


def signed_in_recently(request: HttpRequest, *, app: str = "") -> bool:
    """Return whether the person proved who they are within ACCOUNT_REAUTHENTICATION_TIMEOUT seconds.

    Only proofs from the network of this request count: a copied cookie gains nothing from its owner's
    sign-in. `app` is what allauth passes: for its own account pages only an explicit confirmation counts.
    """
    if not request.user.is_authenticated:
        return False
    records = get_authentication_records(request, request.user)
    if app in ACCOUNT_APPS:
        records = [record for record in records if record.get("reauthenticated")]
    here = _client_network(request)
    newest = max((record["at"] for record in records if record.get("from", here) == here), default=0.0)
    return bool(time.time() - newest < app_settings.REAUTHENTICATION_TIMEOUT)


def remember_where(request: HttpRequest) -> None:
    """Add to the session's newest proof the network that it came from, if known."""
    records, here = request.session.get(AUTHENTICATION_METHODS_SESSION_KEY), _client_network(request)
    if records and here:
        records[-1]["from"] = here
        request.session.modified = True


def renew_session(request: HttpRequest, user: User) -> None:
    """Keep this session, under a new key, through a change that ends all of the person's sessions."""
    old = request.session.session_key
    update_session_auth_hash(request, user)
    UserSession.objects.filter(session_key=old).update(session_key=request.session.session_key)


def _client_network(request: HttpRequest) -> str:
    return whole_network(getattr(request, "client_address", None) or "")
