"""Notes, messages in both directions, message templates, and what the log says about them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.contrib.auth import get_user_model
from django.db import ProgrammingError, transaction

from access_requests.enums import MessageKind
from access_requests.errors import Conflict, Invalid, NotAllowed
from access_requests.models import Event, Message, MessageTemplate, OutgoingMail
from access_requests.services.catalogue.message_texts import (
    MOST_TEMPLATES,
    fill_template,
    remove_template,
    save_template,
)
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.event_log.verify import message_problems, verify_log
from access_requests.services.requests.claims import claim_request
from access_requests.services.requests.decide import record_decision
from access_requests.services.requests.messages import (
    MOST_UNANSWERED,
    add_note,
    may_read_notes,
    send_message,
    thread_of,
    write_to_reviewers,
)
from access_requests.services.requests.submit import start_request, withdraw_request

pytestmark = pytest.mark.django_db


@pytest.fixture
def people(make_person: Callable[..., Any], make_model: Callable[..., Any], submit: Any) -> Any:
    """Return applicant ada with a submitted request, owner olga, reviewers rita and rolf, and stranger sam."""

    class People:
        ada, olga, rita, rolf, sam = (make_person(name) for name in ("ada", "olga", "rita", "rolf", "sam"))
        model = make_model()

    assign_role(model=People.model, user=People.olga, role="owner")
    for reviewer in (People.rita, People.rolf):
        assign_role(model=People.model, user=reviewer, role="reviewer")
    People.request = submit(People.ada, People.model)
    OutgoingMail.objects.all().delete()
    return People


def words(messages: list[Message]) -> list[tuple[str, str, str]]:
    return [(one.kind, one.author.username, one.words) for one in messages]


def emailed() -> set[str]:
    return set(OutgoingMail.objects.values_list("to", flat=True))


def test_a_thread_has_notes_for_reviewers_only(people: Any) -> None:
    state = people.request.state
    add_note(request=people.request, reviewer=people.rita, words="Looks\0 fine. ")
    send_message(request=people.request, reviewer=people.rita, words="Which models?")
    write_to_reviewers(request=people.request, applicant=people.ada, words="The small ones.")

    assert words(thread_of(people.request, notes=True)) == [
        ("note", "rita", "Looks fine."),
        ("sent", "rita", "Which models?"),
        ("answer", "ada", "The small ones."),
    ]
    assert words(thread_of(people.request, notes=False))[0] == ("sent", "rita", "Which models?")
    people.request.refresh_from_db()
    assert people.request.state == state
    assert verify_log().problems == []
    kinds = Event.objects.filter(kind__startswith="message.").values_list("kind", flat=True)
    assert list(kinds) == ["message.noted", "message.sent", "message.answered"]


def test_a_message_is_emailed_and_a_note_is_not(people: Any) -> None:
    add_note(request=people.request, reviewer=people.rita, words="Ask Rolf.")
    assert emailed() == set()
    send_message(request=people.request, reviewer=people.rita, words="Which models?")
    mail = OutgoingMail.objects.get()
    assert mail.to == people.ada.email
    assert "Which models?" in mail.text
    assert f"/{people.model.repo_id}/request/messages" in mail.text
    assert "rita" not in mail.text


def test_an_answer_reaches_who_works_on_the_request(people: Any) -> None:
    write_to_reviewers(request=people.request, applicant=people.ada, words="How long does it take?")
    assert emailed() == {people.olga.email, people.rita.email, people.rolf.email}

    OutgoingMail.objects.all().delete()
    send_message(request=people.request, reviewer=people.rolf, words="A week.")
    OutgoingMail.objects.all().delete()
    write_to_reviewers(request=people.request, applicant=people.ada, words="Thank you.")
    assert emailed() == {people.rolf.email}

    OutgoingMail.objects.all().delete()
    claim_request(request=people.request, reviewer=people.rita)
    write_to_reviewers(request=people.request, applicant=people.ada, words="One more thing.")
    assert emailed() == {people.rita.email}

    OutgoingMail.objects.all().delete()
    assign_role(model=people.model, user=people.rita, role="")
    write_to_reviewers(request=people.request, applicant=people.ada, words="And another.")
    assert emailed() == {people.rolf.email}


def test_who_may_not_write(people: Any, make_person: Callable[..., Any]) -> None:
    for write in (add_note, send_message):
        with pytest.raises(NotAllowed, match="You are not a reviewer"):
            write(request=people.request, reviewer=people.sam, words="Hello")
        with pytest.raises(Invalid, match="first"):
            write(request=people.request, reviewer=people.rita, words=" \n")
        with pytest.raises(Invalid, match="at most 10,000"):
            write(request=people.request, reviewer=people.rita, words="x" * 10_001)
    with pytest.raises(NotAllowed, match="belongs to someone else"):
        write_to_reviewers(request=people.request, applicant=people.sam, words="Hello")
    assert not Message.objects.exists()


def test_reviewers_do_not_read_or_write_notes_about_themselves(people: Any) -> None:
    assign_role(model=people.model, user=people.ada, role="reviewer")
    assert not may_read_notes(people.request, people.ada)
    assert may_read_notes(people.request, people.rita)
    with pytest.raises(NotAllowed, match="your own request"):
        add_note(request=people.request, reviewer=people.ada, words="Approve this.")


def test_a_draft_has_no_messages(people: Any, make_person: Callable[..., Any]) -> None:
    draft = start_request(model=people.model, applicant=people.sam)
    with pytest.raises(Conflict, match="draft"):
        add_note(request=draft, reviewer=people.rita, words="Early.")
    with pytest.raises(Conflict, match="closed"):
        write_to_reviewers(request=draft, applicant=people.sam, words="Early.")


def test_writing_about_a_closed_request_needs_a_message_of_a_reviewer(people: Any) -> None:
    withdraw_request(request=people.request, applicant=people.ada)
    with pytest.raises(Conflict, match=r"is closed\. You can ask again"):
        write_to_reviewers(request=people.request, applicant=people.ada, words="Hello?")
    send_message(request=people.request, reviewer=people.rita, words="Why did you withdraw it?")
    write_to_reviewers(request=people.request, applicant=people.ada, words="I found another model.")


def test_an_applicant_can_write_only_so_much_without_an_answer(people: Any) -> None:
    for number in range(MOST_UNANSWERED):
        write_to_reviewers(request=people.request, applicant=people.ada, words=f"Hello {number}?")
        add_note(request=people.request, reviewer=people.rita, words="Impatient.")
    with pytest.raises(Conflict, match="wait until a reviewer answers"):
        write_to_reviewers(request=people.request, applicant=people.ada, words="Hello?")
    send_message(request=people.request, reviewer=people.rita, words="Hello.")
    write_to_reviewers(request=people.request, applicant=people.ada, words="At last.")


def test_people_of_a_followed_repository_cannot_be_written_to(people: Any) -> None:
    get_user_model().objects.filter(pk=people.ada.pk).update(imported=True, email="", password="!")
    with pytest.raises(Conflict, match="has no account here"):
        send_message(request=people.request, reviewer=people.rita, words="Hello")
    add_note(request=people.request, reviewer=people.rita, words="Known from a conference.")


def test_what_was_changed_is_found_and_what_was_erased_is_not(people: Any, as_owner: Any) -> None:
    first = add_note(request=people.request, reviewer=people.rita, words="Looks fine.")
    second = add_note(request=people.request, reviewer=people.rita, words="Or not.")
    assert verify_log().problems == []
    table = "access_requests_message"
    changed = (
        f"Message {first.pk} about request #{people.request.pk} is not what its event says: it was changed."
    )
    as_owner.execute("SET session_replication_role = replica")
    for change, back in (
        ("kind = 'sent'", "kind = 'note'"),
        (f"author_id = {people.rolf.pk}", f"author_id = {people.rita.pk}"),
        ("at = at + interval '1 day'", "at = at - interval '1 day'"),
    ):
        as_owner.execute(f"UPDATE {table} SET {change} WHERE id = {first.pk}")
        assert message_problems() == [changed], change
        as_owner.execute(f"UPDATE {table} SET {back} WHERE id = {first.pk}")
    assert message_problems() == []

    text = f"access_requests_eventtext SET text = %s WHERE event_id = {first.event_id} AND name = 'words'"
    as_owner.execute(f"UPDATE {text}", ['"Looks bad."'])
    assert verify_log().first_bad == first.event.number
    as_owner.execute(f"UPDATE {text}", ['"Looks fine."'])
    as_owner.execute(f"DELETE FROM {table} WHERE id = {second.pk}")
    lost = f"A message about request #{people.request.pk} was removed (event {second.event.number})."
    assert message_problems() == [lost]
    as_owner.execute("SET session_replication_role = origin")

    erased = [text.pk for text in first.event.texts.filter(name="words")]
    as_owner.execute("SELECT gatehouse_erase_event_texts(%s, %s)", [erased, people.olga.pk])
    assert [one.words for one in thread_of(people.request, notes=True)] == ["(erased)"]
    assert verify_log().problems == [lost]


def test_the_portal_cannot_change_messages(people: Any) -> None:
    note = add_note(request=people.request, reviewer=people.rita, words="Looks fine.")
    for change in (Message.objects.update, Message.objects.filter(pk=note.pk).update):
        with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
            change(kind=MessageKind.SENT)
    with pytest.raises(ProgrammingError, match="permission denied"), transaction.atomic():
        note.delete()


def test_templates_are_filled_in(people: Any) -> None:
    template = save_template(
        model=people.model,
        name="  Ask  for papers ",
        text="Dear {first_name} ({name}),\nplease list papers for {model}. {date}, {reviewer}",
    )
    assert template.name == "Ask for papers"
    filled = fill_template(template, request=people.request, reviewer=people.rita)
    assert "{" not in filled
    assert people.request.full_name in filled
    assert people.model.repo_id in filled


def test_a_name_that_looks_like_a_placeholder_stays_a_name(people: Any) -> None:
    people.request.first_name, people.request.last_name = "{model}", "O'Hara"
    template = save_template(
        model=people.model, name="Hello", text="Dear {name}, { x } {}.".replace("{}", "")
    )
    assert fill_template(template, request=people.request, reviewer=people.rita) == (
        "Dear {model} O'Hara, { x } ."
    )


@pytest.mark.parametrize(
    ("name", "text", "sentence"),
    [
        ("", "Hello", "Give the template a name"),
        ("x" * 101, "Hello", "at most 100 characters"),
        ("Hello", " ", "Write a text"),
        ("Hello", "x" * 10_001, "at most 10,000"),
        ("Hello", "Dear {applicant}", r"{applicant} is not a placeholder\. Use {name}, {first_name}"),
        ("Hello", "Dear {name.__class__}", "is not a placeholder"),
        ("Hello", "Dear {}", "{} is not a placeholder"),
    ],
)
def test_a_template_that_cannot_be_saved(people: Any, name: str, text: str, sentence: str) -> None:
    with pytest.raises(Invalid, match=sentence):
        save_template(model=people.model, name=name, text=text)
    assert not MessageTemplate.objects.exists()


def test_templates_are_changed_and_removed_with_events(people: Any) -> None:
    template = save_template(model=people.model, name="Hello", text="Hello {name}", actor=people.olga)
    with pytest.raises(Conflict, match="already a template"):
        save_template(model=people.model, name="Hello", text="Other")
    save_template(model=people.model, template=template, name="Hello", text="Hello {name}", actor=people.olga)
    save_template(model=people.model, template=template, name="Hi", text="Hi {name}", actor=people.olga)
    remove_template(template=template, actor=people.olga)
    remove_template(template=template, actor=people.olga)
    with pytest.raises(Conflict, match="was removed"):
        save_template(model=people.model, template=template, name="Hi", text="Hi {name}")
    events = Event.objects.filter(kind="model.template_changed").order_by("pk")
    assert [(one.data["template"], one.data["words"]) for one in events] == [
        ("Hello", "Hello {name}"),
        ("Hi", "Hi {name}"),
        ("Hi", None),
    ]


def test_a_model_has_at_most_so_many_templates(people: Any) -> None:
    MessageTemplate.objects.bulk_create(
        MessageTemplate(model=people.model, name=f"{number}", text="Hello")
        for number in range(MOST_TEMPLATES)
    )
    with pytest.raises(Conflict, match="remove one first"):
        save_template(model=people.model, name="One more", text="Hello")


def test_a_decision_leaves_the_thread(people: Any) -> None:
    send_message(request=people.request, reviewer=people.rita, words="Nearly there.")
    record_decision(request=people.request, reviewer=people.rita, outcome="approved", seen=1)
    write_to_reviewers(request=people.request, applicant=people.ada, words="Thank you!")
    assert len(thread_of(people.request, notes=False)) == 2
