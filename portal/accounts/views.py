"""Pages about a person's own account, in addition to allauth's."""

from __future__ import annotations

from typing import Any

from allauth.account.internal.flows.login import perform_login, record_authentication
from allauth.account.models import Login
from allauth.account.views import SignupView as AllauthSignupView
from allauth.usersessions.views import ListUserSessionsView
from django.contrib import messages
from django.contrib.auth.decorators import login_not_required, login_required
from django.db import IntegrityError, transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.debug import sensitive_post_parameters
from django.views.decorators.http import require_safe
from django.views.generic.edit import FormView

from access_requests.errors import Conflict
from access_requests.services.emails import mail_server
from access_requests.views.common import signed_in
from portal.accounts.activity import live_sessions
from portal.accounts.forms import OwnerForm, ProfileForm, SignupForm
from portal.accounts.models import User
from portal.accounts.names import clean_name, suggest_username
from portal.accounts.owner import create_owner, link_opens

SIGNUP_TRIES = 10  # each is lost only if someone else succeeds


@method_decorator(login_not_required, name="dispatch")
class SignupView(AllauthSignupView):  # type: ignore[misc]
    """allauth's sign-up page.

    A person who loses a race for a user name or an address sees what a later visitor would see.
    """

    def form_invalid(self, form: SignupForm) -> HttpResponse:
        """Return the page with the form's errors."""
        answer: HttpResponse = super().form_invalid(form)
        return answer

    def form_valid(self, form: SignupForm) -> HttpResponse:
        answer: HttpResponse
        for _try in range(SIGNUP_TRIES):
            try:
                with transaction.atomic():
                    answer = super().form_valid(form)
                    return answer
            except (
                IntegrityError
            ):  # someone has taken the address (allauth informs its holder) or our suggestion since
                form = self.get_form_class()(**self.get_form_kwargs())
                if not form.is_valid():
                    return self.form_invalid(form)
        form.add_error(
            "username", _("Many people have just chosen names like yours: choose a user name yourself.")
        )
        return self.form_invalid(form)


@login_not_required
@never_cache
@require_safe
def mail_outage(request: HttpRequest) -> HttpResponse:
    """Return the notice for a page that waits for an email, or 204 while it is unchanged.

    The page polls it every 20 seconds.
    """
    failing = mail_server.outage() is not None
    if failing == (request.GET.get("shown") == "1"):
        return HttpResponse(status=204)
    code = request.GET.get("code") == "1"
    return render(request, "parts/mail_outage_now.html", {"outage": failing, "refresh": True, "code": code})


class SessionsView(ListUserSessionsView):  # type: ignore[misc]
    """allauth's page of sessions. Viewing it deletes nothing; the next sign-in does."""

    def get_context_data(self, **kwargs: Any) -> dict[str, Any]:
        sessions = live_sessions(self.request.user)
        context = {"sessions": sessions, "session_count": len(sessions), "show_last_seen_at": True}
        return FormView.get_context_data(self, **kwargs) | context


@login_not_required
@require_safe
def suggest(request: HttpRequest) -> HttpResponse:
    """Return a sentence, shown under the field, with the user name that the names typed so far would give."""
    first_name = clean_name(request.GET.get("first_name", ""))[:200]
    last_name = clean_name(request.GET.get("last_name", ""))[:200]
    name = suggest_username(first_name=first_name, last_name=last_name) if first_name or last_name else ""
    return render(request, "accounts/suggestion.html", {"suggestion": name})


@login_required
@never_cache
def profile(request: HttpRequest) -> HttpResponse:
    """Show and save the profile, from which forms are prefilled."""
    person = User.objects.get(pk=signed_in(request).pk)
    form = ProfileForm(request.POST or None, instance=person)
    if request.method == "POST" and form.is_valid():
        try:
            with transaction.atomic():
                form.save()
        except IntegrityError:
            form.add_error("username", _("This user name was taken a moment ago: choose another one."))
        else:
            messages.success(request, _("Your profile is saved."))
            return redirect("profile")
    return render(request, "accounts/profile.html", {"form": form}, status=422 if form.errors else 200)


@login_not_required
@never_cache
@sensitive_post_parameters("password")
def owner(request: HttpRequest, token: str) -> HttpResponse:
    """Create the first superuser, sign them in and continue to its second factor."""
    if not link_opens(token):
        return render(request, "accounts/owner_closed.html", status=410)
    form = OwnerForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            person = create_owner(token=token, **form.cleaned_data)
        except Conflict:
            return render(request, "accounts/owner_closed.html", status=410)
        except IntegrityError:
            form.add_error(
                None, _("This email address or user name was taken a moment ago: choose another one.")
            )
        else:
            messages.success(
                request,
                _(
                    "You are now the owner of this portal. Next, add a second factor, which the admin requires."
                ),
            )
            login = Login(user=person, email=person.email, redirect_url=reverse("mfa_index"))
            # The password was typed just now: no need to ask for it again before the second factor.
            record_authentication(
                request, person, method="password", email=person.email, reauthenticated=True
            )
            answer: HttpResponse = perform_login(request, login)
            return answer
    return render(request, "accounts/owner.html", {"form": form}, status=422 if form.errors else 200)
