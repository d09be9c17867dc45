from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext

from access_requests.models import DeviceCode, Machine, TrustedRepository
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.grants import grant_access, revoke_access
from access_requests.services.oauth import codes
from access_requests.services.oauth.trusted import trust_repository
from tests.sign_in import sign_in

pytestmark = pytest.mark.django_db
GITHUB = "https://token.actions.githubusercontent.com"


@pytest.fixture(autouse=True)
def no_counts() -> None:
    cache.clear()


@pytest.fixture
def ada(make_person: Callable[..., Any]) -> Any:
    return make_person("ada", first_name="Ada")


@pytest.fixture
def browser_of(client: Client) -> Callable[[Any], Client]:
    def make(person: Any) -> Client:
        return sign_in(Client(REMOTE_ADDR="198.51.100.7"), person)

    return make


@pytest.fixture
def begun() -> codes.Begun:
    return codes.begin_sign_in(
        client_id="26be6b09-91c5-47da-9861-d2d2bb7a7e36",
        client="hf/2.4.0 <script>",
        address="203.0.113.7",
    )


def page(answer: Any) -> str:
    return " ".join(answer.content.decode().split())


def link(begun: codes.Begun) -> str:
    return f"/oauth/activate?user_code={codes.shown(begun.code.user_code)}"


def test_the_page_says_what_a_yes_would_give(
    browser_of: Callable[[Any], Client],
    make_person: Callable[..., Any],
    make_model: Callable[..., Any],
    ada: Any,
    begun: codes.Begun,
) -> None:
    granted, reviewed, other = (make_model(f"ai/{name}") for name in ("granted", "reviewed", "other"))
    grant_access(model=granted, email=ada.email, days=30)
    assign_role(model=reviewed, user=ada, role="reviewer")
    revoked = make_model("ai/revoked")
    grant_access(model=revoked, email=ada.email, days=30)
    revoke_access(model=revoked, user=ada, reason="Resold.", actor=None)
    shown = page(browser_of(ada).get(link(begun)))
    assert (
        "every model that you may read: <code>ai/granted</code>, <code>ai/reviewed</code>, and those" in shown
    )
    assert "At present there are none" not in shown
    root = browser_of(make_person("root", is_superuser=True))
    assert "every model of this portal: you are a superuser." in page(root.get(link(begun)))
    bob = browser_of(make_person("bob"))
    assert "At present there are none" in page(bob.get(link(begun)))
    assert other.repo_id not in shown


def approve(browser: Client, begun: codes.Begun, **fields: str) -> Any:
    given = {"user_code": begun.code.user_code, "decision": "approve", "name": "laptop"}
    return browser.post("/oauth/activate", given | fields, follow=True)


def test_signing_in_first_comes_back_to_the_code(client: Client, begun: codes.Begun, ada: Any) -> None:
    address = link(begun)
    answer = client.get(address)
    assert answer.status_code == 302
    assert answer.url.startswith("/accounts/login/?next=/oauth/activate%3Fuser_code%3D")
    signed_in = client.post(answer.url, {"login": "ada@example.org", "password": "a good password"})
    assert (signed_in.status_code, signed_in.url) == (302, address)


def test_the_page_names_who_asks_and_what_it_allows(
    browser_of: Callable[[Any], Client], begun: codes.Begun, ada: Any, make_model: Callable[..., Any]
) -> None:
    from access_requests.services.grants import grant_access

    grant_access(model=make_model("ai/one"), email=ada.email, days=9)
    make_model("ai/not-hers")
    answer = browser_of(ada).get(link(begun))
    shown = page(answer)
    for words in (
        codes.shown(begun.code.user_code),
        "hf auth login (huggingface_hub)",
        "It calls itself hf/2.4.0 &lt;script&gt;. This is its own claim",
        "203.0.113.7",
        "not this browser&#x27;s address (198.51.100.7)",
        "<code>ai/one</code>",
        "Approve only a sign-in that you started yourself",
        'name="name" value="hf at 203.0.113.7"',
    ):
        assert words in shown or words.replace("&#x27;", "'") in shown, words
    assert "ai/not-hers" not in shown
    assert "no-store" in answer["Cache-Control"]


@pytest.mark.parametrize("more", ["", "&decision=approve&name=x", "&decision=approve"])
def test_a_link_alone_approves_nothing(
    browser_of: Callable[[Any], Client], begun: codes.Begun, ada: Any, more: str
) -> None:
    assert browser_of(ada).get(link(begun) + more).status_code == 200
    assert browser_of(ada).head(link(begun) + more).status_code == 200
    assert DeviceCode.objects.get().state == "waiting"


def test_a_forged_form_approves_nothing(begun: codes.Begun, ada: Any) -> None:
    browser = Client(enforce_csrf_checks=True)
    sign_in(browser, ada)
    assert approve(browser, begun).status_code == 403
    assert not Machine.objects.exists()


def test_approval_and_sign_out(browser_of: Callable[[Any], Client], begun: codes.Begun, ada: Any) -> None:
    browser = browser_of(ada)
    assert "Go back to your terminal" in page(approve(browser, begun, name="My laptop"))
    machine = Machine.objects.get()
    assert (machine.user, machine.name) == (ada, "My laptop")
    again = approve(browser, begun, name="second tab")
    assert (again.status_code, Machine.objects.count()) == (409, 1)
    assert "already approved" in page(again)
    asked = page(browser.get(f"/me/machines/{machine.pk}/sign-out"))
    for words in ("Sign “My laptop” out?", "203.0.113.7", "Programs that use them are refused at once"):
        assert words in asked, words
    assert Machine.objects.get().is_live()
    shown = page(browser.post(f"/me/machines/{machine.pk}/sign-out", follow=True))
    assert "“My laptop” is signed out" in shown
    assert "signed out on the page" in shown
    assert browser.get(f"/me/machines/{machine.pk}/sign-out")["Location"] == "/me/machines"


