"""allauth's pages for passwords, addresses and second factors: change, event and email in one transaction."""

from __future__ import annotations

import time
from typing import Any

from allauth.account import views as account_views
from allauth.account.decorators import reauthentication_required
from allauth.account.internal.flows.email_verification_by_code import EMAIL_VERIFICATION_CODE_SESSION_KEY
from allauth.account.internal.flows.password_reset import request_password_reset
from allauth.mfa.recovery_codes import views as codes_views
from allauth.mfa.totp import views as totp_views
from allauth.mfa.webauthn import views as webauthn_views
from django.contrib import messages
from django.contrib.auth.decorators import login_not_required, login_required
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.http.response import HttpResponseBase
from django.shortcuts import redirect, render
from django.utils.decorators import method_decorator
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from access_requests.errors import Conflict
from access_requests.services.event_log.append import recorded
from access_requests.services.locks import lock_person
from access_requests.views.common import signed_in
from portal.accounts.forms import client_address
from portal.accounts.models import User
from portal.accounts.recent import signed_in_recently
from portal.accounts.security import factors_recorded, reset_tokens

ACCOUNT = "allauth.account"


class PasswordChangeView(account_views.PasswordChangeView):  # type: ignore[misc]
    """The page that changes the password; all sessions end except this one."""

    def form_valid(self, form: Any) -> HttpResponse:
        try:
            answer: HttpResponse = super().form_valid(form)
        except Conflict as error:
            form.add_error(None, error.sentence)
            answer = self.form_invalid(form)
        return answer


class PasswordSetView(account_views.PasswordSetView):  # type: ignore[misc]
    """The page that sets the first password, after the person confirmed that it is them.

    The form is shown only then, so that no password is typed into it and kept while the person confirms.
    """

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        if request.method == "POST" and not signed_in_recently(request, app=ACCOUNT):
            return HttpResponseRedirect(request.path)
        return self._dispatch_confirmed(request, *args, **kwargs)

    @method_decorator(reauthentication_required(app=ACCOUNT))
    def _dispatch_confirmed(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        answer: HttpResponse = super().dispatch(request, *args, **kwargs)
        return answer

    def form_valid(self, form: Any) -> HttpResponse:
        try:
            answer: HttpResponse = super().form_valid(form)
        except Conflict as error:
            form.add_error(None, error.sentence)
            answer = self.form_invalid(form)
        return answer


@method_decorator(login_not_required, name="dispatch")
class PasswordResetFromKeyView(account_views.PasswordResetFromKeyView):  # type: ignore[misc]
    """The page that sets a password through an emailed link, which works once."""

    def form_valid(self, form: Any) -> HttpResponse:
        try:
            answer: HttpResponse = super().form_valid(form)
        except Conflict as error:
            self.reset_user = None
            answer = self.render_to_response(self.get_context_data(token_fail=True), status=error.status)
        return answer


class ConfirmEmailView(account_views.ConfirmEmailVerificationCodeView):  # type: ignore[misc]
    """The page that confirms an email address by its code.

    A code works once: the lock on the person lets one request through at a time. A new code lives as long as
    the first one, which may have expired while it waited for the mail server.
    """

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        waited = EMAIL_VERIFICATION_CODE_SESSION_KEY in request.session
        response: HttpResponseBase = super().dispatch(request, *args, **kwargs)
        if waited and self._process is None:
            if request.user.is_authenticated:
                messages.warning(request, _("Your code has expired. Send a new one."))
            else:
                messages.warning(
                    request, _("Your code has expired. Sign in with your password to get another one.")
                )
        return response

    def _resend_form_valid(self, form: Any) -> HttpResponse:
        state = self._process.state
        sent = state["resend_count"]
        response: HttpResponse = super()._resend_form_valid(form)
        if state["resend_count"] > sent:  # else too many were sent, and the old code stays
            self._begin_life()
        return response

    def _change_form_valid(self, form: Any) -> HttpResponse:
        response: HttpResponse = super()._change_form_valid(form)
        self._begin_life()
        return response

    def _begin_life(self) -> None:
        self._process.state["at"] = time.time()
        self._process.persist()

    def _verify_form_valid(self, form: Any) -> HttpResponse:
        with recorded():
            lock_person(self._process.user.pk)
            response: HttpResponse = super()._verify_form_valid(form)
        return response


class FactorRecorded:
    """A base that runs a change of second factors together with its events and emails."""

    request: HttpRequest

    def form_valid(self, form: Any) -> HttpResponse:
        user = User.objects.get(pk=signed_in(self.request).pk)
        with factors_recorded(user=user, address=client_address()):
            response: HttpResponse = super().form_valid(form)  # type: ignore[misc]
        return response


class ActivateTOTPView(FactorRecorded, totp_views.ActivateTOTPView):  # type: ignore[misc]
    """The page that adds an authenticator app."""


class DeactivateTOTPView(FactorRecorded, totp_views.DeactivateTOTPView):  # type: ignore[misc]
    """The page that removes the authenticator app."""


class AddWebAuthnView(FactorRecorded, webauthn_views.AddWebAuthnView):  # type: ignore[misc]
    """The page that adds a passkey or a security key."""


class RemoveWebAuthnView(FactorRecorded, webauthn_views.RemoveWebAuthnView):  # type: ignore[misc]
    """The page that removes a passkey or a security key."""


class GenerateRecoveryCodesView(FactorRecorded, codes_views.GenerateRecoveryCodesView):  # type: ignore[misc]
    """The page that replaces the recovery codes."""


class ReauthenticateWebAuthnView(webauthn_views.ReauthenticateWebAuthnView):  # type: ignore[misc]
    """The page for confirming by a passkey or security key; if that fails, the person stays on it."""

    def form_invalid(self, form: Any) -> HttpResponse:
        for message in form.errors.get("credential", []):
            messages.error(self.request, message)
        return HttpResponseRedirect(self.passthrough_next_url(self.request.path))


@login_required
@never_cache
@require_http_methods(["GET", "HEAD", "POST"])
def confirm_by_link(request: HttpRequest) -> HttpResponse:
    """Email a link to set a password to people without a password or second factor to confirm with."""
    if request.method != "POST":
        return render(request, "account/confirm_by_link.html")
    user = User.objects.get(pk=signed_in(request).pk)
    request_password_reset(request, user.email, [user], reset_tokens())
    messages.success(request, _("We are sending a link to your email address."))
    return redirect("account_reset_password_done")
