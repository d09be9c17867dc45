"""Messages on the applicant's side: the model's page, the thread's own page, and its form."""

from __future__ import annotations

import html
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client

from access_requests.models import Message
from access_requests.services.catalogue.roles import assign_role
from access_requests.services.requests.messages import add_note, send_message
from access_requests.services.requests.submit import start_request, withdraw_request

pytestmark = pytest.mark.django_db
THREAD = "/ai/tulu/request/messages"


@pytest.fixture
def people(make_person: Callable[..., Any], make_model: Callable[..., Any], submit: Any) -> Any:
    """Return applicant ada with a browser and a submitted request, and reviewer rita."""

    class People:
        ada, rita = make_person("ada", first_name="Ada"), make_person("rita")
        model = make_model("ai/tulu")
        browser = Client()

    assign_role(model=People.model, user=People.rita, role="reviewer")
    People.request = submit(People.ada, People.model)
    People.browser.force_login(People.ada)
    return People


def page(response: Any) -> str:
    return html.unescape(response.content.decode())


def test_the_model_page_shows_messages_but_no_note_and_no_reviewer(people: Any) -> None:
    shown = page(people.browser.get("/ai/tulu"))
    assert "Write to the reviewers" in shown
    assert "Messages about request" not in shown
    add_note(request=people.request, reviewer=people.rita, words="Ask her supervisor.")
    send_message(request=people.request, reviewer=people.rita, words="Which <models>?")
    for address in ("/ai/tulu", THREAD):
        shown = page(people.browser.get(address))
        assert "Which <models>?" in shown
        assert "&lt;models&gt;" in people.browser.get(address).content.decode()
        assert "Ask her supervisor." not in shown
        assert "rita" not in shown


def test_an_applicant_answers(people: Any) -> None:
    response = people.browser.post(THREAD, {"words": "The small ones."}, follow=True)
    assert "Your message is sent." in page(response)
    assert "The small ones." in page(response)
    assert Message.objects.get().kind == "answer"


@pytest.mark.parametrize(
    ("words", "sentence"),
    [(" ", "Write the message first."), ("x" * 10_001, "Write at most 10,000 characters.")],
)
def test_a_message_that_cannot_be_sent_keeps_what_was_typed(people: Any, words: str, sentence: str) -> None:
    response = people.browser.post(THREAD, {"words": words})
    assert response.status_code == 400
    assert sentence in page(response)
    assert f">{words}</textarea>" in page(response)
    assert not Message.objects.exists()


def test_the_thread_stays_readable_after_the_request(people: Any) -> None:
    send_message(request=people.request, reviewer=people.rita, words="Which models?")
    withdraw_request(request=people.request, applicant=people.ada)
    start_request(model=people.model, applicant=people.ada)
    assert "Which models?" in page(people.browser.get("/ai/tulu"))
    people.browser.post(THREAD, {"words": "None any more."})
    assert Message.objects.filter(kind="answer").get().request == people.request


def test_a_closed_request_without_messages_shows_no_form(people: Any) -> None:
    withdraw_request(request=people.request, applicant=people.ada)
    assert "Write to the reviewers" not in page(people.browser.get("/ai/tulu"))
    response = people.browser.post(THREAD, {"words": "Hello?"})
    assert response.status_code == 409
    assert "You can ask again" in page(response)


def test_others_have_no_thread(people: Any, make_person: Callable[..., Any]) -> None:
    stranger = Client()
    assert stranger.get(THREAD).status_code == 302
    stranger.force_login(make_person("sam"))
    response = stranger.get(THREAD, follow=True)
    assert "You have submitted no request here yet." in page(response)
    stranger.post(THREAD, {"words": "Hello"})
    assert not Message.objects.exists()
