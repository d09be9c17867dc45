"""Signing up and adding a passkey in Chromium, under the real content security policy."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.test import Client
from playwright.sync_api import Page

from tests.emails import pressing
from tests.sign_in import sign_in

PICTURES = os.environ.get("GATEHOUSE_PICTURES", "")
PHONE, WIDE = {"width": 390, "height": 844}, {"width": 1280, "height": 900}

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]


@pytest.fixture
def page(browser: Any, settings: Any, live_server: Any) -> Iterator[Page]:
    """Open a page in a fresh browser; any error in its console fails the test."""
    address = live_server.url.replace("127.0.0.1", "localhost")  # passkeys work here without TLS
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
    page.get_by_text("If you leave it empty, it becomes zoe-garcia.").wait_for()
    page.get_by_label("Email address").fill("zoe@example.org")
    page.get_by_label("Password").fill("correct horse battery")
    page.get_by_role("button", name="Sign up").click()
    page.get_by_role("heading", name="Confirm your address").wait_for()
    code = re.search(r"^[A-Z0-9]{4}-[A-Z0-9]{4}$", pressing()[-1].text, re.MULTILINE)
    assert code
    page.get_by_label("Code").fill(code.group())
    page.get_by_role("button", name="Confirm").click()
    page.get_by_text("zoe-garcia").first.wait_for()


@pytest.fixture
def ada(make_person: Callable[..., Any]) -> Any:
    """Create ada before the browser starts: in Playwright's loop, Django would leave a connection open."""
    return make_person("ada")


def shot(page: Page, name: str) -> None:
    """Save screenshots to the folder in GATEHOUSE_PICTURES, if set: wide and phone, light and dark."""
    if not PICTURES:
        return
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        for size, viewport in (("wide", WIDE), ("phone", PHONE)):
            page.set_viewport_size(viewport)
            page.screenshot(path=f"{PICTURES}/{name}-{size}-{scheme}.png", full_page=True)
    page.emulate_media(color_scheme="light")
    page.set_viewport_size(WIDE)


def tab_to(page: Page, selector: str) -> None:
    """Press Tab until this control has the focus, and check that its focus is visible."""
    for _ in range(60):
        page.keyboard.press("Tab")
        if page.evaluate("s => document.activeElement.matches(s)", selector):
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
            return
    raise AssertionError(f"{selector} cannot be reached by Tab")


@pytest.fixture
def old_session(ada: Any, settings: Any) -> str:
    """Return the cookie of a session in which ada signed in an hour ago."""
    client = sign_in(Client(), ada, ago=3600)
    return str(client.cookies[settings.SESSION_COOKIE_NAME].value)


def test_token_typed_before_confirming_is_made_by_keyboard_alone(
    old_session: str, page: Page, settings: Any, live_server: Any
) -> None:
    cookie = {"name": settings.SESSION_COOKIE_NAME, "value": old_session}
    page.context.add_cookies([cookie | {"url": live_server.url.replace("127.0.0.1", "localhost")}])
    page.goto("/me/tokens")
    tab_to(page, "input[name=name]")
    page.keyboard.type("the cluster")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Confirm that it is you").wait_for()
    shot(page, "is-it-you")
    tab_to(page, "input[name=password]")
    page.keyboard.type("a wrong password")
    page.keyboard.press("Enter")
    page.get_by_text("This is not your current password").first.wait_for()
    shot(page, "is-it-you-wrong")
    tab_to(page, "input[name=password]")
    page.keyboard.type("a good password")
    page.keyboard.press("Enter")
    page.get_by_text("gth_").first.wait_for()
    shot(page, "token-after-confirming")


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
    page.get_by_label("Email address").fill("ada@example.org")
    page.get_by_label("Password").fill("a good password")
    page.get_by_role("button", name="Sign in", exact=True).click()
    page.get_by_role("heading", name="Confirm that it is you").wait_for()
    page.get_by_label("Password").fill("a good password")
    page.get_by_role("button", name="Confirm").click()
    page.get_by_label("Use it to sign in without a password").check()
    page.get_by_role("button", name="Add the key").click()
    page.get_by_role("heading", name="Recovery codes").wait_for()

    page.context.clear_cookies()
    page.goto("/accounts/login/?next=/me/profile")
    page.get_by_role("button", name="Sign in with a passkey").click()
    page.get_by_role("heading", name="Profile").wait_for()

    page.goto("/accounts/email/")
    shot(page, "email")
    page.get_by_label("New address").fill("countess@example.com")
    page.get_by_role("button", name="Change the address").click()
    page.get_by_role("heading", name="Confirm that it is you").wait_for()
    shot(page, "is-it-you-with-passkey")
    page.get_by_role("link", name="Use a passkey or security key").click()
    button = page.get_by_role("button", name="Use a passkey or security key")
    button.wait_for()
    shot(page, "is-it-you-by-passkey")
    button.press("Enter")
    page.get_by_role("heading", name="Confirm your address").wait_for()
    shot(page, "confirm-address")
