"""Grants, events and emails in the admin."""

from __future__ import annotations

import html
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from access_requests.enums import MailState, TokenKind
from access_requests.models import AccessToken, Event, Grant, MailServer, OutgoingMail
from access_requests.services.emails.write import queue_pressing
from access_requests.services.grants import grant_access
from access_requests.services.tokens import issue_person_token, issue_token

pytestmark = pytest.mark.django_db

BASE = "/admin/access_requests"


def page(response: Any) -> str:
    return html.unescape(response.content.decode())


def test_grant_is_revoked_with_its_reason(desk: Any) -> None:
    grant = grant_access(model=desk.model, email=desk.ada.email, days=3).grant
    token = issue_token(grant=grant, user=desk.ada, name="laptop").token
    shown = page(desk.rita_browser.get(f"{BASE}/grant/{grant.pk}/change/"))
    assert "Revoke" in shown
    assert token.hint in shown
    assert token.digest not in shown
    assert desk.rita_browser.get(f"{BASE}/grant/{grant.pk}/revoke/").status_code == 200
    assert Grant.objects.get().revoked_at is None
    sent = desk.rita_browser.post(f"{BASE}/grant/{grant.pk}/revoke/", {"reason": "Shared."})
    assert sent["Location"] == f"{BASE}/grant/{grant.pk}/change/"
    grant.refresh_from_db()
    assert (grant.revoked_by, grant.revoke_reason) == (desk.rita, "Shared.")
    again = desk.rita_browser.post(f"{BASE}/grant/{grant.pk}/revoke/", follow=True)
    assert "has already ended" in page(again)


def test_grants_of_other_models_stay_out_of_reach(desk: Any) -> None:
    grant = grant_access(model=desk.model, email=desk.ada.email, days=3).grant
    shown = page(desk.sam_browser.get(f"{BASE}/grant/"))
    assert "ada" not in re.sub(
        r'value="[A-Za-z0-9]{64}"', "", shown
    )  # the form's random text may contain any word
    assert desk.sam_browser.get(f"{BASE}/grant/{grant.pk}/change/")["Location"] == "/admin/"
    assert desk.sam_browser.post(f"{BASE}/grant/{grant.pk}/revoke/", {"reason": "x"})["Location"] == "/admin/"
    grant.refresh_from_db()
    assert grant.revoked_at is None
    assert desk.root_browser.get(f"{BASE}/grant/{grant.pk}/delete/").status_code == 403


@pytest.mark.parametrize("standing", ["live", "ended", "revoked", "nonsense"])
def test_grants_are_filtered_by_standing(desk: Any, standing: str) -> None:
    grant_access(model=desk.model, email=desk.ada.email, days=3)
    shown = page(desk.rita_browser.get(f"{BASE}/grant/?standing={standing}"))
    assert ("(ada)" in shown) == (standing in {"live", "nonsense"})


def test_events_are_read_only_and_of_my_models(desk: Any) -> None:
    event = Event.objects.filter(model=desk.model).first()
    assert desk.rita_browser.get(f"{BASE}/event/{event.pk}/change/").status_code == 200
    assert desk.sam_browser.get(f"{BASE}/event/{event.pk}/change/")["Location"] == "/admin/"
    assert "ai/tulu" not in page(desk.sam_browser.get(f"{BASE}/event/"))
    assert desk.root_browser.post(f"{BASE}/event/{event.pk}/change/", {"kind": "x"}).status_code == 403
    assert desk.root_browser.get(f"{BASE}/event/add/").status_code == 403
    assert desk.root_browser.get(f"{BASE}/event/{event.pk}/delete/").status_code == 403


def test_mails_are_for_superusers_and_tried_again(desk: Any) -> None:
    grant_access(model=desk.model, email=desk.ada.email, days=3)
    mail = OutgoingMail.objects.get()
    OutgoingMail.objects.update(state=MailState.FAILED, attempts=40)
    assert desk.rita_browser.get(f"{BASE}/outgoingmail/").status_code == 403
    assert desk.root_browser.get(f"{BASE}/outgoingmail/{mail.pk}/change/").status_code == 200
    data = {"action": "try_again", "_selected_action": mail.pk}
    assert "1 email will be sent again" in page(
        desk.root_browser.post(f"{BASE}/outgoingmail/", data, follow=True)
    )
    mail.refresh_from_db()
    assert (mail.state, mail.attempts) == (MailState.WAITING, 0)
    assert "nothing to try again" in page(desk.root_browser.post(f"{BASE}/outgoingmail/", data, follow=True))


def test_next_try_of_a_mail_waits_for_the_servers_pause(desk: Any) -> None:
    grant_access(model=desk.model, email=desk.ada.email, days=3)
    mail = OutgoingMail.objects.get()
    pages = [f"{BASE}/outgoingmail/", f"{BASE}/outgoingmail/{mail.pk}/change/"]
    OutgoingMail.objects.update(next_try_at=datetime(2026, 1, 1, 12, tzinfo=UTC))
    for path in pages:
        assert "2026-01-01 12:00:00 UTC" in page(desk.root_browser.get(path))
    MailServer.objects.create(
        pk=1, failures=1, paused_until=datetime(2026, 1, 1, 13, tzinfo=UTC), failing_since=mail.created_at
    )
    for path in pages:
        assert "2026-01-01 13:00:00 UTC" in page(desk.root_browser.get(path))


