"""The admin's pages of followed repositories, as staff see and use them."""

from __future__ import annotations

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from access_requests.enums import FollowState
from access_requests.models import FollowedRepo, Grant
from access_requests.services.catalogue.roles import assign_role
from tests.access_requests.admin.conftest import staff_browser
from tests.access_requests.services.following.conftest import Sides
from tests.access_requests.services.following.proxy import Reply

__all__ = ["staff_browser"]

pytestmark = pytest.mark.django_db
LISTS = ["followedrepo", "remoterequest"]


def page(name: str, row: Any, *, action: str = "change") -> str:
    return reverse(f"admin:access_requests_{name}_{action}", args=[row.pk])


def text(client: Client, address: str) -> str:
    response = client.get(address)
    assert response.status_code == 200
    return " ".join(response.content.decode().split())


def test_imported_request_shows_where_it_comes_from(
    sides: Sides, staff_browser: Any, make_person: Any
) -> None:
    name = sides.ask()
    sides.proxy.change(
        "/pending",
        lambda items: [item | {"fields": {**item["fields"], "Shoe <b>size": "42"}} for item in items],
    )
    sides.poll()
    make_person("clement", email=f"{name}@far.example.org")
    rita = staff_browser(sides.rita)
    shown = text(rita, page("accessrequest", sides.remote(name).request))
    assert f"From {sides.far_id} at {sides.followed.host}" in shown
    assert f'(<a href="{sides.proxy.url}/{name}"' in shown
    assert f"{name}@far.example.org" in shown
    assert "as given there, not confirmed here" in shown
    assert "Shoe &lt;b&gt;size" in shown
    assert "clement (clement) has confirmed this address here." in shown
    assert "none here; imported, cannot sign in" in shown
    assert "Ask for changes" not in shown


def test_deciding_on_the_page_says_that_it_is_told_there(sides: Sides, staff_browser: Any) -> None:
    name = sides.ask()
    sides.poll()
    address = page("accessrequest", sides.remote(name).request, action="decide")
    response = staff_browser(sides.rita).post(
        address, {"outcome": "approved", "submission": "1"}, follow=True
    )
    assert f"The decision is reported to {sides.followed.host}." in response.content.decode()
    assert sides.tell() == [True]
    assert sides.place(name) == "accepted"
    decided = text(staff_browser(sides.rita), page("accessrequest", sides.remote(name).request))
    assert 'value="pending">Reopen' in decided
    assert "Emailed to the applicant" not in decided


def test_difference_is_shown_with_both_states_and_taken_with_one_click(
    sides: Sides, staff_browser: Any
) -> None:
    name = sides.ask()
    sides.poll()
    sides.put(name, "accepted")
    sides.poll()
    remote, rita = sides.remote(name), staff_browser(sides.rita)
    followed = text(rita, page("followedrepo", sides.followed))
    assert (
        '<td><span class="state pending">pending</span></td><td><span class="state accepted">accepted</span></td>'
        in followed
    )
    differ = text(rita, reverse("admin:access_requests_remoterequest_changelist") + "?sides=differ")
    assert name in differ
    for address in (page("remoterequest", remote), page("accessrequest", remote.request)):
        assert "Take theirs: accepted" in text(rita, address)
        assert "Report ours: pending" in text(rita, address)
    stale = rita.post(page("remoterequest", remote, action="take"), {"seen": "rejected"}, follow=True)
    assert "look again." in stale.content.decode()
    assert Grant.objects.count() == 0
    rita.post(page("remoterequest", remote, action="take"), {"seen": "accepted"})
    assert Grant.objects.get().granted_by == sides.rita
    assert "Both sides agree." in text(rita, page("remoterequest", remote))
    agree = text(rita, reverse("admin:access_requests_remoterequest_changelist") + "?sides=agree")
    assert name in agree


def test_problem_of_the_token_is_one_sentence_on_the_page(sides: Sides, staff_browser: Any) -> None:
    sides.proxy.instead("user-access-request", Reply(401, {"error": "Invalid username or password."}))
    sides.poll()
    rita = staff_browser(sides.rita)
    shown = text(rita, page("followedrepo", sides.followed))
    assert "does not let our token decide about" in shown
    assert "refused: waits for another token" in shown
    rita.post(page("followedrepo", sides.followed, action="ask"))
    assert FollowedRepo.objects.get().state == FollowState.FOLLOWING


