"""Asking for a recent sign-in before something that a stolen session must not do."""

from __future__ import annotations

from allauth.account.decorators import reauthentication_required
from django.http import HttpRequest


@reauthentication_required  # type: ignore[untyped-decorator]
def need_recent_sign_in(request: HttpRequest) -> None:
    """Check that the person signed in, or confirmed that it is them, a few minutes ago.

    Otherwise allauth's middleware keeps what was sent, asks the person to confirm, and runs the same POST again: call
    this after the form was checked and before anything is done. The account adapter says what counts as recent.
    """