@pytest.mark.parametrize("name", ["grant", "event", "outgoingmail", "gatedmodel"])
def test_queries_do_not_grow_with_the_list(desk: Any, make_model: Any, name: str) -> None:
    counts = []
    for number in range(3):
        grant_access(model=make_model(f"ai/m{number}"), email=f"p{number}@example.org", days=3)
        desk.root_browser.get(f"{BASE}/{name}/")
        with CaptureQueriesContext(connection) as seen:
            assert desk.root_browser.get(f"{BASE}/{name}/").status_code == 200
        counts.append(len(seen))
    assert counts[0] == counts[-1]


def test_index_names_the_desk(desk: Any) -> None:
    shown = page(desk.rita_browser.get("/admin/"))
    assert "Gatehouse" in shown
    assert "Access requests" in shown
    assert "Outgoing emails" not in shown


def test_token_is_revoked_with_its_reason_and_its_person_told(desk: Any) -> None:
    grant = grant_access(model=desk.model, email=desk.ada.email, days=3).grant
    issued = issue_token(grant=grant, user=desk.ada, name="laptop", networks=["192.0.2.0/24"])
    listed = page(desk.rita_browser.get(f"{BASE}/accesstoken/"))
    shown = page(desk.rita_browser.get(f"{BASE}/accesstoken/{issued.token.pk}/change/"))
    assert "192.0.2.0/24" in shown
    for text in (listed, shown):
        assert issued.token.hint in text
        assert issued.token.digest not in text
    address = f"{BASE}/accesstoken/{issued.token.pk}/revoke/"
    assert desk.rita_browser.get(address).status_code == 200
    assert AccessToken.objects.get().revoked_at is None
    desk.rita_browser.post(address, {"reason": "Seen in a paste."})
    stored = AccessToken.objects.get()
    assert (stored.revoked_at is None, stored.revoke_reason) == (False, "Seen in a paste.")
    assert grant.is_live()
    mail = OutgoingMail.objects.get(key=f"token-revoked:{stored.pk}")
    assert "The reason: Seen in a paste." in mail.text
    assert Event.objects.get(kind="token.revoked").actor == desk.rita
    assert "has already ended" in page(desk.rita_browser.post(address, follow=True))


def test_tokens_of_other_models_and_of_persons_stay_out_of_reach(desk: Any) -> None:
    grant = grant_access(model=desk.model, email=desk.ada.email, days=3).grant
    mine = issue_token(grant=grant, user=desk.ada, name="laptop").token
    own = issue_person_token(user=desk.ada, kind=TokenKind.USER, name="everything").token
    for browser, token in ((desk.sam_browser, mine), (desk.rita_browser, own)):
        assert token.hint not in page(browser.get(f"{BASE}/accesstoken/"))
        assert browser.get(f"{BASE}/accesstoken/{token.pk}/change/")["Location"] == "/admin/"
        assert browser.post(f"{BASE}/accesstoken/{token.pk}/revoke/")["Location"] == "/admin/"
    assert AccessToken.objects.filter(revoked_at=None).count() == 2
    assert own.hint in page(desk.root_browser.get(f"{BASE}/accesstoken/"))
    assert desk.root_browser.get(f"{BASE}/accesstoken/{own.pk}/delete/").status_code == 403
    assert desk.root_browser.get(f"{BASE}/accesstoken/add/").status_code == 403


@pytest.mark.parametrize("standing", ["live", "ended", "revoked", "nonsense"])
def test_tokens_are_filtered_by_standing(desk: Any, standing: str) -> None:
    grant = grant_access(model=desk.model, email=desk.ada.email, days=3).grant
    for name in ("live", "ended", "revoked"):
        issue_token(grant=grant, user=desk.ada, name=f"the {name} one")
    AccessToken.objects.filter(name="the ended one").update(expires_at=timezone.now())
    AccessToken.objects.filter(name="the revoked one").update(revoked_at=timezone.now())
    shown = page(desk.rita_browser.get(f"{BASE}/accesstoken/?standing={standing}"))
    for name in ("live", "ended", "revoked"):
        assert (f"the {name} one" in shown) == (standing in {name, "nonsense"})


def test_staff_is_told_while_the_mail_server_fails(desk: Any) -> None:
    grant_access(model=desk.model, email=desk.ada.email, days=3)
    told = "The mail server has not accepted email since"
    for address in ("/admin/", f"{BASE}/outgoingmail/"):
        assert told not in page(desk.root_browser.get(address))
    now = timezone.now()
    MailServer.objects.create(pk=1, failures=2, failing_since=now, paused_until=now, last_error="421 busy")
    for address in ("/admin/", f"{BASE}/outgoingmail/"):
        shown = page(desk.root_browser.get(address))
        assert f"{told} {now:%Y-%m-%d %H:%M} UTC (421 busy). Waiting emails: 1." in shown
    shown = page(desk.rita_browser.get("/admin/"))
    assert f"{told} {now:%Y-%m-%d %H:%M} UTC. Waiting emails: 1." in shown
    assert "421 busy" not in shown  # the server's reply can contain a person's address


def test_list_of_emails_shows_what_went_wrong_and_no_code(desk: Any) -> None:
    mail = queue_pressing(
        to="ada@example.org", subject="Your code", text="ABCD-EFGH", useful_for=timedelta(days=1)
    )
    OutgoingMail.objects.update(last_error="450 4.2.0 come back later")
    assert "450 4.2.0 come back later" in page(desk.root_browser.get(f"{BASE}/outgoingmail/"))
    shown = page(desk.root_browser.get(f"{BASE}/outgoingmail/{mail.pk}/change/"))
    assert "ABCD-EFGH" not in shown
    assert "Not shown, since it holds a code" in shown
