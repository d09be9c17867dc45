"""Approving a machine in Chromium, with the keyboard only, under the real content security policy."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from django.core.cache import cache
from playwright.sync_api import Page

from access_requests.services.oauth import codes

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]
CLIENT = "26be6b09-91c5-47da-9861-d2d2bb7a7e36"
GRANT = "urn:ietf:params:oauth:grant-type:device_code"


@pytest.fixture
def begun(make_person: Callable[..., Any], make_model: Callable[..., Any]) -> codes.Begun:
    """Give ada a grant and start a sign-in that she can approve."""
    from access_requests.services.grants import grant_access

    cache.clear()
    ada = make_person("ada", first_name="Ada", last_name="Lovelace")
    grant_access(model=make_model(), email=ada.email, days=30)
    return codes.begin_sign_in(client_id=CLIENT, client="python-httpx2/2.0.1", address="203.0.113.7")


@pytest.fixture
def page(begun: Any, browser: Any, settings: Any, live_server: Any) -> Iterator[Page]:
    """Open a page in a fresh browser; any error in its console fails the test."""
    settings.CSRF_TRUSTED_ORIGINS = [live_server.url]
    complaints: list[str] = []
    page = browser.new_page(base_url=live_server.url)
    page.set_default_timeout(60_000)
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    yield page
    page.close()
    assert complaints == []


def shot(page: Page, name: str) -> None:
    """Take a picture if GATEHOUSE_PICTURES is set."""
    if folder := os.environ.get("GATEHOUSE_PICTURES"):
        page.screenshot(path=f"{folder}/{name}.png", full_page=True)


def press_until(page: Page, key: str, name: str) -> None:
    """Press a key until the control with this name has the focus."""
    for _ in range(40):
        page.keyboard.press(key)
        if page.evaluate("() => document.activeElement.innerText || ''").strip() == name:
            return
    pytest.fail(f"the keyboard does not reach {name}")


def test_a_machine_is_approved_by_the_keyboard_alone(begun: codes.Begun, page: Page) -> None:
    page.goto("/oauth/activate")
    page.get_by_label("Email address").fill("ada@example.org")
    page.get_by_label("Password", exact=True).fill("a good password")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Sign a machine in").wait_for()
    shot(page, "code")
    page.get_by_label("Code").focus()
    page.keyboard.type(codes.shown(begun.code.user_code).lower())
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="Sign this machine in?").wait_for()
    shot(page, "ask")
    page.emulate_media(color_scheme="dark")
    page.set_viewport_size({"width": 390, "height": 800})
    shot(page, "ask-dark-phone")
    press_until(page, "Tab", "Approve")
    page.keyboard.press("Enter")
    page.get_by_text("is signed in. Go back to your terminal").wait_for()
    shot(page, "machines-dark-phone")
    poll = {"grant_type": GRANT, "device_code": begun.device_code, "client_id": CLIENT}
    assert page.request.post("/oauth/token", form=poll).json()["expires_in"] == 30 * 86400
    page.emulate_media(color_scheme="light")
    page.set_viewport_size({"width": 1280, "height": 800})
    shot(page, "machines")
    press_until(page, "Tab", "Sign out")
    page.keyboard.press("Enter")
    page.get_by_role("heading", name="What happens next").wait_for()
    shot(page, "sign-out")
    press_until(page, "Tab", "Sign it out")
    page.keyboard.press("Enter")
    page.get_by_text("is signed out. Its tokens no longer work").wait_for()
    page.get_by_role("link", name="Trusted repositories").click()
    page.get_by_role("heading", name="Trusted repositories", exact=True).wait_for()
    shot(page, "trusted")
    page.get_by_label("Repository", exact=True).fill("acme/eval")
    page.keyboard.press("Enter")
    page.get_by_text("acme/eval is now trusted").wait_for()
    page.set_viewport_size({"width": 390, "height": 800})
    shot(page, "trusted-phone")