def test_denial(browser_of: Callable[[Any], Client], begun: codes.Begun, ada: Any) -> None:
    assert "Denied" in page(approve(browser_of(ada), begun, decision="deny"))
    assert (DeviceCode.objects.get().state, Machine.objects.count()) == ("denied", 0)


@pytest.mark.parametrize("decision", ["", "yes", "APPROVE"])
def test_an_unclear_answer_asks_again(
    browser_of: Callable[[Any], Client], begun: codes.Begun, ada: Any, decision: str
) -> None:
    assert "Sign this machine in?" in page(approve(browser_of(ada), begun, decision=decision))
    assert DeviceCode.objects.get().state == "waiting"


@pytest.mark.parametrize("name", ["", "x" * 101, "DEFAULT", "a]b", "a\0b"])
def test_a_bad_name_is_said_beside_the_field(
    browser_of: Callable[[Any], Client], begun: codes.Begun, ada: Any, name: str
) -> None:
    answer = approve(browser_of(ada), begun, name=name)
    assert answer.status_code == 422
    assert "There is a problem" in page(answer)
    assert DeviceCode.objects.get().state == "waiting"


@pytest.mark.parametrize("typed", ["BCDF-GHJK", "x", "x" * 5000, "%00", "<script>", "٣" * 8])
def test_a_wrong_code_is_said_beside_the_field(
    browser_of: Callable[[Any], Client], ada: Any, typed: str
) -> None:
    browser = browser_of(ada)
    for answer in (
        browser.get("/oauth/activate", {"user_code": typed}),
        browser.post("/oauth/activate", {"user_code": typed, "decision": "approve", "name": "x"}),
    ):
        assert answer.status_code in {404, 422}
        assert "There is a problem" in page(answer)
        assert "<script>" not in page(answer).replace("<script src", "")


def test_guessing_ends_with_a_sentence(
    browser_of: Callable[[Any], Client], begun: codes.Begun, ada: Any
) -> None:
    browser = browser_of(ada)
    statuses = [browser.get("/oauth/activate?user_code=BCDFGHJK").status_code for _ in range(11)]
    assert statuses == [404] * 10 + [429]
    assert "Too many wrong codes" in page(browser.get(link(begun)))


def test_machines_are_seen_and_signed_out_by_their_person_alone(
    browser_of: Callable[[Any], Client], begun: codes.Begun, ada: Any, make_person: Callable[..., Any]
) -> None:
    approve(browser_of(ada), begun, name="Ada's own laptop")
    machine = Machine.objects.get()
    eve = browser_of(make_person("eve"))
    assert "own laptop" in page(browser_of(ada).get("/me/machines"))
    assert "own laptop" not in page(eve.get("/me/machines"))
    assert eve.post(f"/me/machines/{machine.pk}/sign-out").status_code == 404
    assert eve.get(f"/me/machines/{machine.pk}/sign-out").status_code == 404
    assert machine.is_live()
    assert Machine.objects.get().signed_out_at is None
    for path in ("/me/machines", "/me/trusted", "/oauth/activate"):
        assert Client().get(path).status_code == 302


def test_a_repository_is_trusted_and_removed(
    browser_of: Callable[[Any], Client], ada: Any, make_model: Callable[..., Any], make_person: Any
) -> None:
    from access_requests.services.grants import grant_access

    one, hidden = make_model("ai/one"), make_model("ai/hidden", listed=False)
    grant_access(model=one, email=ada.email, days=9)
    browser = browser_of(ada)
    empty = page(browser.get("/me/trusted"))
    assert "trust any repository yet" in empty
    assert "ai/one" in empty
    assert "ai/hidden" not in empty
    form = {"issuer": GITHUB, "repository": "acme/eval", "model": one.pk, "ref": "refs/heads/main"}
    stolen = browser.post("/me/trusted", form | {"model": hidden.pk})
    assert (stolen.status_code, TrustedRepository.objects.count()) == (422, 0)
    assert "acme/eval is now trusted" in page(browser.post("/me/trusted", form, follow=True))
    twice = browser.post("/me/trusted", form)
    assert (twice.status_code, TrustedRepository.objects.count()) == (409, 1)
    row = TrustedRepository.objects.get()
    assert browser_of(make_person("eve")).post(f"/me/trusted/{row.pk}/remove").status_code == 404
    asked = page(browser.get(f"/me/trusted/{row.pk}/remove"))
    for words in ("Stop trusting acme/eval?", "ai/one", "refs/heads/main", "running jobs are refused"):
        assert words in asked, words
    assert TrustedRepository.objects.get().removed_at is None
    assert "not trusted any more" in page(browser.post(f"/me/trusted/{row.pk}/remove", follow=True))
    assert (
        browser.post("/me/trusted", {"issuer": "https://evil.example", "repository": "a/b"}).status_code
        == 422
    )
    assert browser.post("/me/trusted", {"issuer": GITHUB, "repository": "x"}).status_code == 400


def test_lists_cost_the_same_whatever_their_length(browser_of: Callable[[Any], Client], ada: Any) -> None:
    browser = browser_of(ada)
    counts = []
    for n in range(4):
        approve(browser, codes.begin_sign_in(client_id="x", client="", address=None), name=f"m{n}")
        trust_repository(user=ada, issuer=GITHUB, repository=f"acme/r{n}")
        with CaptureQueriesContext(connection) as context:
            assert browser.get("/me/machines").status_code == browser.get("/me/trusted").status_code == 200
        counts.append(len(context))
    assert counts[1:] == [counts[1]] * 3
