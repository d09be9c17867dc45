"""Require a recent sign-in for actions that a stolen session must not allow."""

from __future__ import annotations

from allauth.account.decorators import reauthentication_required
from django.http import HttpRequest


@reauthentication_required  # type: ignore[untyped-decorator]
def need_recent_sign_in(request: HttpRequest) -> None:
    """Check that the person signed in, or confirmed that it is them, a few minutes ago.

    Otherwise allauth's middleware stores the POST, asks the person to confirm, and then runs it again. So
    call this after the form was checked and before anything is done. The account adapter says what counts as
    recent.
    """
