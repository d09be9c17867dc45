"""The download page of someone with a grant: texts to accept, progress of the weights, tokens, commands."""

from __future__ import annotations

import re
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from access_requests.access.access import access_of, live_grant
from access_requests.access.standing import owed_licences
from access_requests.enums import AccessCode
from access_requests.errors import RuleError
from access_requests.models import AccessToken, GatedModel
from access_requests.panels import ACCESS_PANELS, show_panels
from access_requests.services.catalogue.demand_licence import accept_licences
from access_requests.services.catalogue.languages import licences_for_reader
from access_requests.services.catalogue.rendered_texts import card_page_of
from access_requests.services.tokens import issue_token, show_first_token
from access_requests.services.tokens.issuing import BY_HAND
from access_requests.views.common import known_model, signed_in
from portal.pages.commands import commands
from portal.pages.tokens import TokenForm, revoke_asked, rows, show_secret

NUMBER = re.compile(r"[0-9]{1,18}")


@login_required
@never_cache
@require_safe
def access_page(request: HttpRequest, namespace: str, name: str) -> HttpResponse:
    """Show the page to someone with a grant; tell everyone else why not and where to go."""
    return _render_access(request, known_model(request, namespace, name))


@login_required
@never_cache
def show_token(request: HttpRequest, namespace: str, name: str) -> HttpResponse:
    """Show the one token that the approval includes."""
    model = known_model(request, namespace, name)
    grant = live_grant(request.user, model)
    if grant is None or request.method != "POST":  # the address typed, or the grant ended by then
        return redirect("access_page", model.namespace, model.name)
    try:
        issued = show_first_token(grant=grant, user=signed_in(request))
    except RuleError as error:
        return _render_access(request, model, problem=error)
    return show_secret(request, issued)


@login_required
@never_cache
def make_token(request: HttpRequest, namespace: str, name: str) -> HttpResponse:
    """Create another token, with a name."""
    model = known_model(request, namespace, name)
    grant = live_grant(request.user, model)
    if grant is None or request.method != "POST":
        return redirect("access_page", model.namespace, model.name)
    form = TokenForm(request.POST)
    if not form.is_valid():
        return _render_access(request, model, form=form, status=422)
    try:
        issued = issue_token(grant=grant, user=signed_in(request), **form.wishes())
    except RuleError as error:
        form.take(error)
        return _render_access(request, model, form=form, status=error.status)
    return show_secret(request, issued)


@login_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def revoke(request: HttpRequest, namespace: str, name: str, pk: int) -> HttpResponse:
    """Ask for confirmation and, on a POST, revoke one token; the grant and its other tokens stay."""
    model = known_model(request, namespace, name)
    mine = AccessToken.objects.filter(pk=pk, user=signed_in(request), grant__model=model)
    token = mine.select_related("grant__model").first()
    if token is None:
        raise Http404(f"You have no token {pk} for {model}.")
    return revoke_asked(request, token, back=reverse("access_page", args=[model.namespace, model.name]))


@login_required
@require_POST
def accept_licence(request: HttpRequest, namespace: str, name: str) -> HttpResponse:
    """Record that a grant's holder accepts the texts added since, then continue to the tokens."""
    model = known_model(request, namespace, name)
    shown = [int(text) for text in request.POST.getlist("licence") if NUMBER.fullmatch(text)]
    try:
        made = accept_licences(
            model=model, user=signed_in(request), shown=shown, agreed="agree" in request.POST
        )
    except RuleError as error:
        return _render_access(request, model, problem=error)
    if made:
        messages.success(request, _("Thank you: your agreement is stored, and downloads work again."))
    return redirect("access_page", model.namespace, model.name)


def _render_access(
    request: HttpRequest,
    model: GatedModel,
    *,
    form: TokenForm | None = None,
    problem: RuleError | None = None,
    status: int = 200,
) -> HttpResponse:
    access = access_of(request.user, model)
    status = problem.status if problem else status
    context: dict[str, Any] = {
        "model": model,
        "access": access,
        "panels": show_panels(ACCESS_PANELS, model, request),
        "commands": commands(model),
        "chat_format": card_page_of(model).chat_format,
        "problem": problem.sentence if problem else "",
        "problem_field": problem.field if problem else "",
    }
    if access.code == AccessCode.LICENCE_OWED and access.grant:
        context["licences"] = licences_for_reader(
            model, request.headers.get("Accept-Language", ""), owed=owed_licences(access.grant)
        )
        return render(request, "portal/licence_owed.html", context, status=status)
    if not access.allowed or (model.is_gated and access.grant is None):
        return render(request, "portal/no_access.html", context, status=200 if access.allowed else 403)
    tokens = access.grant.tokens.filter(origin__in=BY_HAND).select_related("grant") if access.grant else ()
    context |= {"grant": access.grant, "rows": rows(tokens), "form": form or TokenForm()}
    return render(request, "portal/access.html", context, status=status)
