"""Notes, messages and templates on a request's page in the admin, and the event log's view of them."""

from __future__ import annotations

import html
from typing import Any

import pytest

from access_requests.models import AccessRequest, Message, MessageTemplate
from access_requests.services.catalogue.message_texts import save_template
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.requests.messages import add_note, write_to_reviewers

pytestmark = pytest.mark.django_db
REQUESTS = "/admin/access_requests/accessrequest"
LOG = "/admin/access_requests/event/"


def page(response: Any) -> str:
    return html.unescape(response.content.decode())


def write(browser: Any, request: AccessRequest, **fields: str) -> Any:
    return browser.post(f"{REQUESTS}/{request.pk}/message/", fields, follow=True)


def test_a_reviewer_writes_a_note_and_a_message(desk: Any, submit: Any) -> None:
    request = submit(desk.ada, desk.model)
    assert "The note is saved." in page(
        write(desk.rita_browser, request, kind="note", message_words="Seen at a <workshop>.")
    )
    shown = page(write(desk.rita_browser, request, kind="sent", message_words="Which models?"))
    assert "The message is sent to Ada Lovelace." in shown
    write_to_reviewers(request=request, applicant=desk.ada, words="The small ones.")
    shown = page(desk.olga_browser.get(f"{REQUESTS}/{request.pk}/change/"))
    for text in ("Seen at a <workshop>.", "rita to Ada Lovelace", "Which models?", "The small ones."):
        assert text in shown
    assert "message.noted" not in shown  # the thread shows it, with its event's number


@pytest.mark.parametrize(
    ("fields", "status", "sentence"),
    [
        ({"kind": "sent", "message_words": " "}, 400, "Write the message first."),
        ({"kind": "note", "message_words": ""}, 400, "Write the note first."),
        ({"kind": "shout", "message_words": "Hi"}, 422, "Select a valid choice"),
        ({"message_words": "Hi"}, 422, "This field is required"),
        ({"kind": "note", "message_words": "x" * 10_001}, 422, "at most 10000 characters"),
    ],
)
def test_a_message_that_cannot_be_stored_keeps_what_was_typed(
    desk: Any, submit: Any, fields: dict[str, str], status: int, sentence: str
) -> None:
    request = submit(desk.ada, desk.model)
    response = write(desk.rita_browser, request, **fields)
    assert response.status_code == status
    assert sentence in page(response)
    assert fields["message_words"].strip() in page(response)
    assert not Message.objects.exists()


def test_a_template_is_inserted_into_a_message_or_a_decision(desk: Any, submit: Any) -> None:
    request = submit(desk.ada, desk.model)
    template = save_template(model=desk.model, name="Papers", text="Dear {first_name}, which papers?")
    other = save_template(model=desk.other, name="Secret", text="Of another model")
    shown = page(
        write(
            desk.rita_browser,
            request,
            message_words="Hello.",
            template=str(template.pk),
            fill="1",
            kind="sent",
        )
    )
    assert "Hello.\n\nDear Ada, which papers?</textarea>" in shown
    decide = f"{REQUESTS}/{request.pk}/decide/"
    fields = {"words": "", "template": str(template.pk), "fill": "1", "reason_code": "use_unclear"}
    shown = page(desk.rita_browser.post(decide, fields))
    assert "Dear Ada, which papers?</textarea>" in shown
    assert '<option value="use_unclear" selected>' in shown
    for unknown in (str(other.pk), "0", "nonsense", "9" * 40, "²"):
        shown = page(write(desk.rita_browser, request, message_words="Hello.", template=unknown, fill="1"))
        assert "Hello.</textarea>" in shown
    assert not Message.objects.exists()
    request.refresh_from_db()
    assert request.is_open


def test_reviewers_see_no_note_about_their_own_request(desk: Any, submit: Any) -> None:
    request = submit(desk.rita, desk.model)
    add_note(request=request, reviewer=desk.olga, words="Rita never cites anyone.")
    shown = page(desk.rita_browser.get(f"{REQUESTS}/{request.pk}/change/"))
    assert "Rita never cites anyone." not in shown
    assert "Save as a note" not in shown
    note = Message.objects.get()
    assert f"event/{note.event_id}/change/" not in page(desk.rita_browser.get(LOG))
    assert f"event/{note.event_id}/change/" in page(desk.olga_browser.get(LOG))
    assert desk.rita_browser.get(f"{LOG}{note.event_id}/change/").status_code == 302
    assert "Rita never cites anyone." in page(desk.olga_browser.get(f"{LOG}{note.event_id}/change/"))


def test_others_cannot_write(desk: Any, submit: Any) -> None:
    request = submit(desk.ada, desk.model)
    write(desk.sam_browser, request, kind="note", message_words="Hello")
    assert desk.rita_browser.get(f"{REQUESTS}/{request.pk}/message/").status_code == 405
    assert not Message.objects.exists()


def test_an_owner_edits_templates(desk: Any) -> None:
    address = f"/admin/access_requests/gatedmodel/{desk.model.pk}/templates/"
    assert "There are none yet." in page(desk.olga_browser.get(address))
    shown = page(desk.olga_browser.post(address, {"name": "Papers", "text": "Dear {applicant}"}))
    assert "{applicant} is not a placeholder." in shown
    assert "Dear {applicant}</textarea>" in shown
    shown = page(desk.olga_browser.post(address, {"name": "Papers", "text": "Dear {name}"}, follow=True))
    assert "The template “Papers” is saved." in shown
    template = MessageTemplate.objects.get()
    one = f"{address}?template={template.pk}"
    assert "Dear {name}</textarea>" in page(desk.olga_browser.get(one))
    desk.olga_browser.post(one, {"name": "Papers", "text": "Hello {name}"})
    template.refresh_from_db()
    assert template.text == "Hello {name}"
    shown = page(desk.olga_browser.post(one, {"remove": "1"}, follow=True))
    assert "The template “Papers” is removed." in shown
    assert not MessageTemplate.objects.exists()
    assert desk.olga_browser.get(f"{address}?template=nonsense").status_code == 200


def test_only_owners_edit_templates(desk: Any) -> None:
    address = f"/admin/access_requests/gatedmodel/{desk.model.pk}/templates/"
    assign_role(model=desk.model, user=desk.sam, role="reviewer")
    for browser in (desk.rita_browser, desk.sam_browser):
        browser.post(address, {"name": "Papers", "text": "Hello"})
    assert not MessageTemplate.objects.exists()
