"""Approve a machine and sign it out: the pages of `hf auth login`."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import Max
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_safe

from access_requests.access.access import readable_models
from access_requests.errors import RuleError
from access_requests.models import DeviceCode, Machine
from access_requests.services.oauth import codes
from access_requests.services.oauth.machines import TOKEN_DAYS, UNUSED_DAYS, sign_out
from access_requests.views.common import Ending, ask_before, signed_in
from access_requests.views.recent import need_recent_sign_in

KNOWN_CLIENTS = {"26be6b09-91c5-47da-9861-d2d2bb7a7e36": "hf auth login (huggingface_hub)"}
ENDED_SHOWN = 10


class CodeForm(forms.Form):
    """The short code, typed or from the link; case, spaces and hyphens are ignored."""

    user_code = forms.CharField(
        max_length=40,
        label=gettext_lazy("Code"),
        help_text=gettext_lazy("Eight letters, as shown in your terminal."),
        widget=forms.TextInput(
            attrs={
                "autocomplete": "off",
                "autocapitalize": "characters",
                "spellcheck": "false",
                "class": "mono",
            }
        ),
    )


class NameForm(forms.Form):
    """The name that a person gives to a machine that they approve."""

    name = forms.CharField(
        max_length=100,
        label=gettext_lazy("Name of the machine"),
        help_text=gettext_lazy(
            "Helps you to recognise it in your list and in the machine's own list of tokens."
        ),
    )


@login_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def activate(request: HttpRequest) -> HttpResponse:
    """Show who asks to sign in with a code, and let the person approve or deny it. A link alone approves nothing.

    Approving requires a recent sign-in, denying does not.
    """
    given = request.POST if request.method == "POST" else request.GET
    if not given.get("user_code"):
        return render(request, "access_requests/activate.html", {"form": CodeForm()})
    form = CodeForm({"user_code": given["user_code"]})
    if not form.is_valid():
        return render(request, "access_requests/activate.html", {"form": form}, status=422)
    try:
        code = codes.find_waiting(
            typed=form.cleaned_data["user_code"], user=signed_in(request), address=_client_address(request)
        )
        return (
            _approve_or_deny(request, code) if request.method == "POST" else _ask_for_decision(request, code)
        )
    except RuleError as error:
        form.add_error("user_code" if error.field == "user_code" else None, error.sentence)
        return render(request, "access_requests/activate.html", {"form": form}, status=error.status)


def _approve_or_deny(request: HttpRequest, code: DeviceCode) -> HttpResponse:
    if request.POST.get("decision") == "deny":
        codes.deny(code=code, user=signed_in(request))
        messages.success(
            request,
            _(
                "Denied: the machine got no access. If you did not start this, you don't have to do anything else."
            ),
        )
        return redirect("machines")
    if request.POST.get("decision") != "approve":
        return _ask_for_decision(request, code)
    form = NameForm(request.POST)
    if not form.is_valid():
        return _ask_for_decision(request, code, form)
    need_recent_sign_in(request)
    try:
        machine = codes.approve(code=code, user=signed_in(request), name=form.cleaned_data["name"])
    except RuleError as error:
        if error.field != "name":
            raise
        form.add_error("name", error.sentence)
        return _ask_for_decision(request, code, form)
    messages.success(
        request,
        _("“%(name)s” is signed in. Go back to your terminal; it continues by itself.")
        % {"name": machine.name},
    )
    return redirect("machines")


def _ask_for_decision(request: HttpRequest, code: DeviceCode, form: NameForm | None = None) -> HttpResponse:
    """Show who asks, as far as that is known, and what approving would allow."""
    own, everything = _client_address(request), request.user.is_superuser
    context: dict[str, Any] = {
        "code": code,
        "shown": codes.shown(code.user_code),
        "program": KNOWN_CLIENTS.get(code.client_id, ""),
        "own_address": own,
        "same_address": own is not None and own == code.address,
        "form": form or NameForm(initial={"name": f"hf at {code.address}" if code.address else "hf"}),
        "everything": everything,
        "models": [] if everything else [model.repo_id for model in readable_models(request.user)],
        "token_days": TOKEN_DAYS,
        "unused_days": UNUSED_DAYS,
    }
    status = 422 if form is not None else 200
    return render(request, "access_requests/activate_ask.html", context, status=status)


def _client_address(request: HttpRequest) -> str | None:
    return getattr(request, "client_address", None)


@login_required
@never_cache
@require_safe
def machines(request: HttpRequest) -> HttpResponse:
    """Show the machines that this person signed in, and those that were signed out recently."""
    rows = (
        Machine.objects.filter(user=signed_in(request))
        .annotate(last_used_at=Max("refresh_tokens__token__last_used_at"))
        .order_by("-pk")
    )
    now = timezone.now()
    live = list(rows.filter(signed_out_at=None, ends_at__gt=now))
    ended = rows.exclude(pk__in=[row.pk for row in live])[:ENDED_SHOWN]
    context = {"live": live, "ended": ended, "unused_days": UNUSED_DAYS}
    return render(request, "access_requests/machines.html", context)


@login_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def machine_sign_out(request: HttpRequest, pk: int) -> HttpResponse:
    """Ask, and on a POST sign out one machine with all its tokens."""
    machine = Machine.objects.filter(pk=pk, user=signed_in(request)).first()
    if machine is None:
        raise Http404(f"You have no machine {pk}.")
    if request.method != "POST":
        if not machine.is_live():
            return redirect("machines")
        ending = Ending(
            question=_("Sign “%(name)s” out?") % {"name": machine.name},
            facts=[
                (_("From"), machine.address or _("an unknown address")),
                (_("Signed in"), f"{machine.signed_in_at:%Y-%m-%d %H:%M} UTC"),
            ],
            follows=[
                _(
                    "All its tokens end. Programs that use them are refused at once, and running downloads may be interrupted."
                ),
                _("Files downloaded there stay, and your own access does not change."),
                _("To sign it in again, run hf auth login there and approve it here."),
            ],
            button=_("Sign it out"),
            back=reverse("machines"),
            keep=_("Keep it signed in"),
        )
        return ask_before(request, ending)
    sign_out(machine=machine, why="signed out on the page", actor=signed_in(request))
    messages.success(
        request, _("“%(name)s” is signed out. Its tokens no longer work.") % {"name": machine.name}
    )
    return redirect("machines")
