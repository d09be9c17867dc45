"""The download page of somebody with a grant: until when, how far the weights are, tokens and commands.

A secret is in exactly one answer: that to the POST which made it. The answer is not stored by the browser, and
asking again makes the service say that it was shown.
"""

from __future__ import annotations

from datetime import UTC, datetime, time
from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_POST, require_safe

from access_requests.errors import RuleError
from access_requests.models import AccessToken, GatedModel, Grant
from access_requests.panels import ACCESS_PANELS, show_panels
from access_requests.queries import access_of, live_grant
from access_requests.services.tokens import Issued, issue_token, revoke_token, show_first_token
from access_requests.views.common import known_model
from portal.pages.card import card_body, chat_format
from portal.pages.commands import commands


class TokenForm(forms.Form):
    """A further token: a name, and a last day if it should end before the grant does."""

    name = forms.CharField(max_length=100, help_text="Where it will be used, such as “cluster” or “laptop”.")
    expires = forms.DateField(
        required=False,
        label="Last day",
        help_text="Empty: it ends with your access.",
        widget=forms.DateInput(attrs={"type": "date"}, format="%Y-%m-%d"),
    )

    def expires_at(self) -> datetime | None:
        """The end of the last day, UTC."""
        day = self.cleaned_data["expires"]
        return datetime.combine(day, time.max, tzinfo=UTC) if day else None


@login_required
@never_cache
@require_safe
def access_page(request: HttpRequest, namespace: str, name: str) -> HttpResponse:
    """For somebody with a grant; everybody else reads why not and where to go."""
    return _page(request, known_model(request, namespace, name))


@login_required
@never_cache
def show_token(request: HttpRequest, namespace: str, name: str) -> HttpResponse:
    """The one token that approval entitles to."""
    model = known_model(request, namespace, name)
    grant = live_grant(request.user, model)
    if grant is None or request.method != "POST":  # the address typed, or the grant ended meanwhile
        return redirect("access_page", model.namespace, model.name)
    try:
        issued = show_first_token(grant=grant, user=request.user)
    except RuleError as error:
        return _page(request, model, problem=error)
    return _secret(request, model, issued)


@login_required
@never_cache
def make_token(request: HttpRequest, namespace: str, name: str) -> HttpResponse:
    """One more token, named."""
    model = known_model(request, namespace, name)
    grant = live_grant(request.user, model)
    if grant is None or request.method != "POST":
        return redirect("access_page", model.namespace, model.name)
    form = TokenForm(request.POST)
    if not form.is_valid():
        return _page(request, model, form=form, status=422)
    try:
        issued = issue_token(
            grant=grant, user=request.user, name=form.cleaned_data["name"], expires_at=form.expires_at()
        )
    except RuleError as error:
        field = {"expires_at": "expires"}.get(error.field, error.field)
        form.add_error(field if field in form.fields else None, error.sentence)
        return _page(request, model, form=form, status=error.status)
    return _secret(request, model, issued)


@login_required
@require_POST
def revoke(request: HttpRequest, namespace: str, name: str, pk: int) -> HttpResponse:
    """Ends one token; the grant and its other tokens stay."""
    model = known_model(request, namespace, name)
    token = AccessToken.objects.filter(pk=pk, user=request.user, grant__model=model).first()
    if token is None:
        raise Http404(f"You have no token {pk} for {model}.")
    revoke_token(token=token, user=request.user)
    messages.success(request, f"The token “{token.name}” is revoked: nothing can be read with it any more.")
    return redirect("access_page", model.namespace, model.name)


def _secret(request: HttpRequest, model: GatedModel, issued: Issued) -> HttpResponse:
    context = {"model": model, "issued": issued, "commands": commands(model, secret=issued.secret)}
    return render(request, "portal/token.html", context)


def _page(
    request: HttpRequest,
    model: GatedModel,
    *,
    form: TokenForm | None = None,
    problem: RuleError | None = None,
    status: int = 200,
) -> HttpResponse:
    access = access_of(request.user, model)
    context: dict[str, Any] = {
        "model": model,
        "access": access,
        "panels": show_panels(ACCESS_PANELS, model, request),
        "commands": commands(model),
        "chat_format": chat_format(card_body(model)),
    }
    if not access.allowed or (model.is_gated and access.grant is None):
        return render(request, "portal/no_access.html", context, status=200 if access.allowed else 403)
    context |= {
        "grant": access.grant,
        "tokens": _tokens(access.grant),
        "form": form or TokenForm(),
        "problem": problem.sentence if problem else "",
    }
    return render(request, "portal/access.html", context, status=problem.status if problem else status)


def _tokens(grant: Grant | None) -> list[AccessToken]:
    """Those that still work first; ended ones stay in sight."""
    if grant is None:
        return []
    now = timezone.now()
    tokens = list(grant.tokens.all())
    for token in tokens:
        token.usable = token.revoked_at is None and (token.expires_at is None or token.expires_at > now)
    return sorted(tokens, key=lambda token: not token.usable)
