"""Signing up and adding a passkey in Chromium, under the real content security policy."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core import mail
from playwright.sync_api import Page

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def page(browser: Any, settings: Any, live_server: Any) -> Iterator[Page]:
    """A page of a fresh browser; whatever it writes to its console as an error fails the test."""
    address = live_server.url.replace("127.0.0.1", "localhost")  # where passkeys work without TLS
    settings.CSRF_TRUSTED_ORIGINS = [address]
    complaints: list[str] = []
    page = browser.new_page(base_url=address)
    page.set_default_timeout(60_000)
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    page.close()
    assert complaints == []


def test_signup_in_a_browser_suggests_a_name_and_confirms_by_code(page: Page) -> None:
    page.goto("/accounts/signup/")
    page.get_by_label("First name").fill("Zoë")
    page.get_by_label("Last name").fill("García")
    page.get_by_label("User name").focus()
    page.get_by_text("Left empty, it becomes zoe-garcia.").wait_for()
    page.get_by_label("E-mail address").fill("zoe@example.org")
    page.get_by_label("Password").fill("correct horse battery")
    page.get_by_role("button", name="Sign up").click()
    page.get_by_role("heading", name="Confirm your address").wait_for()
    code = re.search(r"^[A-Z0-9]{4}-[A-Z0-9]{4}$", mail.outbox[-1].body, re.MULTILINE)
    assert code
    page.get_by_label("Code").fill(code.group())
    page.get_by_role("button", name="Confirm").click()
    page.get_by_text("zoe-garcia").first.wait_for()


@pytest.fixture
def ada(make_person: Callable[..., Any]) -> Any:
    """Made before the browser starts: inside Playwright's loop Django would open a connection that nobody closes."""
    return make_person("ada")


def test_passkey_is_added_and_signs_in_under_the_policy(ada: Any, page: Page) -> None:
    devices = page.context.new_cdp_session(page)
    devices.send("WebAuthn.enable")
    options = {
        "protocol": "ctap2",
        "transport": "internal",
        "hasResidentKey": True,
        "hasUserVerification": True,
        "isUserVerified": True,
    }
    devices.send("WebAuthn.addVirtualAuthenticator", {"options": options})
    page.goto("/accounts/login/?next=/accounts/2fa/webauthn/add/")
    page.get_by_label("E-mail address").fill("ada@example.org")
    page.get_by_label("Password").fill("a good password")
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.get_by_role("heading", name="Is it you?").wait_for()
    page.get_by_label("Password").fill("a good password")
    page.get_by_role("button", name="Confirm").click()
    page.get_by_label("Use it to sign in without a password").check()
    page.get_by_role("button", name="Add the key").click()
    page.get_by_role("heading", name="Recovery codes").wait_for()

    page.context.clear_cookies()
    page.goto("/accounts/login/?next=/me/profile")
    page.get_by_role("button", name="Sign in with a passkey").click()
    page.get_by_role("heading", name="Profile").wait_for()
