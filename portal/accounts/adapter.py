"""How allauth behaves here: our addresses, our rules for names, emails that go through the queue."""

from __future__ import annotations

import hashlib
import logging
from datetime import timedelta
from typing import Any
from urllib.parse import quote, urlsplit

from allauth.account import app_settings
from allauth.account.adapter import DefaultAccountAdapter
from allauth.account.internal.flows.reauthentication import STATE_SESSION_KEY
from allauth.core.exceptions import ReauthenticationRequired
from django.conf import settings
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from access_requests.addresses import whole_network
from access_requests.services.emails.write import queue_pressing
from access_requests.services.oauth.errors import TooMany
from access_requests.services.oauth.limits import Limit, spend
from portal.accounts.addresses import at_our_address, page_address
from portal.accounts.guessing import (
    Guess,
    begin_guess,
    forget_guesses,
    remember_browser,
    right_guess,
    signed_in_here_before,
)
from portal.accounts.models import User
from portal.accounts.names import check_username, suggest_username
from portal.accounts.recent import renew_session, signed_in_recently

log = logging.getLogger(__name__)
UNKNOWN_ADDRESS = "0.0.0.0"  # noqa: S104 - a value for "not known", nothing is bound to it
METHODS = {
    "reauthenticate": gettext_lazy("Use your password"),
    "mfa_reauthenticate": gettext_lazy("Use a code"),
    "mfa_reauthenticate:webauthn": gettext_lazy("Use a passkey or security key"),
}
# Emails that a stranger can have sent to any address; beyond this number, those already in the mailbox are
# enough.
ASKED_BY_ANYBODY = {
    "account/email/password_reset_key": Limit("mail-reset", 5, 3600, ""),
    "account/email/unknown_account": Limit("mail-unknown", 3, 3600, ""),
    "account/email/account_already_exists": Limit("mail-exists", 3, 3600, ""),
}

# How long the link or code in an email works: an email that could not be sent in that time is dropped.
CODE_LIFE = timedelta(seconds=app_settings.EMAIL_VERIFICATION_BY_CODE_TIMEOUT)
USEFUL_FOR = {
    "account/email/email_confirmation": CODE_LIFE,
    "account/email/email_confirmation_signup": CODE_LIFE,
    "account/email/password_reset_key": timedelta(seconds=settings.PASSWORD_RESET_TIMEOUT),
}
USEFUL_ELSE = timedelta(days=1)
LAST_CODE = "email-with-the-newest-code"  # session key