@pytest.mark.slow
@pytest.mark.slow
def test_owner_pauses_changes_and_ends_it(sides: Sides, staff_browser: Any) -> None:
    rita = staff_browser(sides.rita)
    bad = rita.post(page("followedrepo", sides.followed, action="settings"), {"poll_every": "5"})
    assert bad.status_code == 422
    rita.post(
        page("followedrepo", sides.followed, action="settings"),
        {"poll_every": "120", "mail_applicants": "on"},
    )
    assert FollowedRepo.objects.values_list("poll_every", "mail_applicants").get() == (120, True)
    for action, state in (("pause", "paused"), ("ask", "following"), ("end", "ended")):
        rita.post(page("followedrepo", sides.followed, action=action))
        assert FollowedRepo.objects.get().state == state
    said = rita.post(page("followedrepo", sides.followed, action="pause"), follow=True).content.decode()
    assert "is not followed any more, so this cannot be done now." in said


def test_reviewer_sees_it_and_only_an_owner_changes_it(
    sides: Sides, staff_browser: Any, make_person: Any
) -> None:
    ron = make_person("ron")
    assign_role(model=sides.model, user=ron, role="reviewer")
    browser = staff_browser(ron)
    shown = text(browser, page("followedrepo", sides.followed))
    assert "Unfollow" not in shown
    for action in ("ask", "pause", "end"):
        assert (
            "You are not an owner of ai/tulu: ask one."
            in browser.post(page("followedrepo", sides.followed, action=action), follow=True).content.decode()
        )
    assert FollowedRepo.objects.get().state == FollowState.FOLLOWING


def test_others_see_and_do_nothing(
    sides: Sides, staff_browser: Any, make_person: Any, make_model: Any
) -> None:
    name = sides.ask()
    sides.poll()
    sides.put(name, "accepted")
    sides.poll()
    sam = make_person("sam")
    assign_role(model=make_model("ai/other"), user=sam, role="owner")
    browser = staff_browser(sam)
    for kind in LISTS:
        assert name not in text(browser, reverse(f"admin:access_requests_{kind}_changelist"))
        assert sides.far_id not in text(browser, reverse(f"admin:access_requests_{kind}_changelist"))
    remote = sides.remote(name)
    for address in (page("followedrepo", sides.followed), page("remoterequest", remote)):
        assert browser.get(address).status_code == 302
    for action in ("ask", "pause", "end", "settings"):
        browser.post(page("followedrepo", sides.followed, action=action))
    for action in ("take", "push"):
        browser.post(page("remoterequest", remote, action=action), {"seen": "accepted"})
    assert (FollowedRepo.objects.get().state, Grant.objects.count()) == (FollowState.FOLLOWING, 0)


def test_owner_follows_only_what_an_operator_gave_a_token_for(
    sides: Sides, staff_browser: Any, make_model: Any, settings: Any
) -> None:
    other = make_model("ai/other")
    assign_role(model=other, user=sides.rita, role="owner")
    browser = staff_browser(sides.rita)
    add = reverse("admin:access_requests_followedrepo_add")
    shown = text(browser, add)
    assert "ai/other" in shown
    assert ">ai/tulu<" not in shown  # it already follows a repository
    elsewhere = {"model": other.pk, "endpoint": "http://127.0.0.1:1", "far_id": "lab/x"}
    assert browser.post(add, elsewhere).status_code == 422
    bad = browser.post(add, elsewhere | {"endpoint": sides.proxy.url, "far_id": "a b"})
    assert "is not a repository id" in bad.content.decode()
    taken = browser.post(add, elsewhere | {"endpoint": sides.proxy.url, "far_id": sides.far_id.upper()})
    assert "is followed already" in taken.content.decode()
    browser.post(add, elsewhere | {"endpoint": sides.proxy.url, "far_id": "lab/x"})
    assert FollowedRepo.objects.get(model=other).far_id == "lab/x"


def test_person_here_with_the_same_confirmed_address_is_a_hint_alone(
    sides: Sides, staff_browser: Any, make_person: Any, submit: Any
) -> None:
    name = sides.ask()
    sides.poll()
    here = make_person("clement", email=f"{name}@far.example.org")
    shown = text(staff_browser(sides.rita), page("accessrequest", submit(here, sides.model)))
    assert "Perhaps the same person" in shown
    assert sides.remote(name).request.applicant != here
