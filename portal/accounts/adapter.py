"""How allauth behaves here: our addresses, our rules for names, mail that may fail while the page stands."""

from __future__ import annotations

import logging
from typing import Any
from urllib.parse import quote, urlsplit

from allauth.account.adapter import DefaultAccountAdapter
from allauth.core import context as allauth_context
from django.conf import settings
from django.contrib import messages
from django.http import HttpRequest

from portal.accounts.addresses import at_our_address, page_address
from portal.accounts.names import check_username, suggest_username

log = logging.getLogger(__name__)
UNKNOWN_ADDRESS = "0.0.0.0"  # noqa: S104 - a value for "not known", nothing is bound to it


class AccountAdapter(DefaultAccountAdapter):
    error_messages = DefaultAccountAdapter.error_messages | {
        "email_password_mismatch": "This address and password do not fit: check both, or reset the password.",
        "incorrect_code": "This code does not fit: check the newest mail, or ask for a new code.",
        "too_many_login_attempts": "Too many attempts: wait five minutes, or reset the password.",
        "account_inactive": "This account is disabled: write to the people who run this portal.",
        "rate_limited": "Too many requests at once: wait a minute, then try again.",
        "enter_current_password": "Type your current password.",
        "incorrect_password": "This is not your current password: try again.",
    }

    def generate_unique_username(self, txts: list[str | None], regex: str | None = None) -> str:
        """From the names alone: allauth would fall back to the e-mail address, which is never public."""
        return suggest_username(first_name=txts[0] or "", last_name=txts[1] or "")

    def clean_username(self, username: str, shallow: bool = False) -> str:
        return check_username(username)

    def get_client_ip(self, request: HttpRequest) -> str:
        return getattr(request, "client_address", None) or UNKNOWN_ADDRESS

    def get_reset_password_from_key_url(self, key: str) -> str:
        return reset_address(key)

    def send_mail(self, template_prefix: str, email: str, context: dict[str, Any]) -> None:
        """Sends now; when the mail server fails, the page says so and its reader can ask again."""
        links = {
            key: at_our_address(value) for key, value in context.items() if key.endswith("_url") and value
        }
        site = {"name": "Gatehouse", "domain": urlsplit(settings.GATEHOUSE_URL).netloc}
        mail = self.render_mail(
            template_prefix, email, {**context, **links, "email": email, "current_site": site}
        )
        try:
            mail.send()
        except OSError:
            log.exception("the mail %s could not be sent", template_prefix)
            self._say_that_mail_failed()

    def _say_that_mail_failed(self) -> None:
        request = allauth_context.request
        if request is not None:
            messages.error(
                request,
                "The mail could not be sent, because the mail server fails: ask again in some minutes.",
            )


def reset_address(key: str) -> str:
    """The page where a new password is set; `key` is allauth's `uid-token`."""
    path = page_address("account_reset_password_from_key", uidb36="UID", key="KEY")
    return path.replace("UID-KEY", quote(key))