class AccountAdapter(DefaultAccountAdapter):  # type: ignore[misc]
    error_messages = DefaultAccountAdapter.error_messages | {
        "email_password_mismatch": gettext_lazy(
            "This address and password do not match: check both, or reset the password."
        ),
        "incorrect_code": gettext_lazy("This code is wrong: check your newest email, or ask for a new code."),
        "too_many_login_attempts": gettext_lazy(
            "Too many attempts: wait five minutes, or reset the password."
        ),
        "too_many_from_elsewhere": gettext_lazy(
            "Many wrong passwords or codes were tried for this account. Sign in with a browser that you used here before, "
            "or reset the password."
        ),
        "account_inactive": gettext_lazy(
            "This account is disabled: write to the people who run this portal."
        ),
        "rate_limited": gettext_lazy("Too many requests at once: wait a minute, then try again."),
        "enter_current_password": gettext_lazy("Enter your current password."),
        "incorrect_password": gettext_lazy("This is not your current password: try again."),
    }

    def generate_unique_username(self, txts: list[str | None], regex: str | None = None) -> str:
        """Return a user name made from the person's names alone, never from the email address."""
        return suggest_username(first_name=txts[0] or "", last_name=txts[1] or "")

    def clean_username(self, username: str, shallow: bool = False) -> str:
        return check_username(username)

    def get_client_ip(self, request: HttpRequest) -> str:
        """Return the client's address; an IPv4 address written as IPv6 is returned as IPv4."""
        address = getattr(request, "client_address", None) or UNKNOWN_ADDRESS
        network = whole_network(address)
        return address if "/" in network else network

    def is_reauthentication_required(self, *, app: str, **kwargs: Any) -> bool:
        """Return whether the person has to confirm that it is them: True unless they signed in recently.

        Raises `ReauthenticationRequired` itself, since allauth would let people through who have neither a
        password nor a second factor.
        """
        if signed_in_recently(self.request, app=app):
            return False
        if self.request.method != "POST":
            self.request.session.pop(STATE_SESSION_KEY, None)  # a saved POST would be run after this page
        raise ReauthenticationRequired

    def get_reauthentication_methods(self, user: AbstractBaseUser | AnonymousUser) -> list[dict[str, Any]]:
        """Return those of password, code and passkey that the person has, or else a link by email."""
        methods: list[dict[str, Any]] = [
            {**method, "description": METHODS.get(method["id"], method["description"])}
            for method in super().get_reauthentication_methods(user)
        ]
        if methods or not user.is_authenticated:
            return methods
        return [{"id": "link", "description": _("Get a link by email"), "url": reverse("confirm_by_link")}]

    def pre_authenticate(self, request: HttpRequest, **credentials: Any) -> None:
        """Count the guess before the password is checked. Too many guesses are a form error."""
        email = _address_typed(credentials)
        guess = self.guess_at(email)
        self.begin(guess, User.objects.filter(email__iexact=email, imported=False))
        self._begun = guess

    def begin(self, guess: Guess, people: QuerySet[User]) -> None:
        """Count a guess at a secret of one of `people` (one or none).

        Raises `ValidationError` if there were too many.
        """

        def known() -> bool:
            return signed_in_here_before(self.request, people.first(), address=guess.address)

        try:
            begin_guess(guess, known=known)
        except TooMany as error:
            raise self.validation_error(error.sentence) from error

    def guess_at(self, account: str) -> Guess:
        """Return this request's guess at an account."""
        digest = hashlib.sha256(account.encode()).hexdigest()
        return Guess(account=digest, address=whole_network(self.get_client_ip(self.request)))

    def reauthenticate(self, user: User, password: str) -> bool:
        """Check the password again. Keep the session even if Django has just upgraded the password's hash."""
        if not super().reauthenticate(user, password):
            return False
        stored = User.objects.values_list("password", flat=True).get(pk=user.pk)
        if stored != user.password:
            user.password = stored
            renew_session(self.request, user)
        return True

    def _rollback_login_failed_rl_usage(self) -> None:
        """Take back the count of a correct guess; allauth calls this after a correct password."""
        right_guess(self._begun)

    def _delete_login_attempts_cached_email(self, request: HttpRequest, **credentials: Any) -> None:
        """Forget the guesses at an account; allauth calls this after a reset through an emailed link."""
        forget_guesses(self.guess_at(_address_typed(credentials)))

    def post_login(self, request: HttpRequest, user: User, **kwargs: Any) -> HttpResponse:
        """Remember the browser, so that strangers' wrong guesses never keep this person out."""
        response: HttpResponse = super().post_login(request, user, **kwargs)
        remember_browser(request, response, user)
        return response

    def get_reset_password_from_key_url(self, key: str) -> str:
        return reset_address(key)

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """Queue the email ahead of all notifications; the page never waits for the mail server.

        Emails that a stranger can request are limited for each address. Beyond the limit nothing is sent, and
        the page shows its usual text: the emails in the mailbox contain links that work.
        """
        if _is_one_too_many(template_prefix, email, context):
            log.warning("%s was not sent: its address got enough of them", template_prefix)
            return
        links = {
            key: at_our_address(value) for key, value in context.items() if key.endswith("_url") and value
        }
        site = {"name": "Gatehouse", "domain": urlsplit(settings.GATEHOUSE_URL).netloc}
        mail = self.render_mail(
            template_prefix, email, {**context, **links, "email": email, "current_site": site}
        )
        code_of = self.request.session if self.request is not None and "code" in context else {}
        queued = queue_pressing(
            to=email,
            subject=str(mail.subject),
            text=f"{mail.body}\n",
            useful_for=USEFUL_FOR.get(template_prefix, USEFUL_ELSE),
            instead_of=code_of.get(LAST_CODE),  # only a session's newest code works in it
        )
        code_of[LAST_CODE] = queued.pk


def reset_address(key: str) -> str:
    """Return the address of the page where a new password is set; `key` is allauth's `uid-token`."""
    path = page_address("account_reset_password_from_key", uidb36="UID", key="KEY")
    return path.replace("UID-KEY", quote(key))


def _address_typed(credentials: dict[str, Any]) -> str:
    return str(credentials.get("email") or credentials.get("username") or "").lower()


def _is_one_too_many(template_prefix: str, email: str, context: dict[str, Any]) -> bool:
    """Count an email that anyone can request, and return whether it is one too many.

    Signing in or setting a new password invalidates earlier links, so both restart the count of reset emails:
    a flood of requests cannot leave a person without a link that works.
    """
    limit = ASKED_BY_ANYBODY.get(template_prefix)
    if limit is None:
        return False
    user = context.get("user")
    state = f"{user.password}{user.last_login}" if isinstance(user, User) else ""
    digest = hashlib.sha256(f"{email.lower()} {state}".encode()).hexdigest()
    try:
        spend(limit, digest)
    except TooMany:
        return True
    return False
