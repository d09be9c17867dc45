"""From signing up to the download page, by two people in two browsers; the form with the keyboard only."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import TULU_CARD
from tests.sign_in import totp_code
from tests.waiting import wait_until

pytestmark = [pytest.mark.browser, pytest.mark.django_db(transaction=True)]

MODEL = "ai/tulu"
SECRET = re.compile(r"gth_[0-9A-Za-z]{38}")
MOST_TABS = 80
LICENCE = "".join(f"{number}. Be good.\n" for number in range(1, 120))
TOTP_SECRET = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"


@pytest.fixture
def model(make_person: Callable[..., Any], tmp_path: Path, site: str) -> Any:
    """Return a model with weights to be published unchanged; its reviewer rita and superuser root have a second factor."""
    from allauth.mfa.totp.internal.auth import TOTP

    from access_requests.services.catalogue.gated_models import LicenceText
    from access_requests.services.catalogue.roles import assign_role
    from model_ops.services.catalogue.add_model import add_model_with_weights
    from model_ops.services.recoveries.weights import prepare_weights

    prepared = prepare_weights(files=str(weights(tmp_path / "weights")))
    licences = [LicenceText("licence.txt", "en", LICENCE)]
    made, _ = add_model_with_weights(repo_id=MODEL, prepared=prepared, card=TULU_CARD, licences=licences)
    rita, root = make_person("rita"), make_person("root", is_superuser=True)
    assign_role(model=made, user=rita, role="reviewer")
    for person in (rita, root):
        TOTP.activate(person, TOTP_SECRET)
    return made


def weights(folder: Path) -> Path:
    header = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    header += b" " * (-len(header) % 8)
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(len(header).to_bytes(8, "little") + header + bytes(8))
    (folder / "config.json").write_text('{"model_type": "llama"}\n')
    return folder


@pytest.fixture
def visit(browser: Any, site: str) -> Any:
    """Return `visit()`, which opens a new person's page; policy violations and script errors fail a test."""
    complaints: list[str] = []

    def enter() -> Any:
        page = browser.new_context(base_url=site, viewport={"width": 1280, "height": 900}).new_page()
        page.set_default_timeout(60_000)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("console", lambda said: complaints.append(said.text) if said.type == "error" else None)
        return page

    yield enter
    assert [text for text in complaints if not re.search("status of (409|422)", text)] == []


def test_researcher_asks_and_downloads_what_a_reviewer_approved(model: Any, visit: Any, worker: None) -> None:
    reviewer, researcher, operator = visit(), visit(), visit()
    sign_in(reviewer, "rita@example.org")
    sign_in(operator, "root@example.org")
    sign_up(researcher, operator)
    ask_by_keyboard(researcher)
    approve(reviewer)
    secret = take_token(researcher)
    assert_shown_once(researcher, secret)
    wait_until(lambda: mail_text(operator, "is approved"), "the email about the approval")


def sign_in(page: Any, email: str) -> None:
    page.goto("/admin/")
    page.fill("input[name=login]", email)
    page.fill("input[name=password]", "a good password")
    page.keyboard.press("Enter")
    page.fill("input[name=code]", totp_code(TOTP_SECRET))
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Requests, models and people")


def sign_up(page: Any, operator: Any) -> None:
    """Sign up with the code from the outbox, which superusers may read."""
    page.goto(f"/{MODEL}")
    page.click("main a.button:has-text('Sign up')")
    page.fill("input[name=first_name]", "Ada")
    page.fill("input[name=last_name]", "Lovelace")
    page.fill("input[name=email]", "ada@example.org")
    page.fill("input[name=password1]", "a rather good password")
    page.keyboard.press("Enter")
    page.wait_for_selector("input[name=code]")
    text = wait_until(lambda: mail_text(operator, "Your code for Gatehouse"), "the email with the code")
    found = re.search(r"^\s*([A-Z0-9]{3,4}-?[A-Z0-9]{3,4})\s*$", text, re.MULTILINE)
    assert found is not None, text
    page.fill("input[name=code]", found[1])
    page.keyboard.press("Enter")
    page.wait_for_url(f"**/{MODEL}")


def mail_text(page: Any, subject: str) -> str:
    """Return the newest email on the outbox page with this subject, or "" if there is none yet."""
    page.goto("/outbox/")
    link = page.locator("main table a", has_text=subject).first
    if not link.count():
        return ""
    link.click()
    page.wait_for_selector("#mail")
    return str(page.inner_text("#mail"))


def ask_by_keyboard(page: Any) -> None:
    """Scroll the licence, fill in the form and send it, without a single click."""
    tab_to(page, "main a.button[href$='/request']")
    page.keyboard.press("Enter")
    page.wait_for_url("**/request")
    tab_to(page, ".text-box")
    page.keyboard.press("End")
    wait_until(lambda: page.evaluate("document.activeElement.scrollTop > 0"), "the licence to be scrolled")
    tab_to(page, "#id_f1")
    assert page.input_value("#id_f1") == "Ada"
    for field, text in (("#id_f3", "Analytical Society"), ("#id_f4", "United K"), ("#id_f5", "A study.")):
        tab_to(page, field)
        page.keyboard.type(text)
    tab_to(page, "main button[value=submit]")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=There is a problem")
    assert page.input_value("#id_f5") == "A study."
    tab_to(page, ".error-summary a")
    page.keyboard.press("Enter")
    wait_until(lambda: page.evaluate("document.activeElement.id === 'id_f7'"), "the focus on the answer")
    page.keyboard.press("Space")
    tab_to(page, "main button[value=submit]")
    page.keyboard.press("Enter")
    page.wait_for_selector("text=Your request is waiting for a reviewer")


def tab_to(page: Any, selector: str) -> None:
    """Press Tab until the element has the focus, as a person without a mouse does."""
    for _ in range(MOST_TABS):
        if page.evaluate("s => document.activeElement.matches(s)", selector):
            assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") != "none"
            return
        page.keyboard.press("Tab")
    pytest.fail(f"{selector} was not reached with {MOST_TABS} presses of Tab")


def approve(page: Any) -> None:
    page.goto("/admin/access_requests/accessrequest/")
    page.click("text=Ada Lovelace")
    page.wait_for_url("**/change/**")
    for text in ("Analytical Society", "United Kingdom", "A study.", "ada@example.org", "confirmed"):
        assert page.locator("main", has_text=text).count(), text
    page.fill("textarea[name=words]", "Good luck with the study!")
    page.click("button[value=approved]")
    page.wait_for_selector("text=is approved. The person has access")


def take_token(page: Any) -> str:
    """Return the token once the worker has published the weights."""

    def ready() -> bool:
        page.goto(f"/{MODEL}/access")
        return bool(page.locator(".badge.ready").count())

    wait_until(ready, "the weights")
    assert not SECRET.search(page.content())
    page.click("text=Show my token")
    page.wait_for_selector("text=This is the only time it is shown.")
    page.wait_for_load_state()
    found = SECRET.search(page.inner_text("#secret"))
    assert found is not None
    assert f"export HF_TOKEN={found[0]}" in page.content()
    return found[0]


def assert_shown_once(page: Any, secret: str) -> None:
    """Check that reloading or going back does not show the secret again, and that it opens the files."""
    page.reload()
    page.wait_for_selector("text=cannot be shown again")
    assert secret not in page.content()
    answer = page.request.get(
        f"/{MODEL}/resolve/main/config.json", headers={"Authorization": f"Bearer {secret}"}
    )
    assert (answer.status, answer.text()) == (200, '{"model_type": "llama"}\n')
