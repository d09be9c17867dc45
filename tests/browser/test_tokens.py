"""A person's tokens and a licence that must be accepted, with the keyboard only."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from typing import Any

import pytest

from tests.sign_in import sign_in
from tests.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

SECRET = re.compile(r"gth_[0-9A-Za-z]{38}")
MOST_TABS = 60
LICENCE = "".join(f"{number}. Be better.\n" for number in range(1, 90))
PICTURES = os.environ.get("GATEHOUSE_PICTURES", "")


@pytest.fixture
def session(
    site: str, make_person: Callable[..., Any], make_model: Callable[..., Any], client: Any, settings: Any
) -> str:
    """Return a session of ada, who has a grant; made before the browser starts its loop."""
    from access_requests.services.grants import grant_access

    ada = make_person("ada", first_name="Ada", last_name="Lovelace")
    grant_access(model=make_model(), email=ada.email, days=30)
    sign_in(client, ada)
    return str(client.cookies[settings.SESSION_COOKIE_NAME].value)


@pytest.fixture
def demanded(session: str) -> None:
    """Add a new licence text that ada must accept."""
    from access_requests.models import GatedModel
    from access_requests.services.catalogue.edit import add_licence
    from access_requests.services.catalogue.gated_models import LicenceText

    text = LicenceText("licence.txt", "en", LICENCE)
    add_licence(model=GatedModel.objects.get(), licence=text, must_accept=True)


@pytest.fixture
def page(request: pytest.FixtureRequest, site: str, session: str, settings: Any) -> Any:
    """Open a page as ada; violations of the content policy and script errors fail the test."""
    browser = request.getfixturevalue("browser")
    context = browser.new_context(base_url=site, viewport={"width": 1280, "height": 900})
    context.add_cookies([{"name": settings.SESSION_COOKIE_NAME, "value": session, "url": site}])
    opened = context.new_page()
    opened.set_default_timeout(60_000)
    complaints: list[str] = []
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
    yield opened
    context.close()
    assert [text for text in complaints if not re.search("status of (400|409|422)", text)] == []


def picture(page: Any, name: str) -> None:
    """Save screenshots to the folder in GATEHOUSE_PICTURES, if set: wide and light, narrow and dark."""
    if not PICTURES:
        return
    for scheme, width in (("light", 1280), ("dark", 390)):
        page.set_viewport_size({"width": width, "height": 900})
        page.emulate_media(color_scheme=scheme)
        page.wait_for_timeout(500)  # colours fade in
        page.screenshot(path=f"{PICTURES}/{name}-{scheme}.png", full_page=True)
    page.set_viewport_size({"width": 1280, "height": 900})
    page.emulate_media(color_scheme="light")


def tab_to(page: Any, selector: str) -> None:
    for _ in range(MOST_TABS):
        if page.evaluate("s => document.activeElement.matches(s)", selector):
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
            return
        page.keyboard.press("Tab")
    pytest.fail(f"{selector} was not reached with {MOST_TABS} presses of Tab")


def press(page: Any, selector: str) -> None:
    tab_to(page, selector)
    page.keyboard.press("Enter")


def test_tokens_are_made_rotated_and_revoked_by_keyboard(page: Any) -> None:
    page.goto("/me/tokens")
    tab_to(page, "#id_name")
    page.keyboard.type("cluster")
    tab_to(page, "#id_networks")
    page.keyboard.type("192.0.2.0/24, nonsense")
    press(page, "main section:last-of-type button")
    page.wait_for_selector("text=There is a problem")
    picture(page, "problem")
    press(page, ".error-summary a")
    wait_until(lambda: page.evaluate("document.activeElement.id === 'id_networks'"), "the focus on the field")
    page.keyboard.press("Control+A")
    page.keyboard.type("192.0.2.0/24, 2001:db8::/32")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=This is the only time it is shown.")
    secret = SECRET.search(page.inner_text("#secret"))[0]
    picture(page, "secret")
    press(page, "main a.button[href='/me/tokens']")
    page.wait_for_selector("text=only from 192.0.2.0/24")
    assert secret not in page.content()
    press(page, "a[aria-label='Rotate cluster']")
    page.wait_for_selector("text=keep working beside the new one")
    picture(page, "rotate")
    tab_to(page, "input[name=overlap]")
    page.keyboard.press("ArrowDown")
    assert page.input_value("input[name=overlap]:checked") == "7d"
    press(page, "main form button")
    page.wait_for_selector("text=The old one")
    new = SECRET.search(page.inner_text("#secret"))[0]
    assert new != secret
    picture(page, "rotated")
    page.goto("/me/tokens")
    page.wait_for_selector(".badge:has-text('replaced')")
    picture(page, "tokens")
    for _ in range(2):
        press(page, "a[aria-label='Revoke cluster']")
        page.wait_for_selector("h1:has-text('Revoke “cluster”?')")
        picture(page, "revoke")
        press(page, "main button.danger")
        page.wait_for_selector("text=is revoked and no longer works")
    assert page.locator("a[aria-label='Revoke cluster']").count() == 0
    assert page.locator(".badge:has-text('revoked')").count() == 2
    picture(page, "revoked")


def test_demanded_licence_is_read_and_agreed_to_by_keyboard(demanded: None, page: Any) -> None:
    page.goto("/ai/tulu")
    picture(page, "model-owed")
    press(page, "main a.button[href='/ai/tulu/access']")
    page.wait_for_selector("text=I have read this text and agree")
    picture(page, "licence")
    tab_to(page, ".text-box")
    page.keyboard.press("End")
    wait_until(lambda: page.evaluate("document.activeElement.scrollTop > 0"), "the licence to be scrolled")
    press(page, "main form button")
    page.wait_for_selector("text=There is a problem")
    picture(page, "licence-problem")
    tab_to(page, "#agree")
    page.keyboard.press("Space")
    press(page, "main form button")
    page.wait_for_selector("text=downloads work again")
    page.wait_for_selector("text=Show my token")
